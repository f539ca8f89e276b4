"""
The supervisor's hold on one worker process: starts it, asks it with a deadline, knows what it last said, sees its end.

A worker's death shows as the end of its link, since the kernel closes a dead process' descriptors; its exit status is
fetched then. A process that closed its link and stays all the same is killed.
"""

import asyncio
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping

import msgspec

from proxy.core.config import ListenAddress, socket_key
from proxy.net.sockets import ListeningSocket
from proxy.ops.configsource import Source
from proxy.ops.ownmodule import package_command, package_environment
from proxy.ops.workerlink import (
    MAX_DESCRIPTORS,
    Answer,
    Link,
    LinkLost,
    Order,
    Ordered,
    Sockets,
    Start,
    Status,
    decode_said,
    encode,
)

SILENT_S = 5.0  # without a word from a worker, which speaks every second: it is stuck, and is not counted as ready
STARTING_S = 20.0  # as long may it take to say its first
REAP_S = 5.0
_REAP_POLL_S = 0.01
_MODULE = "proxy.ops.workerprocess"

Addresses = Mapping[ListenAddress, ListeningSocket]


class Backoff:
    """How long to wait before a dead worker is started again: doubling, and short again after a minute of health."""

    FIRST_S, MOST_S, HEALTHY_S = 0.1, 10.0, 60.0

    def __init__(self) -> None:
        self._next_s = self.FIRST_S

    def after(self, lived_s: float) -> float:
        """Seconds to wait. lived_s: how long the worker lived that has just died."""
        if lived_s >= self.HEALTHY_S:
            self._next_s = self.FIRST_S
        pause_s = self._next_s
        self._next_s = min(2 * pause_s, self.MOST_S)
        return pause_s


class WorkerHandle:
    """
    One worker process from its start to its end; the next one under the same number has a handle of its own.

    serial: what names it among all that ever were, as a process id does not
    """

    def __init__(self, number: int, serial: int, loop_name: str, on_status: Callable[[], None]) -> None:
        """Start the process. Raises: OSError when the system has none left."""
        self._loop = asyncio.get_running_loop()
        self.number = number
        self.serial = serial
        self.source: Source | None = None  # the configuration that it confirmed, None while that is not known
        self.status: Status | None = None
        self.was_ready = False
        self.gone = asyncio.Event()
        self.started_at = self._heard_at = self._loop.time()
        self._on_status = on_status
        self._asked = 0
        self._questions: dict[int, asyncio.Future[bytes]] = {}
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._process = subprocess.Popen(  # noqa: S603  # our own interpreter and module
                package_command(_MODULE, str(theirs.fileno()), loop_name),
                stdin=subprocess.DEVNULL,
                env=_environment(),
                pass_fds=[theirs.fileno()],
                process_group=0,  # Ctrl-C on the terminal is for the supervisor alone, from the first moment on
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._link = Link(self._loop, ours, self._receive, self._on_lost)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def why_mute(self) -> str | None:
        """Why asking it anything would be waiting in vain; None while it answers."""
        silent_s = self._loop.time() - self._heard_at
        if self.gone.is_set():
            return "it has ended"
        if silent_s > (SILENT_S if self.status is not None else STARTING_S):
            return f"it has not said a word for {silent_s:.0f} s"
        return "it is starting" if self.status is None else None

    @property
    def why_not_ready(self) -> str | None:
        """A sentence, or None while it is ready to serve."""
        if self.status is None or self.status.ready:
            return self.why_mute
        return self.why_mute or self.status.detail

    def start(self, start: Start, sockets: Addresses) -> None:
        """Say what to serve."""
        self.source = start.source
        self.hand(sockets)
        self._link.send(encode(Ordered(0, start)))

    def hand(self, sockets: Addresses) -> None:
        """Hand over copies of sockets; it uses those that it lacks."""
        entries = list(sockets.items())
        for at in range(0, len(entries), MAX_DESCRIPTORS):
            batch = entries[at : at + MAX_DESCRIPTORS]
            order = Sockets([socket_key(address) for address, _ in batch])
            self._link.send(encode(Ordered(0, order)), [listening.sock.fileno() for _, listening in batch])

    async def ask(self, order: Order, within_s: float | None) -> bytes:
        """
        Give an order and wait for the answer.

        Raises: LinkLost when it died, could not do it or is known not to answer; TimeoutError when it does not in time
        """
        if self.why_mute is not None:
            raise LinkLost(f"worker {self.number} does not answer: {self.why_mute}")
        self._asked += 1
        number = self._asked
        answer: asyncio.Future[bytes] = self._loop.create_future()
        self._questions[number] = answer
        self._link.send(encode(Ordered(number, order)))
        try:
            async with asyncio.timeout(within_s):
                return await answer
        except TimeoutError:
            raise TimeoutError(f"worker {self.number} did not answer within {within_s:g} s") from None
        finally:
            self._questions.pop(number, None)

    def tell(self, order: Order) -> None:
        """Give an order that needs no answer; it is carried out when the worker gets to it."""
        self._link.send(encode(Ordered(0, order)))

    def release(self) -> None:
        """End the link: it drains if it has not yet, and goes."""
        self._link.close()
        self._on_lost("released")

    def kill(self) -> None:
        """End the process at once."""
        if self._process.poll() is None:
            self._process.kill()

    async def reap(self) -> int:
        """Wait for the end of a process whose link has ended. Returns: its exit status, negative for a signal."""
        deadline = self._loop.time() + REAP_S
        while (status := self._process.poll()) is None:
            if self._loop.time() > deadline:
                self._process.kill()
            await asyncio.sleep(_REAP_POLL_S)
        return status

    def _receive(self, body: bytes, _descriptors: list[int]) -> None:
        said = decode_said(body)
        self._heard_at = self._loop.time()
        if isinstance(said, Answer):
            question = self._questions.get(said.id)
            if question is None or question.done():
                return  # too late, and reported by whoever asked
            if said.fault:
                question.set_exception(LinkLost(f"worker {self.number}: {said.fault}"))
            else:
                question.set_result(said.body)
        else:
            self.status = said
            self.was_ready |= said.ready
            self._on_status()

    def _on_lost(self, _why: str) -> None:
        self.gone.set()
        for question in self._questions.values():
            if not question.done():
                question.set_exception(LinkLost(f"worker {self.number} has ended"))
        self._on_status()


def read_outcome(body: bytes) -> dict[str, object]:
    """Read an answer that is an object."""
    return msgspec.msgpack.decode(body, type=dict[str, object])


def read_rows(body: bytes) -> list[dict[str, object]]:
    """Read an answer that is a list of objects."""
    return msgspec.msgpack.decode(body, type=list[dict[str, object]])


def read_recent(body: bytes) -> dict[str, list[dict[str, object]]]:
    """Read an answer that is lists of objects by name."""
    return msgspec.msgpack.decode(body, type=dict[str, list[dict[str, object]]])


def describe_end(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"exit status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    hint = " (somebody's, or the kernel's where memory ran out)" if name == "SIGKILL" else ""
    return f"ended by {name}{hint}"


def _environment() -> dict[str, str]:
    """The environment of a worker: sockets that were passed on to the supervisor are not a worker's to take."""
    return {key: value for key, value in package_environment().items() if not key.startswith("LISTEN_")}
