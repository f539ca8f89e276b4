"""
What the measured server has used of the CPU: of its process tree alone, or of its cgroup. Linux, straight from /proc.

The CPU clock of each process is read (clock_getcpuclockid(3): nanoseconds, with the threads that have ended, which the
files of /proc/PID/task forget), because the ticks of /proc/PID/stat are 10 ms wide. Wall time is no measure here: the
load sets the pace. A reading is taken when the server is quiet, so that the last close of a round belongs to it.

What cannot be read is said in a sentence, before anything is measured: a figure is never guessed.
"""

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import psutil  # type: ignore[import-untyped]

from proxy.lab.generator import LoadFault

_QUIET_S = 0.0002  # less than this in one look means that the work is over
_LOOK_S = 0.02
_CPUCLOCK_SCHED = 2  # of posix-timers.h: the clock of a process is its number, inverted, with the kind in three bits
_PATIENCE_S = 0.5  # a server that others use too is never quiet
CGROUPS = Path("/sys/fs/cgroup")


class ServerCpu(Protocol):
    """Where the CPU time of a server is read."""

    def used_s(self) -> float:
        """Seconds of CPU that it has used since it began. Raises: LoadFault"""
        ...


class ProcessCpu:
    """Processes with all their descendants, as they are at each reading."""

    def __init__(self, pids: Iterable[int]) -> None:
        """Raises: LoadFault when one cannot be read"""
        self._pids = tuple(pids)
        self.used_s()

    def used_s(self) -> float:
        """As ServerCpu's."""
        return sum(_process_s(member) for pid in self._pids for member in tree(pid))

    def waited_s(self) -> float | None:
        """Seconds that its threads were ready to run and had no core; None where the kernel does not say."""
        try:
            tasks = [
                task for pid in self._pids for member in tree(pid) for task in Path(f"/proc/{member}/task").iterdir()
            ]
            return sum(int((task / "schedstat").read_text().split()[1]) for task in tasks) / 1e9
        except (OSError, ValueError, IndexError):
            return None


class CgroupCpu:
    """A control group: cpu.stat of version 2, cpuacct.usage of version 1."""

    def __init__(self, path: str) -> None:
        """path: of its folder, absolute or below /sys/fs/cgroup. Raises: LoadFault when it cannot be read"""
        folder = CGROUPS / path.lstrip("/") if not path.startswith(f"{CGROUPS}/") and not Path(path).is_dir() else path
        self._folder = Path(folder)
        self.used_s()

    def used_s(self) -> float:
        """As ServerCpu's."""
        try:
            for line in (self._folder / "cpu.stat").read_text().splitlines():
                if line.startswith("usage_usec "):
                    return int(line.split()[1]) / 1e6
            return int((self._folder / "cpuacct.usage").read_text()) / 1e9
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "it does not count CPU time"
            raise LoadFault(
                f"the CPU time of the cgroup {self._folder} cannot be read ({why}). Name the folder that holds the "
                "server's cpu.stat: `cat /proc/PID/cgroup` has the part below /sys/fs/cgroup"
            ) from None


class Waiting:
    """How long servers had to wait for a core, from now on: what tells a busy machine from a slow server."""

    def __init__(self, servers: Iterable[ServerCpu | None]) -> None:
        """servers: one may be there many times; those whose waiting cannot be read leave the share unknown"""
        self._servers = list({id(each): each for each in servers if isinstance(each, ProcessCpu)}.values())
        self._before = self._read()

    def share(self) -> float | None:
        """Of the time in which they had something to do, the part for which others had their core; None: not known."""
        after = self._read()
        if self._before is None or after is None:
            return None
        used, waited = (late - early for early, late in zip(self._before, after, strict=True))
        return waited / (used + waited) if used + waited > 0 else None

    def _read(self) -> tuple[float, float] | None:
        waited = [server.waited_s() for server in self._servers]
        known = [seconds for seconds in waited if seconds is not None]
        if not known or len(known) < len(waited):
            return None
        return sum(server.used_s() for server in self._servers), sum(known)


def settled_s(server: ServerCpu) -> float:
    """Seconds of CPU used, read once the server is quiet. Raises: LoadFault"""
    deadline = time.monotonic() + _PATIENCE_S
    last = server.used_s()
    while time.monotonic() < deadline:
        time.sleep(_LOOK_S)
        now = server.used_s()
        if now - last < _QUIET_S:
            return now
        last = now
    return last


def tree(pid: int) -> list[int]:
    """A process and all its descendants. Raises: LoadFault when there is no such process to be seen"""
    try:
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.NoSuchProcess:
        raise LoadFault(
            f"there is no process {pid} to be seen here. If it runs in a container, name its pid as this side sees it, "
            "or its --cgroup; if /proc hides the processes of others (hidepid), run as its user or as root"
        ) from None
    except psutil.AccessDenied:
        raise _denied(pid) from None


def _process_s(pid: int) -> float:
    try:
        return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)
    except OSError:
        pass  # it has ended, or this kernel (a sandbox's) has no such clock
    folder = Path(f"/proc/{pid}")
    try:
        try:
            tasks = list((folder / "task").iterdir())
            return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
        except FileNotFoundError:
            # Without CONFIG_SCHEDSTATS, or when a thread ended meanwhile, the ticks of the whole process are left.
            user, system = (folder / "stat").read_text().rpartition(")")[2].split()[11:13]
            return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    except PermissionError:
        raise _denied(pid) from None
    except (FileNotFoundError, ProcessLookupError):
        return 0.0  # it ended between the listing and now


def _denied(pid: int) -> LoadFault:
    return LoadFault(
        f"no permission to read the CPU time of process {pid}: run as its user or as root, or leave --pid away (the "
        "server's CPU is then unknown)"
    )
