"""
How much memory a server's process tree has, in PSS: a page that several processes map counts in parts, so the sum over
a tree is what it takes from the machine. Straight from /proc, with the server quiet.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from proxy.lab.generator import LoadFault
from proxy.lab.servercpu import tree


class Memory(NamedTuple):
    """rss counts a page whole for each process that maps it, pss in parts."""

    pss_bytes: int
    rss_bytes: int


def memory_of(pids: Iterable[int]) -> Memory:
    """Of the processes and all their descendants. Raises: LoadFault"""
    found = [_memory_of(member) for pid in pids for member in tree(pid)]
    return Memory(sum(each.pss_bytes for each in found), sum(each.rss_bytes for each in found))


def _memory_of(pid: int) -> Memory:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except PermissionError:
        raise LoadFault(
            f"no permission to read the memory of process {pid}: run as its user or as root; it is unknown otherwise"
        ) from None
    except (FileNotFoundError, ProcessLookupError):
        return Memory(0, 0)  # it ended meanwhile
    fields = dict(line.split(":", 1) for line in lines[1:])
    try:
        return Memory(*(int(fields[name].split()[0]) * 1024 for name in ("Pss", "Rss")))
    except KeyError:
        raise LoadFault("this kernel does not say how much memory a process has (smaps_rollup)") from None
