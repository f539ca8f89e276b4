"""A bug of ours in what the loop calls: it ends its own connection, and the worker goes on."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from proxy.core.events import Closed
from proxy.core.reasons import Reason
from proxy.tls.channel import End, PlainChannel
from tests.net.peers import receive_to_end
from tests.net.rig import World, blocking, outbound


@pytest.fixture
async def complaints() -> AsyncIterator[list[dict[str, Any]]]:
    """What the loop had to say about callbacks that raised."""
    said: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: said.append(context))
    yield said
    asyncio.get_running_loop().set_exception_handler(None)


def expect_the_bug(world: World, closed: Closed) -> None:
    assert (closed.reason, closed.detail) == (Reason.RESET, "internal error: ZeroDivisionError")
    assert [type(bug) for bug in world.rigs[0].bugs] == [ZeroDivisionError]
    world.rigs[0].bugs.clear()


async def test_an_exception_while_reading_ends_one_connection(
    world: World, complaints: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    rig, peer, app = await world.relayed()
    monkeypatch.setattr(PlainChannel, "receive", lambda *_: 1 / 0)
    app.sendall(b"x")
    [closed] = await rig.recorder.closed()
    expect_the_bug(world, closed)
    assert (await blocking(peer.receive_to_end))[1] is End.RESET
    assert (await blocking(receive_to_end, app))[1] is End.RESET
    assert complaints == []


async def test_an_exception_while_writing_what_was_pending_ends_one_connection(
    world: World, complaints: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    rig, peer, app = await world.relayed()
    monkeypatch.setattr(PlainChannel, "send", lambda *_: 0)
    monkeypatch.setattr(PlainChannel, "send_bytes", lambda *_: 1 / 0)
    await blocking(peer.send, b"x")
    [closed] = await rig.recorder.closed()
    expect_the_bug(world, closed)
    assert (await blocking(receive_to_end, app))[1] is End.RESET
    assert complaints == []


async def test_an_exception_of_who_hears_the_first_answer_ends_one_connection(
    world: World, complaints: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream = world.listening()
    rig = world.rig(outbound(upstream.getsockname()))
    monkeypatch.setattr("proxy.net.upstream.Upstream.answered", lambda *_: 1 / 0)
    await world.dial(rig.address("payments"))
    await world.accept_tls(upstream)
    [closed] = await rig.recorder.closed()
    expect_the_bug(world, closed)
    assert complaints == []
