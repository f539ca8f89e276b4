"""
What ends the servers of a run and removes its folder when the run itself no longer can, because it was killed (SIGKILL,
the kernel's want of memory): keys are in that folder, and a server would stay for ever.

    python -P -m proxy.lab.keeper [FOLDER]     started by Keeper, for a Testbed, `demo`, `dev` and bench/

A process of its own, in a group of its own, which hears on its stdin which processes there are. The end of stdin says
that the run has ended, by whatever means; what is still there then is asked to end, and killed where it does not. Each
is held by a descriptor (pidfd), not by its number alone, which may by then be another's. PR_SET_PDEATHSIG would spare
the process, but a child has to ask for it, and the proxies of other people do not; nor does it remove a folder.
"""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from proxy.ops.ownmodule import package_command, package_environment

MODULE = "proxy.lab.keeper"
_DONE = b"done"
_PATIENCE_S = 5.0
_CLOSE_S = 5.0


class Keeper:
    """
    Watches over a folder and what is noted: ends and removes them when this process ends and has not closed it.

    folder: None where it is to stay, as a state or what was to be kept
    """

    def __init__(self, folder: Path | None) -> None:
        """Start it. Raises: OSError"""
        self._process = subprocess.Popen(  # noqa: S603  # our own interpreter and module
            package_command(MODULE, *([] if folder is None else [str(folder.resolve())])),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=package_environment(),
            process_group=0,  # whoever kills the group of the command does not kill this one
        )

    def note(self, pid: int) -> None:
        """A process was started that leads a group of its own."""
        self._tell(b"+%d" % pid)

    def forget(self, pid: int) -> None:
        """It has been ended, and waited for."""
        self._tell(b"-%d" % pid)

    def close(self) -> None:
        """All has been ended as it should: nothing is left to do for it."""
        self._tell(_DONE)
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_CLOSE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _tell(self, line: bytes) -> None:
        """Without it a run is as good as before: that it was killed is no reason to end."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(line + b"\n")
            self._process.stdin.flush()


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Put Ctrl-C, SIGTERM and SIGHUP off: a process that was started and is not noted yet would outlive us."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came = list[int]()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # under nohup; what is started inherits that
            signal.signal(number, lambda got, _: came.append(got))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def keep(lines: Iterable[bytes], remove: Callable[[], None]) -> None:
    """Hear `lines` until they end; then end what was noted, and remove the folder, unless all was said to be done."""
    held: dict[int, int] = {}
    for line in lines:
        if line.strip() == _DONE:
            return
        sign, pid = line[:1], int(line[1:])
        if sign == b"-":
            if pid in held:
                os.close(held.pop(pid))
        else:
            with contextlib.suppress(OSError):  # it has ended already, or the kernel is older than 5.3
                held[pid] = os.pidfd_open(pid)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in _living(held):
            with contextlib.suppress(OSError):
                os.killpg(pid, number)  # those that it started too
        deadline = time.monotonic() + _PATIENCE_S
        while (living := _living(held)) and time.monotonic() < deadline:
            select.select([held[pid] for pid in living], [], [], deadline - time.monotonic())
    remove()


def _living(held: dict[int, int]) -> list[int]:
    """Those whose descriptor does not say that they have ended."""
    ended = set(select.select(list(held.values()), [], [], 0)[0]) if held else set()
    return [pid for pid, descriptor in held.items() if descriptor not in ended]


def _remove(folders: Sequence[str]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    keep(sys.stdin.buffer, lambda: _remove(sys.argv[1:]))
