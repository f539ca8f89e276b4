"""
How much memory a server's process tree has, in PSS: a page that several processes map counts in parts, so the sum over
a tree is what it takes from the machine. Straight from /proc, with the server quiet.
"""

from collections.abc import Iterable
from pathlib import Path

from proxy.lab.generator import LoadFault
from proxy.lab.servercpu import tree


def pss_bytes(pids: Iterable[int]) -> int:
    """PSS of the processes and all their descendants. Raises: LoadFault"""
    return sum(_pss_bytes(member) for pid in pids for member in tree(pid))


def _pss_bytes(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except PermissionError:
        raise LoadFault(
            f"no permission to read the memory of process {pid}: run as its user or as root; it is unknown otherwise"
        ) from None
    except (FileNotFoundError, ProcessLookupError):
        return 0  # it ended meanwhile
    raise LoadFault("this kernel does not say how much memory a process has (smaps_rollup)")
