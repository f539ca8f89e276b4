"""
Waiting for descriptors: one epoll of the worker's own, inside the event loop's.

The loop watches a single descriptor, that of our epoll, and `_turn` calls back for each descriptor of ours that is
ready. What the loops' own add_reader does for a connection (a handle, a context, a try-out of the descriptor, half a
dozen system calls, whatever the loop) was 5 % of a handshake's cost; an interest here is an entry in a table and one
system call. Level-triggered, like the loops': what is not taken is told again at the next turn.

Two rules keep that safe. Whoever closes a descriptor calls `forget` first. And a number that was watched anew in
mid-turn may be another socket than the one whose event is still in hand, so that event is passed over.

A connection waits with `readable` and `writable` before its bytes flow. The relay installs callbacks of its own,
because a future per wake-up would cost more than the wake-up. A wait that ends well leaves its interest in place: the
next wait, or the relay, takes it over without a system call. Until then it may be woken by bytes that nobody waits for;
it removes itself when that happens, so nothing spins.
"""

import asyncio
import select
from collections.abc import Callable
from functools import partial

EVENTS_A_TURN = 64  # what else the loop has to do gets its turn after so many

Callback = Callable[[], object]

# EPOLLIN and EPOLLOUT. Errors and hang-ups are told unasked, and go to whoever waits, for either.
_READ, _WRITE = 1, 4


class Readiness:
    """The descriptors that one worker waits for. Its callbacks must not raise."""

    __slots__ = ("_epoll", "_fresh", "_readers", "_watched", "_writers", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._readers: dict[int, Callback] = {}
        self._writers: dict[int, Callback] = {}
        self._watched: dict[int, int] = {}  # the events that a descriptor is watched for; never none
        self._fresh: set[int] = set()  # what was entered since the turn began
        self._open()

    def watch_readable(self, fd: int, callback: Callback) -> None:
        """Call back whenever `fd` has bytes, an end or an error; replaces the callback that it has."""
        if fd not in self._readers:
            events = self._watched.get(fd, 0)
            self._watch(fd, events, events | _READ)  # first: the kernel may have no room for one more
        self._readers[fd] = callback

    def watch_writable(self, fd: int, callback: Callback) -> None:
        """Call back whenever `fd` takes bytes; otherwise as watch_readable."""
        if fd not in self._writers:
            events = self._watched.get(fd, 0)
            self._watch(fd, events, events | _WRITE)
        self._writers[fd] = callback

    def rest_readable(self, fd: int) -> bool:
        """Leave bytes on `fd` where they are. Returns: whether it was watched for them."""
        if self._readers.pop(fd, None) is None:
            return False
        events = self._watched[fd]
        self._watch(fd, events, events & ~_READ)
        return True

    def rest_writable(self, fd: int) -> bool:
        """Wait no more for `fd` to take bytes. Returns: whether it was watched for that."""
        if self._writers.pop(fd, None) is None:
            return False
        events = self._watched[fd]
        self._watch(fd, events, events & ~_WRITE)
        return True

    def forget(self, fd: int) -> None:
        """Watch `fd` no more; before it is closed."""
        self._readers.pop(fd, None)
        self._writers.pop(fd, None)
        events = self._watched.get(fd)
        if events is not None:
            self._watch(fd, events, 0)

    async def readable(self, fd: int, deadline: float | None) -> None:
        """
        Wait until `fd` has bytes, an end or an error.

        deadline: of loop.time(); None waits without end
        Raises:   TimeoutError
        """
        if deadline is not None and self.loop.time() >= deadline:
            # Bytes that were peeked at and left keep `fd` readable, and the loop would always see that first.
            self.rest_readable(fd)
            raise TimeoutError
        future: asyncio.Future[bool] = self.loop.create_future()
        self.watch_readable(fd, partial(self._wake, future, fd))
        timer = self.loop.call_at(deadline, _settle, future) if deadline is not None else None
        ready = False
        try:
            ready = await future
        finally:
            if timer is not None:
                timer.cancel()
            if not ready:
                self.rest_readable(fd)
        if not ready:
            raise TimeoutError

    async def writable(self, fd: int, deadline: float | None) -> None:
        """Wait until `fd` takes bytes, or a connect on it has ended. deadline and Raises as `readable`."""
        future: asyncio.Future[bool] = self.loop.create_future()
        self.watch_writable(fd, partial(_settle, future, True))
        timer = self.loop.call_at(deadline, _settle, future) if deadline is not None else None
        try:
            if not await future:
                raise TimeoutError
        finally:
            if timer is not None:
                timer.cancel()
            self.rest_writable(fd)

    def _wake(self, future: "asyncio.Future[bool]", fd: int) -> None:
        if future.done():
            self.rest_readable(fd)
        else:
            future.set_result(True)

    def _open(self) -> None:
        self._epoll = select.epoll()
        self.loop.add_reader(self._epoll.fileno(), self._turn)

    def _watch(self, fd: int, before: int, events: int) -> None:
        if not events:
            del self._watched[fd]
            try:
                self._epoll.unregister(fd)
            except OSError:
                pass  # closed already, against the rule: it must not cost the clean-up
            return
        if before:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
            self._fresh.add(fd)
        self._watched[fd] = events

    def _turn(self) -> None:
        readers, writers, fresh = self._readers, self._writers, self._fresh
        fresh.clear()
        for fd, events in self._epoll.poll(0, EVENTS_A_TURN):
            if events == _READ:  # nearly always
                callback = readers.get(fd)
                if callback is not None and fd not in fresh:
                    callback()
                continue
            if events & ~_WRITE and fd not in fresh:
                callback = readers.get(fd)
                if callback is not None:
                    callback()
            if events & ~_READ and fd not in fresh:
                callback = writers.get(fd)
                if callback is not None:
                    callback()


class LoopReadiness(Readiness):
    """The same where the system has no epoll: by the loop's own add_reader and add_writer."""

    __slots__ = ()

    def _open(self) -> None:
        pass

    def _watch(self, fd: int, before: int, events: int) -> None:
        if events & ~before & _READ:
            self.loop.add_reader(fd, self._call, self._readers, fd)
        if before & ~events & _READ:
            self.loop.remove_reader(fd)
        if events & ~before & _WRITE:
            self.loop.add_writer(fd, self._call, self._writers, fd)
        if before & ~events & _WRITE:
            self.loop.remove_writer(fd)
        if events:
            self._watched[fd] = events
        else:
            del self._watched[fd]

    def _call(self, callbacks: dict[int, Callback], fd: int) -> None:
        callback = callbacks.get(fd)
        if callback is not None:
            callback()


def readiness_of(loop: asyncio.AbstractEventLoop) -> Readiness:
    """Make the kind that this system has."""
    return Readiness(loop) if hasattr(select, "epoll") else LoopReadiness(loop)


def _settle(future: "asyncio.Future[bool]", ready: bool = False) -> None:
    if not future.done():
        future.set_result(ready)


def deadline_in(loop: asyncio.AbstractEventLoop, seconds: float) -> float | None:
    """A deadline `seconds` from now; None for 0, which turns a deadline off."""
    return loop.time() + seconds if seconds > 0 else None
