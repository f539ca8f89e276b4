"""How a stream ended is passed on as it was: half-closes, resets, truncations, replies that outlive a broken write."""

import socket

import pytest

from proxy.core.config import Mode
from proxy.core.reasons import Reason
from proxy.net.relay import State
from proxy.tls.channel import End
from tests.net.peers import PATIENCE_S, receive_exactly, receive_to_end, reset, unsent
from tests.net.rig import World, blocking, inbound

both_versions = pytest.mark.parametrize("version", ["1.2", "1.3"])
MIB = 1 << 20


@both_versions
async def test_the_client_ends_its_direction_and_still_gets_a_late_reply(world: World, version: str) -> None:
    rig, peer, app = await world.relayed(version)
    await blocking(peer.send, b"question")
    await blocking(peer.finish)
    assert await blocking(receive_to_end, app) == (b"question", End.CLEAN)
    await rig.recorder.until_polled(rig.half_closed, "half-closed")
    await blocking(app.sendall, b"late ")
    assert await blocking(peer.receive_exactly, 5) == b"late "
    await blocking(app.sendall, b"reply")
    app.close()
    assert await blocking(peer.receive_to_end) == (b"reply", End.CLEAN)
    assert await rig.recorder.reason() is Reason.COMPLETED


@both_versions
async def test_the_app_ends_its_direction_and_still_hears_the_client(world: World, version: str) -> None:
    rig, peer, app = await world.relayed(version)
    await blocking(app.sendall, b"greeting")
    app.shutdown(socket.SHUT_WR)
    assert await blocking(peer.receive_to_end) == (b"greeting", End.CLEAN)
    await blocking(peer.send, b"late ")
    assert await blocking(receive_exactly, app, 5) == b"late "
    await blocking(peer.send, b"question")
    await blocking(peer.finish)
    assert await blocking(receive_to_end, app) == (b"question", End.CLEAN)
    assert await rig.recorder.reason() is Reason.COMPLETED


@both_versions
async def test_a_half_close_behind_a_full_buffer_comes_after_the_last_byte(world: World, version: str) -> None:
    """The app ends while the client reads nothing: close_notify has to wait for its turn."""
    rig, peer, app = await world.relayed(version)
    relay = rig.only.relay
    assert relay is not None

    def send_and_finish() -> None:
        app.sendall(bytes(12 * MIB))
        app.shutdown(socket.SHUT_WR)

    sending = blocking(send_and_finish)
    await rig.recorder.until_polled(lambda: relay.down.state is State.STALLED, "the client's buffers are full")
    data, end = await blocking(peer.receive_to_end)
    await sending
    assert (len(data), end) == (12 * MIB, End.CLEAN)


@both_versions
async def test_a_reset_of_the_client_resets_the_app(world: World, version: str) -> None:
    rig, peer, app = await world.relayed(version)
    await blocking(peer.send, b"x")
    assert await blocking(receive_exactly, app, 1) == b"x"
    peer.reset()
    assert await blocking(receive_to_end, app) == (b"", End.RESET)
    assert await rig.recorder.reason() is Reason.RESET


@both_versions
async def test_a_reset_of_the_app_resets_the_client(world: World, version: str) -> None:
    rig, peer, app = await world.relayed(version)
    reset(app)
    assert await blocking(peer.receive_to_end) == (b"", End.RESET)
    [closed] = await rig.recorder.closed()
    assert (closed.reason, closed.detail) == (Reason.RESET, "the upstream reset the connection")


async def test_a_reset_crosses_plaintext_in_both_directions(world: World) -> None:
    listening = world.listening()
    rig = world.rig(inbound(listening.getsockname(), mode=Mode.DISABLE))
    for number in (0, 1):
        ends = [await world.dial(rig.address()), await world.accept(listening)]
        reset(ends[number])
        assert await blocking(receive_to_end, ends[1 - number]) == (b"", End.RESET)
    assert [closed.reason for closed in await rig.recorder.closed(2)] == [Reason.RESET, Reason.RESET]


