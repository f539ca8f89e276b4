"""
From a host name to its addresses, without a name that nobody answers for being in the way of the others.

The system's getaddrinfo is the only resolver that honours all that a host is configured with (files, search domains,
mDNS), and it blocks: for tens of seconds where a name server is silent, whatever our own deadline says. The loops hand
it to a pool of threads (libuv's does two at a time), so a few clients of one dead name would keep every other name
waiting, `localhost` among them, and a process that is to end would wait for its threads.

So a name is asked for once at a time, and who asks meanwhile shares the answer: one name holds one thread, and the
names are those of the configuration. The threads are daemons, which an exit does not wait for. Nothing is remembered
beyond the answer: Kubernetes changes addresses under a name, and the next dial asks again.
"""

import asyncio
import errno
import queue
import socket
import threading
from collections.abc import Callable
from typing import Any

MOST_THREADS = 64  # different names in flight; beyond it one waits for another

AddressInfo = tuple[Any, ...]  # as socket.getaddrinfo has it
_Outcome = list[AddressInfo] | Exception
_LookUp = Callable[[str, int], list[AddressInfo]]


def _ask_the_system(host: str, port: int) -> list[AddressInfo]:
    return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))


class Resolver:
    """
    The look-ups of one worker.

    look_up: blocks until it has the addresses, or raises
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, look_up: _LookUp = _ask_the_system) -> None:
        self._loop = loop
        self._look_up = look_up
        self._asked: dict[tuple[str, int], asyncio.Future[_Outcome]] = {}
        self._wanted: queue.SimpleQueue[tuple[str, int] | None] = queue.SimpleQueue()
        self._threads = 0

    async def addresses(self, host: str, port: int) -> list[AddressInfo]:
        """
        Look a name up; who waits brings the deadline, and leaving disturbs nobody else who waits.

        Raises: OSError (socket.gaierror), or whatever else the look-up does
        """
        answer = self._asked.get((host, port))
        if answer is None:
            self._ask((host, port))
            answer = self._asked[host, port] = self._loop.create_future()
        outcome = await asyncio.shield(answer)
        if isinstance(outcome, Exception):
            raise outcome.with_traceback(None)  # several raise the same one, each with a trace of its own
        return outcome

    def close(self) -> None:
        """Let the threads end that have nothing to do; the others do when they are done, and nobody waits for them."""
        for _ in range(self._threads):
            self._wanted.put(None)
        self._threads = 0

    def _ask(self, wanted: tuple[str, int]) -> None:
        if len(self._asked) >= self._threads < MOST_THREADS:
            try:
                threading.Thread(target=self._work, name="resolver", daemon=True).start()
                self._threads += 1
            except RuntimeError:
                if not self._threads:
                    raise OSError(errno.EAGAIN, "no thread can be had to look it up in (ulimit -u)") from None
        self._wanted.put(wanted)

    def _work(self) -> None:
        """What each thread does."""
        while (wanted := self._wanted.get()) is not None:
            outcome: _Outcome
            try:
                outcome = self._look_up(*wanted)
            except Exception as error:
                outcome = error
            try:
                self._loop.call_soon_threadsafe(self._answer, wanted, outcome)
            except RuntimeError:
                return  # the loop is closed: the process is about to end

    def _answer(self, wanted: tuple[str, int], outcome: _Outcome) -> None:
        self._asked.pop(wanted).set_result(outcome)
