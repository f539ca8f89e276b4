"""A connection on its way when a generation is published is judged by it before the app is dialed."""

import contextlib

import pytest
from OpenSSL import SSL

from proxy.core.config import Mode
from proxy.core.events import Dialed
from proxy.core.reasons import Reason
from tests.net.peers import TlsPeer
from tests.net.rig import World, blocking, client, config_of, inbound


@pytest.mark.parametrize("version", ["1.2", "1.3"])
async def test_the_app_hears_nothing_of_a_client_whose_permission_went_in_mid_handshake(
    world: World, version: str
) -> None:
    app = world.listening()
    rig = world.rig(inbound(app.getsockname()))
    sock = await world.dial(rig.address())
    peer = TlsPeer(client(version), sock, accepting=False)
    with contextlib.suppress(SSL.WantReadError):
        peer.ssl.do_handshake()
    await rig.recorder.until_polled(lambda: any(one.is_shaking_hands for one in rig.worker.living()), "it shakes hands")
    rig.apply(config_of(inbound(app.getsockname(), allow=("spiffe://example.org/ns/shop/**",))))
    with contextlib.suppress(SSL.Error, OSError):
        await blocking(peer.shake)
    assert await rig.recorder.reason() is Reason.POLICY_CHANGED
    assert rig.recorder.of(Dialed) == []


async def test_the_app_hears_nothing_of_plaintext_on_a_port_that_became_strict(world: World) -> None:
    app = world.listening()
    rig = world.rig(inbound(app.getsockname(), mode=Mode.PERMISSIVE))
    sock = await world.dial(rig.address())
    await rig.recorder.until_polled(lambda: rig.worker.connections, "accepted")
    rig.apply(config_of(inbound(app.getsockname(), mode=Mode.STRICT)))
    await blocking(sock.sendall, b"GET / HTTP/1.1\r\n\r\n")
    assert await rig.recorder.reason() is Reason.POLICY_CHANGED
    assert rig.recorder.of(Dialed) == []
