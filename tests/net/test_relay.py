"""Bytes from one side to the other: exact, whole, bounded, and ended as they were ended."""

import random
import select
import socket

import pytest

from proxy.core.config import Mode, Timeouts
from proxy.core.reasons import Reason
from proxy.tls.channel import End
from tests.net.peers import PATIENCE_S, receive_exactly, receive_to_end
from tests.net.rig import World, blocking, client, inbound

both_versions = pytest.mark.parametrize("version", ["1.2", "1.3"])
MIB = 1 << 20


def send_in_chunks(send, data: bytes, seed: int) -> None:
    rng, at = random.Random(seed), 0
    while at < len(data):
        size = min(rng.choice((1, 100, 1460, 16384, 16385, 100_000, 1_000_000)), len(data) - at)
        send(data[at : at + size])
        at += size


@both_versions
@pytest.mark.parametrize("size", [1, 16384, 262144, 262145, 3 * MIB + 1])
async def test_bytes_arrive_exactly_both_ways_at_once(world: World, version: str, size: int) -> None:
    rig, peer, app = await world.relayed(version)
    up, down = random.Random(1).randbytes(size), random.Random(2).randbytes(size)
    sending = blocking(send_in_chunks, app.sendall, down, 3)
    receiving = blocking(receive_exactly, app, size)

    got_down = await blocking(peer.exchange, up, 4)  # one thread, since both ways are one TLS connection
    await sending
    assert await receiving == up
    assert got_down == down
    peer.finish()
    assert await blocking(receive_to_end, app) == (b"", End.CLEAN)
    app.close()
    assert await blocking(peer.receive_to_end) == (b"", End.CLEAN)
    [closed] = await rig.recorder.closed()
    assert (closed.reason, closed.bytes_received, closed.bytes_sent) == (Reason.COMPLETED, size, size)


async def test_fifty_mebibytes_arrive_exactly_in_random_pieces(world: World) -> None:
    rig, peer, app = await world.relayed()
    data = random.Random(5).randbytes(50 * MIB)
    sending = blocking(send_in_chunks, peer.send, data, 6)
    assert await blocking(receive_exactly, app, len(data)) == data
    await sending
    assert rig.only.bytes_received == len(data)


@pytest.mark.parametrize("size", [1, 3 * MIB])
async def test_plaintext_is_relayed_as_exactly_as_tls(world: World, size: int) -> None:
    listening = world.listening()
    rig = world.rig(inbound(listening.getsockname(), mode=Mode.DISABLE))
    down = await world.dial(rig.address())
    app = await world.accept(listening)
    data = random.Random(7).randbytes(size)
    for sender, receiver in ((down, app), (app, down)):
        sending = blocking(send_in_chunks, sender.sendall, data, 8)
        assert await blocking(receive_exactly, receiver, size) == data
        await sending
    down.close()
    assert await blocking(receive_to_end, app) == (b"", End.CLEAN)
    app.close()
    assert await rig.recorder.reason() is Reason.COMPLETED


@both_versions
async def test_a_slow_reader_gets_every_byte(world: World, version: str) -> None:
    """Its window is tiny, so nearly every look at it takes only part of what is offered."""
    listening = world.listening()
    rig = world.rig(inbound(listening.getsockname()))
    peer = await world.dial_tls(rig.address(), client(version), receive_buffer=4096)
    app = await world.accept(listening)
    data = random.Random(9).randbytes(2 * MIB)

    def reply() -> None:
        app.sendall(data)
        app.close()

    sending = blocking(reply)
    assert await blocking(peer.receive_to_end) == (data, End.CLEAN)
    await sending
    peer.close()
    assert await rig.recorder.reason() is Reason.COMPLETED


@both_versions
async def test_a_peer_that_does_not_read_holds_one_scratch_at_most_and_the_other_way_goes_on(
    world: World, version: str
) -> None:
    rig, peer, app = await world.relayed(version)
    app.setblocking(False)
    relay = rig.only.relay
    assert relay is not None

    def fill() -> int:
        sent, quiet = 0, select.poll()
        quiet.register(app, select.POLLOUT)
        while quiet.poll(300):  # until nobody has taken a byte for that long
            try:
                sent += app.send(bytes(MIB))
            except BlockingIOError:
                pass
        return sent

    sent = await blocking(fill)
    assert 0 < len(relay.down._pending) <= 262144
    assert relay.down.count < sent
    await blocking(peer.send, b"still heard")
    app.settimeout(PATIENCE_S)
    assert await blocking(receive_exactly, app, 11) == b"still heard"
    assert len(await blocking(peer.receive_exactly, sent)) == sent


async def test_a_name_is_no_promise_about_buffers_an_idle_connection_holds_none(world: World) -> None:
    rig, peer, app = await world.relayed()
    await blocking(peer.send, bytes(MIB))
    await blocking(receive_exactly, app, MIB)
    relay = rig.only.relay
    assert relay is not None
    assert (relay.up._pending, relay.down._pending) == (b"", b"")


@both_versions
async def test_ten_mebibytes_of_reply_are_whole_when_the_app_closes_at_once(world: World, version: str) -> None:
    rig, peer, app = await world.relayed(version)
    data = random.Random(10).randbytes(10 * MIB)
    await blocking(peer.send, b"GET")
    assert await blocking(receive_exactly, app, 3) == b"GET"

    def reply() -> None:
        app.sendall(data)
        app.close()

    replying = blocking(reply)
    assert await blocking(peer.receive_to_end) == (data, End.CLEAN)
    await replying
    peer.close()
    assert await rig.recorder.reason() is Reason.COMPLETED


@pytest.mark.parametrize("header", [b"", bytes(3)])
async def test_the_timeouts_of_a_new_generation_reach_what_is_live(world: World, header: bytes) -> None:
    rig, peer, _app = await world.relayed()
    if header:
        await blocking(peer.send, header)
    rig.apply(rig.with_sections(timeouts=Timeouts(idle_s=0.05)))
    assert await rig.recorder.reason() is Reason.IDLE_TIMEOUT


async def test_the_sockets_do_not_delay_small_messages(world: World) -> None:
    rig, _peer, _app = await world.relayed()
    for sock in (rig.only.sock, rig.only.upstream_sock):
        assert sock is not None
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
