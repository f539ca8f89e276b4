"""
Waiting for one descriptor with a deadline: what a connection does before its bytes flow.

The relay installs callbacks of its own instead, because a future per wake-up would cost more than the wake-up. Both
ways use the loop's add_reader and add_writer, which uvloop and asyncio have alike. Only one of them may own a
descriptor at a time; each wait here leaves nothing behind, whether it ends by readiness, deadline or cancellation.
"""

import asyncio


async def readable(loop: asyncio.AbstractEventLoop, fd: int, deadline: float | None) -> None:
    """
    Wait until `fd` has bytes, an end or an error.

    deadline: of loop.time(); None waits without end
    Raises:   TimeoutError
    """
    future = loop.create_future()
    loop.add_reader(fd, _wake, future)
    try:
        await _until(loop, future, deadline)
    finally:
        loop.remove_reader(fd)


async def writable(loop: asyncio.AbstractEventLoop, fd: int, deadline: float | None) -> None:
    """Wait until `fd` takes bytes, or a connect on it has ended. deadline and Raises as `readable`."""
    future = loop.create_future()
    loop.add_writer(fd, _wake, future)
    try:
        await _until(loop, future, deadline)
    finally:
        loop.remove_writer(fd)


async def _until(loop: asyncio.AbstractEventLoop, future: "asyncio.Future[bool]", deadline: float | None) -> None:
    if deadline is None:
        await future
        return
    timer = loop.call_at(deadline, _expire, future)
    try:
        if not await future:
            raise TimeoutError
    finally:
        timer.cancel()


def _wake(future: "asyncio.Future[bool]") -> None:
    if not future.done():
        future.set_result(True)


def _expire(future: "asyncio.Future[bool]") -> None:
    if not future.done():
        future.set_result(False)


def deadline_in(loop: asyncio.AbstractEventLoop, seconds: float) -> float | None:
    """A deadline `seconds` from now; None for 0, which turns a deadline off."""
    return loop.time() + seconds if seconds > 0 else None
