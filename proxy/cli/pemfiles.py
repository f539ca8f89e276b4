"""Reading the files that somebody named: bounded, and with a sentence for each that cannot be read."""

import os
import stat
from collections.abc import Iterable
from typing import NamedTuple

from proxy.ops.boundedread import read_bounded
from proxy.tls.pemview import MAX_FILE_BYTES


class Unreadable(NamedTuple):
    """A file that could not be read. why: the system's word for it."""

    file: str
    why: str


def read_files(paths: Iterable[str]) -> tuple[dict[str, bytes], list[Unreadable]]:
    """Read each file once, at most one byte more than a PEM file may have; duplicates are read once."""
    found: dict[str, bytes] = {}
    failed: list[Unreadable] = []
    for path in dict.fromkeys(paths):
        try:
            found[path] = read_bounded(path, MAX_FILE_BYTES)
        except OSError as error:
            failed.append(Unreadable(path, error.strerror or type(error).__name__))
        except ValueError:  # a NUL in the name
            failed.append(Unreadable(path, "that is not the path of a file"))
    return found, failed


def open_to_others(path: str) -> str | None:
    """The file's mode in octal if its group or others may read it, else None; asked only of files that hold a key."""
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except OSError:
        return None  # gone since it was read: a rotation
    return f"{mode:04o}" if mode & 0o044 else None