@both_versions
async def test_a_fin_without_close_notify_delivers_every_byte_and_then_resets(world: World, version: str) -> None:
    rig, peer, app = await world.relayed(version)
    await blocking(peer.send, bytes(MIB))
    peer.cut()
    data, end = await blocking(receive_to_end, app)
    assert (len(data), end) == (MIB, End.RESET)
    [closed] = await rig.recorder.closed()
    assert (closed.reason, closed.bytes_received) == (Reason.TRUNCATED, MIB)


@both_versions
async def test_a_truncation_behind_an_app_that_reads_nothing_yet_loses_no_byte(world: World, version: str) -> None:
    """More than the kernel holds for the app, so that the last bytes wait in the worker when the cut is seen."""
    rig, peer, app = await world.relayed(version)
    sending = blocking(peer.send, bytes(10 * MIB))
    first = await blocking(receive_exactly, app, 2 * MIB)
    reading = blocking(receive_to_end, app)
    await sending
    peer.cut()
    data, end = await reading
    assert (len(first) + len(data), end) == (10 * MIB, End.RESET)
    assert await rig.recorder.reason() is Reason.TRUNCATED


async def test_what_the_app_had_said_reaches_a_client_that_cut_its_stream(world: World) -> None:
    rig, peer, app = await world.relayed()
    await blocking(app.sendall, bytes(MIB))
    await blocking(peer.receive_exactly, MIB)
    peer.cut()
    assert await rig.recorder.reason() is Reason.TRUNCATED
    assert await blocking(peer.receive_to_end) in [(b"", End.RESET), (b"", End.ALERT)]


@both_versions
async def test_a_reply_is_whole_although_the_client_still_sends_to_an_app_that_has_closed(
    world: World, version: str
) -> None:
    """An upload is refused early: the app answers, closes, and resets what still comes."""
    rig, peer, app = await world.relayed(version)
    await blocking(app.sendall, bytes(100_000))
    app.close()
    await rig.recorder.until_polled(rig.half_closed, "the app's end")
    await blocking(peer.send, bytes(1000))  # answered by a reset
    relay = rig.only.relay
    assert relay is not None
    await rig.recorder.until_polled(lambda: relay.up.count == 1000, "it was relayed")
    await blocking(peer.send, bytes(1000))  # cannot be relayed
    data, _end = await blocking(peer.receive_to_end)
    assert len(data) == 100_000
    [closed] = await rig.recorder.closed()
    assert closed.reason is Reason.RESET
    assert closed.detail == "the upstream closed while bytes for it were still coming"


async def test_a_plaintext_reply_is_whole_although_a_write_to_the_app_fails_before_it_was_read(world: World) -> None:
    """The client reads nothing while the app answers and goes: its answer waits in our receive buffer."""
    listening = world.listening()
    rig = world.rig(inbound(listening.getsockname(), mode=Mode.DISABLE))
    down = await world.dial(rig.address(), receive_buffer=4096)
    app = await world.accept(listening)
    relay = await rig.recorder.until(lambda: rig.only.relay, "relaying")

    size = 0
    app.setblocking(False)
    while relay.down.state is State.FLOWING:
        size += app.send(bytes(65536))
        await rig.recorder.until_polled(lambda sent=size: relay.down.count == sent, "what was sent was relayed")
    app.settimeout(PATIENCE_S)
    await blocking(app.sendall, bytes(40_000))
    size += 40_000
    await rig.recorder.until_polled(lambda: not unsent(app), "the kernel of the worker has all of it")
    app.close()
    await blocking(down.sendall, b"x")  # answered by a reset
    await rig.recorder.until_polled(lambda: relay.up.count == 1, "the first byte was relayed")
    await blocking(down.sendall, b"y")  # fails
    await rig.recorder.until_polled(lambda: relay.up.state is State.ABANDONED, "the write has failed")
    data, _end = await blocking(receive_to_end, down)
    assert len(data) == size
    assert await rig.recorder.reason() is Reason.RESET
