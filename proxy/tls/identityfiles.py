"""
Writing identities to disk so that a reader never sees half of one.

Two ways to publish a set of files, both known to every reader of Kubernetes volumes:

- RENAME: each file is written aside and renamed into place. Every file is whole, but between two renames the set is
  mixed (the new certificate beside the old key); a reader has to check that they belong together. Plain files, easy
  to copy: right for a person's folder.
- SWAP: the set goes into a new hidden folder, then one rename of the symlink `..data` switches all of it. The names
  that people use are symlinks through `..data`. Right for a folder that a running sidecar watches.

A key has its mode from the moment it exists: a chmod afterwards would leave it readable for a moment, and whoever
opened it then keeps reading. Everything is flushed before it gets its name, so that a power cut leaves the old set or
the new.
"""

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from proxy.tls.authority import Authority, Svid

CERT_FILE = "tls.crt"
KEY_FILE = "tls.key"
BUNDLE_FILE = "ca.crt"
CA_KEY_FILE = "ca.key"

PUBLIC_MODE = 0o644
SECRET_MODE = 0o600

_DATA = "..data"
_DATA_ASIDE = "..data_tmp"
_SET_FOLDER = re.compile(r"\.\.set-[0-9a-f]{16}")


class Publication(Enum):
    """How a set of files gets its names; AUTO keeps what the folder has, and is RENAME in a new one."""

    AUTO = "auto"
    RENAME = "rename"
    SWAP = "swap"


class Content(NamedTuple):
    """What a file is to hold. mode: as in open(2); the umask can only narrow it."""

    data: bytes
    mode: int = PUBLIC_MODE


def write_svid(
    folder: Path,
    svid: Svid,
    *,
    bundles: Mapping[str, bytes],
    publication: Publication = Publication.AUTO,
) -> None:
    """
    Publish an SVID, its key and trust bundles in one folder, which is created when it is missing.

    bundles: file name -> PEM, usually {BUNDLE_FILE: authority.bundle_pem} and one file for each federated domain
    Raises:  OSError, with everything as it was
    """
    # The certificate comes last: in a RENAME publication a reader that watches it then finds the key already there.
    files = {name: Content(pem) for name, pem in bundles.items()}
    files[KEY_FILE] = Content(svid.key_pem, SECRET_MODE)
    files[CERT_FILE] = Content(svid.cert_pem)
    publish(folder, files, publication=publication)


def write_authority(folder: Path, authority: Authority) -> None:
    """Write a CA for `read_authority`: ca.crt (its chain up to the root) and ca.key."""
    files = {CA_KEY_FILE: Content(authority.key_pem, SECRET_MODE), BUNDLE_FILE: Content(authority.cert_pem)}
    publish(folder, files, publication=Publication.RENAME)


def read_authority(folder: Path) -> Authority:
    """Take up the CA that `write_authority` wrote. Raises: OSError, or Rejected as Authority.load does."""
    return Authority.load((folder / BUNDLE_FILE).read_bytes(), (folder / CA_KEY_FILE).read_bytes())


def publish(folder: Path, files: Mapping[str, Content], *, publication: Publication = Publication.AUTO) -> None:
    """Publish a set of files under their names in folder. A SWAP replaces the whole set, a RENAME only these names."""
    folder.mkdir(parents=True, exist_ok=True)
    if publication is Publication.AUTO:
        publication = Publication.SWAP if (folder / _DATA).is_symlink() else Publication.RENAME
    if publication is Publication.SWAP:
        _swap(folder, files)
        return
    for name, content in files.items():
        write_atomically(folder / name, content.data, content.mode)


def write_atomically(path: Path, data: bytes, mode: int = PUBLIC_MODE) -> None:
    """Replace a file (or a symlink at its place) by one rename; a reader sees the old bytes or the new, never less."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        _write_new(aside, data, mode)
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)


def _swap(folder: Path, files: Mapping[str, Content]) -> None:
    before = _target(folder / _DATA)
    current = folder / f"..set-{secrets.token_hex(8)}"
    try:
        current.mkdir()
        for name, content in files.items():
            _write_new(current / name, content.data, content.mode)
        _flush_folder(current)
        _point(folder / _DATA, current.name, aside=folder / _DATA_ASIDE)
    except BaseException:
        shutil.rmtree(current, ignore_errors=True)
        raise
    for name in files:
        through = f"{_DATA}/{name}"
        if _target(folder / name) != through:
            _point(folder / name, through, aside=folder / f".{name}.{secrets.token_hex(8)}")
    for entry in folder.iterdir():
        if _target(entry) == f"{_DATA}/{entry.name}" and entry.name not in files:
            entry.unlink()  # a name that left the set, such as the bundle of a domain that is no longer trusted
    _flush_folder(folder)
    # The set before stays until the next swap: a reader that had resolved `..data` just before the rename is still on
    # its way into that folder, and would find nothing.
    for entry in folder.iterdir():
        if _SET_FOLDER.fullmatch(entry.name) and entry.name not in (current.name, before):
            shutil.rmtree(entry, ignore_errors=True)


def _write_new(path: Path, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def _point(link: Path, target: str, *, aside: Path) -> None:
    aside.unlink(missing_ok=True)  # left over by a writer that was killed between the next two lines
    aside.symlink_to(target)
    aside.replace(link)


def _target(link: Path) -> str | None:
    try:
        return os.readlink(link)
    except OSError:
        return None  # missing, or a plain file that a RENAME publication left


def _flush_folder(folder: Path) -> None:
    # Not every file system can flush a folder (EINVAL on some network mounts); the rename itself has happened.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
