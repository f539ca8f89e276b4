"""What passes through as it is, by the kernel: the same bytes and the same ends as by the ordinary pump."""

import os
import random
import socket
import struct

import pytest

from proxy.core.config import InterceptConfig, InterceptOutbound, OutboundDefault, TcpAddress
from proxy.core.reasons import Reason
from proxy.net import route, splice
from proxy.net.pump import Pump
from proxy.net.splice import Pipe, SplicePump
from proxy.tls.channel import End, PlainChannel
from tests.net.peers import receive_exactly, receive_to_end
from tests.net.rig import Rig, World, blocking

MIB = 1 << 20


async def passed(
    world: World, monkeypatch: pytest.MonkeyPatch, **options: int
) -> tuple[Rig, socket.socket, socket.socket]:
    """A worker, our app's end and the upstream's end of a connection that passes through."""
    upstream = world.listening()
    meant = TcpAddress(*upstream.getsockname()[:2])
    monkeypatch.setattr(route, "original_destination", lambda _sock: meant)
    section = InterceptOutbound(listen=TcpAddress("127.0.0.1", 0), default=OutboundDefault.PASSTHROUGH)
    rig = world.rig(intercept=InterceptConfig(outbound=section))
    app = await world.dial(rig.address("intercept"), **options)
    return rig, app, await world.accept(upstream)


def is_empty(pipe: Pipe) -> bool:
    try:
        os.read(pipe.outlet, 1)
    except BlockingIOError:
        return True
    return False


@pytest.mark.parametrize("size", [1, 262144, 3 * MIB + 1])
async def test_bytes_arrive_exactly_both_ways_at_once(world: World, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    rig, app, upstream = await passed(world, monkeypatch)
    up, down = random.Random(1).randbytes(size), random.Random(2).randbytes(size)
    sending = [blocking(app.sendall, up), blocking(upstream.sendall, down)]
    assert await blocking(receive_exactly, upstream, size) == up
    assert await blocking(receive_exactly, app, size) == down
    for one in sending:
        await one
    relay = rig.only.relay
    assert relay is not None
    assert {type(pump) for pump in (relay.up, relay.down)} == {SplicePump}
    assert is_empty(rig.worker._pipe)
    app.shutdown(socket.SHUT_WR)
    assert await blocking(receive_to_end, upstream) == (b"", End.CLEAN)
    upstream.close()
    assert await blocking(receive_to_end, app) == (b"", End.CLEAN)
    app.close()
    [closed] = await rig.recorder.closed()
    assert (closed.reason, closed.bytes_received, closed.bytes_sent) == (Reason.COMPLETED, size, size)


async def test_a_slow_reader_gets_every_byte_and_nobody_else_does(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its window is tiny, so that much of what lies in the shared pipe has to be taken out of it again."""
    rig, app, upstream = await passed(world, monkeypatch, receive_buffer=4096)
    data = random.Random(9).randbytes(2 * MIB)
    sending = blocking(upstream.sendall, data)
    await blocking(receive_exactly, app, 4096)
    assert is_empty(rig.worker._pipe)
    assert await blocking(receive_exactly, app, len(data) - 4096) == data[4096:]
    await sending


async def test_a_reset_is_passed_on_as_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    rig, app, upstream = await passed(world, monkeypatch)
    app.sendall(b"question")
    assert await blocking(receive_exactly, upstream, 8) == b"question"
    upstream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    upstream.close()
    assert (await blocking(receive_to_end, app))[1] is End.RESET
    [closed] = await rig.recorder.closed()
    assert (closed.reason, closed.detail) == (Reason.RESET, "the upstream reset the connection")


async def test_a_sink_that_broke_loses_its_own_bytes_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    rig, app, upstream = await passed(world, monkeypatch)
    upstream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    monkeypatch.setattr(PlainChannel, "splice_out", lambda channel, *_: channel._write_failed(OSError(32, "")))
    app.sendall(b"lost")
    upstream.close()
    assert (await blocking(receive_to_end, app))[1] is End.RESET
    assert await rig.recorder.reason() is Reason.RESET
    assert is_empty(rig.worker._pipe)


async def test_a_pipe_whose_emptiness_is_in_doubt_is_never_used_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig, app, upstream = await passed(world, monkeypatch)
    first = rig.worker._pipe.outlet
    with monkeypatch.context() as broken:
        broken.setattr(PlainChannel, "splice_out", lambda *_: 1 / 0)
        app.sendall(b"secret")
        [closed] = await rig.recorder.closed()
    assert closed.detail == "internal error: ZeroDivisionError"
    rig.bugs.clear()
    assert rig.worker._pipe.outlet != first
    again = await world.dial(rig.address("intercept"))
    again.sendall(b"hello")
    assert upstream.fileno() >= 0
    await rig.recorder.until(lambda: len(rig.worker.connections) == 1, "another connection")


async def test_a_live_connection_goes_on_without_a_pipe(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It broke in another connection."""
    rig, app, upstream = await passed(world, monkeypatch)
    rig.worker._pipe.close()
    app.sendall(b"hello")
    assert await blocking(receive_exactly, upstream, 5) == b"hello"


async def test_without_descriptors_for_a_pipe_the_ordinary_pump_works(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_flags: int) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(splice.os, "pipe2", fail)
    rig, app, upstream = await passed(world, monkeypatch)
    app.sendall(b"hello")
    assert await blocking(receive_exactly, upstream, 5) == b"hello"
    relay = rig.only.relay
    assert relay is not None
    assert type(relay.up) is Pump


async def test_the_pipe_is_closed_with_the_worker(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    rig, _, _ = await passed(world, monkeypatch)
    pipe = rig.worker._pipe
    await rig.recorder.until(lambda: pipe.inlet >= 0, "the pipe is open")
    ends = (pipe.inlet, pipe.outlet)
    await rig.stop()
    world.rigs.remove(rig)
    assert (pipe.inlet, pipe.outlet) == (-1, -1)
    pipe.close()
    assert all(end > 0 for end in ends)
