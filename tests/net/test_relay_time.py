"""When time ends a connection: each deadline by itself, and none before its time."""

import asyncio
import socket
from collections.abc import Callable

import pytest

from proxy.core.config import Mode, Timeouts
from proxy.core.events import Relaying
from proxy.core.reasons import Reason
from proxy.net.deadlines import GRAIN_S
from proxy.net.relay import CLOCK_CHECK_S
from proxy.tls.channel import End
from tests import minting
from tests.net.peers import receive_exactly, receive_to_end
from tests.net.rig import World, blocking, inbound


async def test_a_stream_that_fell_silent_does_not_look_complete_on_either_side(world: World) -> None:
    """Whoever stops forwarding in mid-answer must not make the half of it look like the whole."""
    rig, peer, app = await world.relayed(timeouts=Timeouts(idle_s=0.1))
    assert await blocking(receive_to_end, app) == (b"", End.RESET)
    assert (await blocking(peer.receive_to_end))[1] is not End.CLEAN
    [closed] = await rig.recorder.closed()
    assert closed.reason is Reason.IDLE_TIMEOUT
    assert closed.duration_s >= 0.1


@pytest.mark.parametrize("reader", ["client", "app"])
async def test_a_peer_that_takes_nothing_until_it_is_idle_sees_no_good_end(world: World, reader: str) -> None:
    """What is pending for it is lost, so an end in order would make a part look like the whole."""
    rig, peer, app = await world.relayed(timeouts=Timeouts(idle_s=0.3))
    sending = blocking(_send_until_cut, peer.send if reader == "app" else app.sendall)
    [closed] = await rig.recorder.closed()
    await sending
    assert closed.reason is Reason.IDLE_TIMEOUT
    if reader == "app":
        data, end = await blocking(receive_to_end, app)
        assert len(data) < closed.bytes_received
    else:
        data, end = await blocking(peer.receive_to_end)
        assert len(data) < closed.bytes_sent
    assert end is not End.CLEAN


def _send_until_cut(send: Callable[[bytes], object]) -> None:
    try:
        while True:
            send(bytes(65536))
    except OSError:
        pass


async def test_every_byte_begins_the_idle_time_anew(world: World) -> None:
    """Four bytes, each before the time-out of the one before is over: together they take longer than it."""
    rig, peer, app = await world.relayed(timeouts=Timeouts(idle_s=0.3))
    loop = asyncio.get_running_loop()
    begun = loop.time()
    for _ in range(4):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(rig.recorder.closed(), 0.12)
        await blocking(peer.send, b"x")
        await blocking(receive_exactly, app, 1)
    assert loop.time() - begun > 0.4
    assert rig.worker.connections
    assert await rig.recorder.reason() is Reason.IDLE_TIMEOUT


@pytest.mark.parametrize("who", ["client", "app"])
async def test_a_half_closed_connection_is_given_up(world: World, who: str) -> None:
    rig, peer, app = await world.relayed(timeouts=Timeouts(half_close_s=0.1))
    if who == "client":
        await blocking(peer.finish)
    else:
        app.shutdown(socket.SHUT_WR)
    [closed] = await rig.recorder.closed()
    assert closed.reason is Reason.HALF_CLOSE_TIMEOUT
    end = (await blocking(receive_to_end, app) if who == "client" else await blocking(peer.receive_to_end))[1]
    assert end is End.CLEAN
    other = await blocking(peer.receive_to_end) if who == "client" else await blocking(receive_to_end, app)
    assert other[1] is End.RESET


async def test_a_lifetime_ends_also_while_bytes_flow(world: World) -> None:
    rig, peer, app = await world.relayed(timeouts=Timeouts(max_lifetime_s=0.2))
    try:
        while not rig.recorder.events[-1:] or rig.worker.connections:
            await blocking(peer.send, b"x")
            await blocking(app.recv, 100)
    except (ConnectionError, AssertionError):
        pass
    [closed] = await rig.recorder.closed()
    assert closed.reason is Reason.LIFETIME_ENDED
    assert closed.duration_s >= 0.2


async def test_zero_turns_every_deadline_off(world: World) -> None:
    zero = Timeouts(handshake_s=0, connect_s=0, idle_s=0, half_close_s=0, max_lifetime_s=0)
    rig, peer, app = await world.relayed(timeouts=zero)
    await blocking(peer.finish)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(rig.recorder.closed(), 0.3)
    app.close()
    assert await rig.recorder.reason() is Reason.COMPLETED


async def test_a_connection_ends_when_the_chain_of_its_peer_does(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is ours to set; the relay looks at it again within CLOCK_CHECK_S."""
    monkeypatch.setattr("proxy.net.relay.CLOCK_CHECK_S", 0.05)
    rig, peer, app = await world.relayed()
    real = rig.clock
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(rig.recorder.closed(), 0.2)
    rig.clock = lambda: real() + 2 * minting.HOUR_S
    [closed] = await rig.recorder.closed()
    assert closed.reason is Reason.CERTIFICATE_LAPSED
    assert "our clock says" in closed.detail
    assert (await blocking(receive_to_end, app))[1] is End.RESET
    assert (await blocking(peer.receive_to_end))[1] is End.RESET


async def test_it_is_stopped_from_outside_by_resets(world: World) -> None:
    rig, peer, app = await world.relayed()
    rig.only.end(Reason.DRAINED, "shutting down")
    [closed] = await rig.recorder.closed()
    assert (closed.reason, closed.detail) == (Reason.DRAINED, "shutting down")
    assert (await blocking(receive_to_end, app))[1] is End.RESET
    assert (await blocking(peer.receive_to_end))[1] is End.RESET


async def test_a_second_reason_does_not_replace_the_first(world: World) -> None:
    rig, _peer, _app = await world.relayed()
    connection = rig.only
    connection.end(Reason.POLICY_CHANGED, "first")
    connection.end(Reason.DRAINED, "second")
    assert await rig.recorder.reason() is Reason.POLICY_CHANGED


async def test_no_deadline_is_entered_that_is_hours_away(world: World) -> None:
    """Its bucket would stay as long, and one for each moment at which a connection came: 17 MiB for an hour."""
    app = world.listening()
    rig = world.rig(inbound(app.getsockname(), mode=Mode.DISABLE), timeouts=Timeouts(idle_s=3600))
    await world.dial(rig.address())
    await world.accept(app)
    await rig.recorder.until(lambda: rig.recorder.of(Relaying), "relaying")
    await rig.recorder.until_polled(lambda: rig.only.relay and rig.only.relay._bucket, "its first deadline is entered")
    last = max(rig.worker._deps.deadlines._buckets)
    assert last * GRAIN_S <= asyncio.get_running_loop().time() + CLOCK_CHECK_S + 2 * GRAIN_S
