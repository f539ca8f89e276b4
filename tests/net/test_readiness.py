"""Waiting for one descriptor: by readiness, by deadline, by cancellation, and nothing left behind."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

from proxy.net.readiness import deadline_in, forget, readable, writable

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        yield ours, theirs


async def test_bytes_end_the_wait(pair: Pair) -> None:
    ours, theirs = pair
    loop = asyncio.get_running_loop()
    loop.call_soon(theirs.send, b"x")
    await readable(loop, ours.fileno(), deadline_in(loop, 5))
    assert ours.recv(1) == b"x"
    forget(loop, ours.fileno())


async def test_an_end_of_stream_ends_the_wait(pair: Pair) -> None:
    ours, theirs = pair
    loop = asyncio.get_running_loop()
    theirs.shutdown(socket.SHUT_WR)
    await readable(loop, ours.fileno(), None)
    forget(loop, ours.fileno())


async def test_silence_ends_it_at_the_deadline(pair: Pair) -> None:
    loop = asyncio.get_running_loop()
    for wait in (readable, writable):
        if wait is writable:
            fill(pair[0])
        begun = loop.time()
        with pytest.raises(TimeoutError):
            await wait(loop, pair[0].fileno(), deadline_in(loop, 0.05))
        assert loop.time() - begun >= 0.049


async def test_bytes_that_nobody_takes_do_not_put_the_deadline_off(pair: Pair) -> None:
    ours, theirs = pair
    loop = asyncio.get_running_loop()
    theirs.send(b"x")
    deadline = deadline_in(loop, 0.05)

    async def look_again_and_again() -> None:
        while True:
            await readable(loop, ours.fileno(), deadline)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(look_again_and_again(), 5)


def fill(sock: socket.socket) -> None:
    try:
        while True:
            sock.send(bytes(65536))
    except BlockingIOError:
        pass


async def test_room_ends_the_wait_for_it(pair: Pair) -> None:
    ours, theirs = pair
    loop = asyncio.get_running_loop()
    fill(ours)
    task = loop.create_task(writable(loop, ours.fileno(), None))
    loop.call_soon(theirs.recv, 1 << 20)
    await asyncio.wait_for(task, 5)


@pytest.mark.parametrize("wait", [readable, writable])
async def test_a_cancelled_wait_watches_nothing_any_more(pair: Pair, wait) -> None:
    ours, _theirs = pair
    loop = asyncio.get_running_loop()
    if wait is writable:
        fill(ours)
    task = loop.create_task(wait(loop, ours.fileno(), None))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not loop.remove_reader(ours.fileno())
    assert not loop.remove_writer(ours.fileno())


async def test_bytes_between_two_waits_wake_nobody_twice(pair: Pair) -> None:
    """The reader of a wait that is over stays for the next one, and goes when it is woken for nothing."""
    ours, theirs = pair
    loop = asyncio.get_running_loop()
    theirs.send(b"x")
    await readable(loop, ours.fileno(), None)
    for _ in range(5):
        await asyncio.sleep(0)  # the byte is still there, and the old reader is woken by it
    assert not loop.remove_reader(ours.fileno())
    await readable(loop, ours.fileno(), deadline_in(loop, 5))
    forget(loop, ours.fileno())


def test_zero_is_no_deadline() -> None:
    loop = asyncio.new_event_loop()
    assert deadline_in(loop, 0) is None
    loop.close()
