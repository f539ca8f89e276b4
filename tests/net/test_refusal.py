"""A client that has nothing in common with us is refused in the words of both, whatever was seen of its hello."""

import asyncio

import pytest

from proxy.core.config import Mode
from proxy.core.events import Detected
from proxy.core.reasons import Reason
from tests.core.test_clienthello import body, extension, records, vector
from tests.net.rig import World, inbound

RSA_SUITES = b"\x00\x2f\x00\x35"
GROUPS = extension(10, vector(b"\0\x1d\0\x17", 2))
SIGNATURES = extension(13, vector(b"\4\3", 2))
HELLO = records(b"\1" + vector(body(GROUPS, SIGNATURES, suites=RSA_SUITES), 3))
SUITES_ARE_THERE = len(HELLO) - len(GROUPS) - len(SIGNATURES) - 2
OFFERED = "the client offers TLS_RSA_WITH_AES_128_CBC_SHA and TLS_RSA_WITH_AES_256_CBC_SHA; this listener"


@pytest.mark.parametrize("mode", [Mode.STRICT, Mode.PERMISSIVE])
async def test_a_client_without_a_suite_of_ours_reads_of_both_lists(world: World, mode: Mode) -> None:
    app = world.listening()
    rig = world.rig(inbound(app.getsockname(), mode=mode))
    client = await world.dial(rig.address())
    await asyncio.get_running_loop().sock_sendall(client, HELLO)
    (closed,) = await rig.recorder.closed()
    assert closed.reason is Reason.NO_SHARED_CIPHER
    assert closed.detail.startswith(f"no cipher suite of TLS 1.2 in common: {OFFERED} with its ecdsa-p256 key takes")


async def test_of_a_hello_that_comes_in_pieces_the_first_is_named(world: World) -> None:
    """STRICT hands the stream to the engine as soon as it can be TLS; the rest of the hello is not peeked at."""
    app = world.listening()
    rig = world.rig(inbound(app.getsockname()))
    client = await world.dial(rig.address())
    await asyncio.get_running_loop().sock_sendall(client, HELLO[:SUITES_ARE_THERE])
    await rig.recorder.until(lambda: rig.recorder.of(Detected), "the first piece was seen")
    await asyncio.get_running_loop().sock_sendall(client, HELLO[SUITES_ARE_THERE:])
    (closed,) = await rig.recorder.closed()
    assert closed.reason is Reason.NO_SHARED_CIPHER
    assert "in common (" in closed.detail
    assert OFFERED.replace("offers", "offers the suites") in closed.detail
