"""Waiting for descriptors: by readiness, by deadline, by cancellation, and nothing left behind."""

import asyncio
import select
import socket
from collections.abc import Callable, Iterator

import pytest

from proxy.net.readiness import EVENTS_A_TURN, LoopReadiness, Readiness, deadline_in, readiness_of
from tests.net.peers import PATIENCE_S

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        yield ours, theirs


@pytest.fixture(params=[Readiness, LoopReadiness])
async def waits(request: pytest.FixtureRequest) -> Readiness:
    """Both kinds: the one with an epoll of its own, and the one for systems that have none."""
    made: Readiness = request.param(asyncio.get_running_loop())
    return made


def fill(sock: socket.socket) -> None:
    try:
        while True:
            sock.send(bytes(65536))
    except BlockingIOError:
        pass


async def turns(count: int = 8) -> None:
    """Give the loop its turns, with whatever is ready now."""
    for _ in range(count):
        await asyncio.sleep(0)


def test_where_there_is_epoll_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.new_event_loop()
    assert type(readiness_of(loop)) is Readiness
    monkeypatch.delattr(select, "epoll")
    assert type(readiness_of(loop)) is LoopReadiness
    loop.close()


async def test_bytes_end_the_wait(waits: Readiness, pair: Pair) -> None:
    ours, theirs = pair
    waits.loop.call_soon(theirs.send, b"x")
    await waits.readable(ours.fileno(), deadline_in(waits.loop, PATIENCE_S))
    assert ours.recv(1) == b"x"
    waits.forget(ours.fileno())


async def test_an_end_of_stream_ends_the_wait(waits: Readiness, pair: Pair) -> None:
    ours, theirs = pair
    theirs.shutdown(socket.SHUT_WR)
    await waits.readable(ours.fileno(), None)
    waits.forget(ours.fileno())


async def test_a_peer_that_is_gone_ends_the_wait_for_room(waits: Readiness, pair: Pair) -> None:
    ours, theirs = pair
    fill(ours)
    waits.loop.call_soon(theirs.close)
    await waits.writable(ours.fileno(), deadline_in(waits.loop, PATIENCE_S))
    with pytest.raises(OSError, match=r"pipe|reset"):
        ours.send(b"x")


async def test_silence_ends_it_at_the_deadline(waits: Readiness, pair: Pair) -> None:
    for wait in (waits.readable, waits.writable):
        if wait == waits.writable:
            fill(pair[0])
        begun = waits.loop.time()
        with pytest.raises(TimeoutError):
            await wait(pair[0].fileno(), deadline_in(waits.loop, 0.05))
        assert waits.loop.time() - begun >= 0.049


async def test_bytes_that_nobody_takes_do_not_put_the_deadline_off(waits: Readiness, pair: Pair) -> None:
    ours, theirs = pair
    theirs.send(b"x")
    deadline = deadline_in(waits.loop, 0.05)

    async def look_again_and_again() -> None:
        while True:
            await waits.readable(ours.fileno(), deadline)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(look_again_and_again(), PATIENCE_S)


async def test_room_ends_the_wait_for_it(waits: Readiness, pair: Pair) -> None:
    ours, theirs = pair
    fill(ours)
    task = waits.loop.create_task(waits.writable(ours.fileno(), None))
    waits.loop.call_soon(theirs.recv, 1 << 20)
    await asyncio.wait_for(task, PATIENCE_S)


