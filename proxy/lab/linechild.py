"""A process of the laboratory that obeys lines on its stdin and answers each with one on its stdout."""

import os
import select
import subprocess
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from proxy.lab.loadfault import LoadFault
from proxy.ops.ownmodule import package_command, package_environment

TICK_S = 0.25  # between two calls of `waiting`
_KILL_S = 5.0
_MOST_BYTES = 4 << 20  # of a line: a histogram in full has a tenth of it


class LineChild:
    """
    One of our modules, running. It ends when its stdin does, and so with its parent.

    what:  what it is called in a sentence; cores: where it may run, None: anywhere
    """

    def __init__(self, what: str, module: str, *arguments: str, cores: Iterable[int] | None = None) -> None:
        self._what = what
        self._read = b""
        self.process = subprocess.Popen(  # noqa: S603  # our own interpreter and module
            package_command(module, *arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=package_environment(),
            process_group=0,  # Ctrl-C is for the command, which ends its children
        )
        if cores is not None:
            os.sched_setaffinity(self.process.pid, cores)  # it has no thread yet; those to come inherit

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def ask(self, line: bytes, within_s: float) -> bytes:
        """Say a line and wait for the answer. Raises: LoadFault"""
        self.tell(line)
        return self.hear(within_s)

    def tell(self, line: bytes) -> None:
        """Say a line. Raises: LoadFault when the process has ended"""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line + b"\n")
            self.process.stdin.flush()
        except OSError:
            raise self._lost() from None

    def hear(self, within_s: float, waiting: Callable[[], None] = lambda: None) -> bytes:
        """Wait for a line; `waiting` is called every TICK_S meanwhile. Raises: LoadFault"""
        stdout, deadline = self.process.stdout, time.monotonic() + within_s
        assert stdout is not None
        while b"\n" not in self._read:
            left_s = deadline - time.monotonic()
            if not select.select([stdout], [], [], max(0.0, min(left_s, TICK_S)))[0]:
                if left_s <= TICK_S:
                    raise LoadFault(f"{self._what} does not answer: this machine is too busy, or it hangs")
                waiting()
                continue
            more = os.read(stdout.fileno(), 65536)
            if not more or len(self._read) > _MOST_BYTES:
                raise self._lost()
            self._read += more
        line, _, self._read = self._read.partition(b"\n")
        return line

    def close(self) -> None:
        """End it: the end of its stdin is enough, unless it hangs."""
        for stream in (self.process.stdin, self.process.stdout):
            try:
                stream and stream.close()
            except OSError:
                pass
        try:
            self.process.wait(_KILL_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _lost(self) -> LoadFault:
        try:
            status = f" (status {self.process.wait(_KILL_S)})"
        except subprocess.TimeoutExpired:
            status = ""
        return LoadFault(f"{self._what} ended unexpectedly{status}")
