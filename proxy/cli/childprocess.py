"""
The children of `demo` and `dev`: what such a one logs as data, how it certainly ends.

Every child runs this package with this interpreter, in a process group of its own: Ctrl-C on the terminal then reaches
the parent alone, which ends its children in the order that it wants. Every wait here has a deadline.
"""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from proxy.ops.ownmodule import package_environment

Line = Mapping[str, Any]
Address = tuple[str, int]

PATIENCE_S = 10.0  # for one fact of a child on a busy machine; all that is waited for usually comes within 1 s
KILL_PATIENCE_S = 5.0
_POLL_S = 0.02
_MAX_UNREADABLE = 50  # lines of a traceback that are kept


class NotShown(Exception):  # noqa: N818  # not a fault of the program: a fact did not come to pass
    """What was waited for did not happen; str() is the sentence that says what."""


def is_ready(admin: Address) -> bool:
    """Whether the sidecar with this admin endpoint says that it serves."""
    with contextlib.closing(http.client.HTTPConnection(*admin, timeout=2.0)) as connection:
        try:
            connection.request("GET", "/ready")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False


@contextlib.contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """
    SIGTERM and SIGHUP end this process as Ctrl-C does: through every `finally`, so that no child is left behind.

    SIGHUP is what a terminal sends that was closed; whoever ignores it, as under nohup, goes on.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if number == signal.SIGTERM or handler is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class LoggedProcess:
    """A child whose lines of JSON on one stream are kept as data, and written to a file as they came."""

    def __init__(self, name: str, argv: Sequence[str], log_file: Path) -> None:
        """Start it. Raises: OSError when the program or the file cannot be had."""
        self.name = name
        self.unreadable: list[str] = []  # what was no JSON: a traceback, a warning of the interpreter
        self._lines: list[Line] = []
        self._changed = threading.Condition()
        self._log = log_file.open("ab", buffering=0)
        try:
            self.process = subprocess.Popen(  # noqa: S603  # our own interpreter and module
                argv,
                stdin=subprocess.PIPE,  # its end tells a child that minds (the sample app) that nobody is left to serve
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=package_environment(),
                process_group=0,
            )
        except BaseException:
            self._log.close()
            raise
        self._reader = threading.Thread(target=self._read, name=f"log of {name}", daemon=True)
        self._reader.start()

    @property
    def mark(self) -> int:
        """The number of lines so far: what `line` finds from here on is new."""
        return len(self._lines)

    def line(
        self, is_wanted: Callable[[Line], bool], what: str, *, since: int = 0, within_s: float = PATIENCE_S
    ) -> Line:
        """Wait for a line. Raises: NotShown when it did not come, or the child has ended without it."""
        deadline = time.monotonic() + within_s
        seen = since
        with self._changed:
            while True:
                for line in self._lines[seen:]:
                    if is_wanted(line):
                        return line
                seen = max(seen, len(self._lines))
                left = deadline - time.monotonic()
                if left <= 0 or not self._reader.is_alive():
                    raise NotShown(f"{self.name} did not log {what}{self._why(within_s)}")
                self._changed.wait(min(left, 0.2))

    def lines(self, event: str) -> list[Line]:
        """All lines of an event so far."""
        return [line for line in list(self._lines) if line.get("event") == event]

    def until(self, is_so: Callable[[], bool], what: str, *, within_s: float = PATIENCE_S) -> None:
        """Ask until it is so. Raises: NotShown when it was not, or the child has ended."""
        deadline = time.monotonic() + within_s
        while not is_so():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise NotShown(f"{self.name} is not {what}{self._why(within_s)}")
            time.sleep(_POLL_S)

    def terminate(self, within_s: float = PATIENCE_S) -> int | None:
        """Ask it to end (SIGTERM) and wait. Returns: its exit status; None: it did not end in time and was killed."""
        self.process.terminate()
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            self.kill()

    def kill(self) -> None:
        """End it now, with all that it started, if it still lives; its log is whole afterwards."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):  # stuck in the kernel: nothing more can be done
                self.process.wait(KILL_PATIENCE_S)
        self._reader.join(KILL_PATIENCE_S)
        for stream in (self.process.stdin, self.process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        self._log.close()

    def _why(self, within_s: float) -> str:
        if not self._reader.is_alive():  # its log has ended, so it is about to have a status
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(KILL_PATIENCE_S)
        status = self.process.poll()
        if status is None:
            return f" within {within_s:g} s"
        said = "; it said: " + " ".join(self.unreadable[-1:] or [str(line) for line in self._lines[-1:]] or ["nothing"])
        return f": it ended with status {status}{said}"

    def _read(self) -> None:
        assert self.process.stderr is not None
        for raw in self.process.stderr:
            with contextlib.suppress(OSError, ValueError):  # a full disk costs the file, not the lines
                self._log.write(raw)
            with self._changed:
                try:
                    line = json.loads(raw)
                    self._lines.append(line if isinstance(line, dict) else {"event": line})
                except ValueError:
                    if len(self.unreadable) < _MAX_UNREADABLE:
                        self.unreadable.append(raw.decode(errors="replace").rstrip())
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()