@pytest.mark.parametrize("direction", ["readable", "writable"])
async def test_a_cancelled_wait_watches_nothing_any_more(waits: Readiness, pair: Pair, direction: str) -> None:
    ours, _theirs = pair
    if direction == "writable":
        fill(ours)
    task = waits.loop.create_task(getattr(waits, direction)(ours.fileno(), None))
    await turns(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not waits.rest_readable(ours.fileno())
    assert not waits.rest_writable(ours.fileno())
    assert waits._watched == {}


async def test_bytes_between_two_waits_wake_nobody_twice(waits: Readiness, pair: Pair) -> None:
    """The interest of a wait that is over stays for the next one, and goes when it is woken for nothing."""
    ours, theirs = pair
    theirs.send(b"x")
    await waits.readable(ours.fileno(), None)
    await turns()  # the byte is still there, and the old interest is woken by it
    assert not waits.rest_readable(ours.fileno())
    await waits.readable(ours.fileno(), deadline_in(waits.loop, PATIENCE_S))
    waits.forget(ours.fileno())


async def test_what_is_not_taken_is_told_again(waits: Readiness, pair: Pair) -> None:
    ours, theirs = pair
    told: list[int] = []
    enough = asyncio.Event()

    def look() -> None:
        told.append(1)
        if len(told) == 3:
            enough.set()

    waits.watch_readable(ours.fileno(), look)
    theirs.send(b"x")
    await asyncio.wait_for(enough.wait(), PATIENCE_S)
    waits.forget(ours.fileno())


async def test_both_directions_of_one_descriptor_are_watched_for_themselves(waits: Readiness, pair: Pair) -> None:
    ours, theirs = pair
    told: list[str] = []
    waits.watch_readable(ours.fileno(), lambda: told.append("bytes"))
    waits.watch_writable(ours.fileno(), lambda: told.append("room"))
    await turns()
    assert set(told) == {"room"}
    assert waits.rest_writable(ours.fileno())
    told.clear()
    theirs.send(b"x")
    await turns()
    assert set(told) == {"bytes"}
    assert waits.rest_readable(ours.fileno())
    told.clear()
    await turns()
    assert told == []
    assert waits._watched == {}


async def test_a_callback_that_is_replaced_is_not_called(waits: Readiness, pair: Pair) -> None:
    ours, theirs = pair
    told: list[str] = []
    waits.watch_readable(ours.fileno(), lambda: told.append("first"))
    waits.watch_readable(ours.fileno(), lambda: told.append("second"))
    theirs.send(b"x")
    await turns()
    assert set(told) == {"second"}
    waits.forget(ours.fileno())


async def test_an_event_of_a_closed_socket_does_not_reach_the_one_with_its_number(waits: Readiness) -> None:
    """In one turn both are ready; whoever comes first closes the other and opens a new one with the same number."""
    pairs = [socket.socketpair() for _ in range(2)]
    opened: list[socket.socket] = []
    stray: list[str] = []

    def replace(other: socket.socket) -> Callable[[], None]:
        def callback() -> None:
            for ours, _ in pairs:
                waits.rest_readable(ours.fileno())
            number = other.fileno()
            other.close()
            opened.extend(socket.socketpair())
            fresh = next(sock for sock in opened if sock.fileno() == number)
            waits.watch_readable(fresh.fileno(), lambda: stray.append("an event that is not its own"))

        return callback

    for (ours, theirs), (other, _) in zip(pairs, reversed(pairs), strict=True):
        waits.watch_readable(ours.fileno(), replace(other))
        theirs.send(b"x")
    await turns()
    assert len(opened) == 2
    assert stray == []
    for sock in [*opened, *(sock for both in pairs for sock in both)]:
        waits.forget(sock.fileno())
        sock.close()


async def test_more_than_one_turn_takes_are_all_told(waits: Readiness) -> None:
    pairs = [socket.socketpair() for _ in range(2 * EVENTS_A_TURN)]
    told: set[int] = set()

    def tell(sock: socket.socket) -> Callable[[], None]:
        def callback() -> None:
            told.add(sock.fileno())
            waits.forget(sock.fileno())

        return callback

    for ours, theirs in pairs:
        waits.watch_readable(ours.fileno(), tell(ours))
        theirs.send(b"x")
    await turns()
    assert told == {ours.fileno() for ours, _ in pairs}
    for sock in (sock for both in pairs for sock in both):
        sock.close()


async def test_a_descriptor_that_was_closed_too_early_is_still_forgotten(pair: Pair) -> None:
    waits = Readiness(asyncio.get_running_loop())
    ours, _theirs = pair
    number = ours.fileno()
    waits.watch_readable(number, lambda: None)
    ours.close()
    waits.forget(number)
    assert waits._watched == {}


async def test_a_descriptor_that_the_kernel_does_not_take_leaves_nothing_behind(waits: Readiness, pair: Pair) -> None:
    ours, _theirs = pair
    number = ours.fileno()
    ours.close()
    for watch, rest in (
        (waits.watch_readable, waits.rest_readable),
        (waits.watch_writable, waits.rest_writable),
    ):
        with pytest.raises(OSError, match="descriptor"):
            watch(number, lambda: None)
        assert rest(number) is False
    waits.forget(number)


def test_zero_is_no_deadline() -> None:
    loop = asyncio.new_event_loop()
    assert deadline_in(loop, 0) is None
    loop.close()
