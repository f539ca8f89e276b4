"""
What a tree of processes has used: CPU in nanoseconds, memory in bytes. Linux only, straight from /proc.

CPU is the scheduler's own account (schedstat, nanoseconds, every thread), because the clock ticks of /proc/PID/stat are
10 ms wide. Wall time is no measure here: the load on the other core sets the pace.
"""

import os
import time
from pathlib import Path

import psutil  # type: ignore[import-untyped]

SETTLED_NS = 200_000  # less than this in one look means that the work is over
LOOK_S = 0.02
SETTLE_S = 3.0


def tree(pid: int) -> list[int]:
    """The process and all its descendants."""
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def _process_ns(pid: int) -> int:
    tasks = Path(f"/proc/{pid}/task")
    try:
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir())
    except FileNotFoundError:
        # Without CONFIG_SCHEDSTATS only the ticks are left; long rounds still make them precise enough.
        user, system = (tasks.parent / "stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def cpu_ns(pids: list[int]) -> int:
    """CPU that these processes and their descendants have used since they began."""
    return sum(_process_ns(member) for pid in pids for member in tree(pid))


def settled_cpu_ns(pids: list[int]) -> int:
    """As cpu_ns, once the tree is quiet: the last close of a round belongs to that round."""
    deadline = time.monotonic() + SETTLE_S
    last = cpu_ns(pids)
    while time.monotonic() < deadline:
        time.sleep(LOOK_S)
        now = cpu_ns(pids)
        if now - last < SETTLED_NS:
            return now
        last = now
    return last


def memory_bytes(pid: int) -> tuple[int, int]:
    """(PSS, RSS) of the tree. PSS shares a page among the processes that map it; RSS counts it whole for each."""
    pss = rss = 0
    for member in tree(pid):
        for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                pss += int(line.split()[1]) * 1024
            elif line.startswith("Rss:"):
                rss += int(line.split()[1]) * 1024
    return pss, rss
