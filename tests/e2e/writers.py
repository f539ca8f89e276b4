"""
The writers of identity files that exist in the field (SPIRE's helper, cert-manager's CSI driver, Kubernetes, people),
each as a function of a folder and a set of files.

Names are those of the folder: tls.crt, tls.key, ca.crt.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from proxy.tls.identityfiles import Content, Publication, publish

Files = Mapping[str, bytes]
Writer = Callable[[Path, Files], None]

HALFWAY_S = 0.25  # longer than a burst of changes is waited for: the reader looks while the set is mixed


def swap_data(folder: Path, files: Files) -> None:
    """A Kubernetes Secret volume: a new folder, and one rename of the symlink `..data`."""
    publish(folder, {name: Content(data) for name, data in files.items()}, publication=Publication.SWAP)


def rename_each(folder: Path, files: Files) -> None:
    """Every file whole, by one rename each."""
    publish(folder, {name: Content(data) for name, data in files.items()}, publication=Publication.RENAME)


def truncate_each(folder: Path, files: Files) -> None:
    """spiffe-helper: every file is truncated and written in place, one after the other."""
    for name, data in files.items():
        (folder / name).write_bytes(data)


def dawdle(folder: Path, files: Files) -> None:
    """The same by a slow writer, which rests in the middle of the set and in the middle of a file."""
    for name, data in files.items():
        with (folder / name).open("wb") as file:
            file.write(data[: len(data) // 2])
            file.flush()
            time.sleep(HALFWAY_S)
            file.write(data[len(data) // 2 :])


def replace_missing(folder: Path, files: Files) -> None:
    """Everything is deleted first, and written a moment later."""
    for name in files:
        (folder / name).unlink()
    time.sleep(HALFWAY_S)
    for name, data in files.items():
        (folder / name).write_bytes(data)


def rename_folder(folder: Path, files: Files) -> None:
    """The whole folder is moved away and another one into its place."""
    aside, old = folder.with_name(f"{folder.name}.new"), folder.with_name(f"{folder.name}.old")
    aside.mkdir()
    for name, data in files.items():
        (aside / name).write_bytes(data)
    folder.rename(old)
    aside.rename(folder)
    for path in old.iterdir():
        path.unlink()
    old.rmdir()


WRITERS: dict[str, Writer] = {
    writer.__name__: writer
    for writer in (swap_data, rename_each, truncate_each, dawdle, replace_missing, rename_folder)
}
