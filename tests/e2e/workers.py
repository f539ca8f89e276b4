"""The worker processes of a sidecar, by number: killed, or stopped so that a test chooses who serves."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.sidecar import Sidecar
from tests.e2e.waiting import until


def pids(sidecar: Sidecar) -> dict[int, int]:
    """Worker's number -> process id."""
    return {row["worker"]: row["pid"] for row in sidecar.show("/certs")["workers"]}


def state_of(pid: int) -> str:
    """The kernel's letter for it; Z also when it is not even a zombie any more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "Z"


def is_gone(pid: int) -> bool:
    return state_of(pid) in "ZX"


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    until(lambda: is_gone(pid), "the worker is dead")


@contextlib.contextmanager
def stopped(*processes: int) -> Iterator[None]:
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    try:
        # A signal is not there yet when kill() returns, and until then the worker still accepts.
        until(lambda: all(state_of(pid) == "T" for pid in processes), "the workers are stopped")
        yield
    finally:
        for pid in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def only(sidecar: Sidecar, number: int) -> Iterator[None]:
    """Meanwhile, every new connection is this worker's."""
    with stopped(*(pid for other, pid in pids(sidecar).items() if other != number)):
        yield
