"""
Waiting for one descriptor with a deadline: what a connection does before its bytes flow.

The relay installs callbacks of its own instead, because a future per wake-up would cost more than the wake-up. Both
ways use the loop's add_reader and add_writer, which uvloop and asyncio have alike, and only one of them owns a
descriptor at a time.

A wait that ends well leaves its reader in place: the next wait, or the relay, replaces it, and that costs no system
call where removing it and adding another costs two. Until then the old reader may be woken by bytes that nobody waits
for; it removes itself when that happens, so nothing spins. Whoever closes a descriptor calls `forget` first.
"""

import asyncio
from collections.abc import Callable


def watch_readable(loop: asyncio.AbstractEventLoop, fd: int, callback: Callable[..., object], *args: object) -> None:
    """
    Call back whenever `fd` has bytes, an end or an error; replaces the reader that it has.

    uvloop closes its watcher after an error of the socket and still keeps it under the descriptor's number: adding to
    it then raises, until it is removed.
    """
    try:
        loop.add_reader(fd, callback, *args)
    except RuntimeError:
        loop.remove_reader(fd)
        loop.add_reader(fd, callback, *args)


def watch_writable(loop: asyncio.AbstractEventLoop, fd: int, callback: Callable[..., object], *args: object) -> None:
    """Call back whenever `fd` takes bytes; otherwise as watch_readable."""
    try:
        loop.add_writer(fd, callback, *args)
    except RuntimeError:
        loop.remove_writer(fd)
        loop.add_writer(fd, callback, *args)


async def readable(loop: asyncio.AbstractEventLoop, fd: int, deadline: float | None) -> None:
    """
    Wait until `fd` has bytes, an end or an error.

    deadline: of loop.time(); None waits without end
    Raises:   TimeoutError
    """
    if deadline is not None and loop.time() >= deadline:
        # Bytes that were peeked at and left keep `fd` readable, and the loop would always see that first.
        loop.remove_reader(fd)
        raise TimeoutError
    future: asyncio.Future[bool] = loop.create_future()
    watch_readable(loop, fd, _wake, future, loop, fd)
    timer = loop.call_at(deadline, _settle, future) if deadline is not None else None
    ready = False
    try:
        ready = await future
    finally:
        if timer is not None:
            timer.cancel()
        if not ready:
            loop.remove_reader(fd)
    if not ready:
        raise TimeoutError


async def writable(loop: asyncio.AbstractEventLoop, fd: int, deadline: float | None) -> None:
    """Wait until `fd` takes bytes, or a connect on it has ended. deadline and Raises as `readable`."""
    future: asyncio.Future[bool] = loop.create_future()
    watch_writable(loop, fd, _settle, future, True)
    timer = loop.call_at(deadline, _settle, future) if deadline is not None else None
    try:
        if not await future:
            raise TimeoutError
    finally:
        if timer is not None:
            timer.cancel()
        loop.remove_writer(fd)


def forget(loop: asyncio.AbstractEventLoop, fd: int) -> None:
    """Watch `fd` no more; before it is closed."""
    if fd >= 0:
        loop.remove_reader(fd)
        loop.remove_writer(fd)


def _wake(future: "asyncio.Future[bool]", loop: asyncio.AbstractEventLoop, fd: int) -> None:
    if future.done():
        loop.remove_reader(fd)
    else:
        future.set_result(True)


def _settle(future: "asyncio.Future[bool]", ready: bool = False) -> None:
    if not future.done():
        future.set_result(ready)


def deadline_in(loop: asyncio.AbstractEventLoop, seconds: float) -> float | None:
    """A deadline `seconds` from now; None for 0, which turns a deadline off."""
    return loop.time() + seconds if seconds > 0 else None
