"""
HAProxy, nginx, stunnel and Envoy as mutual-TLS peers, in both directions, over TLS 1.2 and 1.3.

As clients they talk to our inbound listener, as servers they stand behind our outbound one. Each pair is shown working,
refused by us, and refusing us; every refusal has its word in our log, and nothing of a refused peer reaches an app.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.apps import App, Serve, echo, exchange
from tests.e2e.peers import Peer
from tests.e2e.pki import Identity, Pki
from tests.e2e.proxies import PROXIES, Link
from tests.e2e.sidecar import Line, Sidecar, inbound, outbound
from tests.e2e.waiting import Address, free_address

DATA = bytes(range(256)) * 800  # 200 KiB: many TLS records, more than any socket buffer along the way takes at once

each_proxy = pytest.mark.parametrize("proxy", [pytest.param(name, marks=pytest.mark.needs(name)) for name in PROXIES])
each_version = pytest.mark.parametrize("version", ["1.2", "1.3"])


class Scene:
    """One proxy and one sidecar in a row, an echo app at the end; whose certificate comes from where is the test's."""

    def __init__(
        self,
        start_sidecar: Callable[..., Sidecar],
        start_peer: Callable[..., Peer],
        start_app: Callable[[Serve], App],
        folder: Path,
        proxy: str,
        version: str,
    ) -> None:
        self._start_sidecar = start_sidecar
        self._start_peer = start_peer
        self._folder = folder
        self._proxy = PROXIES[proxy]
        self._version = version
        self.app = start_app(echo)
        self.sidecar: Sidecar
        self.peer: Peer
        self._entrance: Address

    def proxy_before_inbound(self, theirs: Identity, ours: Identity) -> None:
        """Client -> proxy -> mutual TLS -> sidecar -> app."""
        self.sidecar = self._start_sidecar(ours, inbound=[inbound("in", self.app.address)])
        link = Link(free_address(), self.sidecar.at("in"), theirs, self._version, ours.host)
        self.peer = self._start_peer(self._proxy.client(self._folder, link), listening=link.listen)
        self._entrance = link.listen

    def outbound_before_proxy(self, ours: Identity, theirs: Identity) -> None:
        """Client -> sidecar -> mutual TLS -> proxy -> app."""
        link = Link(free_address(), self.app.address, theirs, self._version)
        self.peer = self._start_peer(self._proxy.server(self._folder, link), listening=link.listen)
        server_ids = [theirs.spiffe_id]
        self.sidecar = self._start_sidecar(ours, outbound=[outbound("out", link.listen, server_ids=server_ids)])
        self._entrance = self.sidecar.at("out")

    def exchange(self, data: bytes = DATA) -> bytes:
        """Send this in at the front, and return what came back."""
        return exchange(self._entrance, data, expect=len(DATA))

    def refused(self, data: bytes = DATA) -> Line:
        """Send this, see that nothing of it came through, and return our line about it."""
        assert self.exchange(data) == b""
        (line,) = self.sidecar.closed(1)
        assert self.app.accepted == 0
        return line


@pytest.fixture
def scene(
    start_sidecar: Callable[..., Sidecar],
    start_peer: Callable[..., Peer],
    start_app: Callable[[Serve], App],
    tmp_path: Path,
    proxy: str,
    version: str,
) -> Scene:
    """Made for the proxy and the version of the test's parameters."""
    return Scene(start_sidecar, start_peer, start_app, tmp_path, proxy, version)


@each_version
@each_proxy
def test_a_proxy_reaches_the_app_through_our_inbound(scene: Scene, pki: Pki, version: str) -> None:
    theirs = pki.identity("proxy")
    scene.proxy_before_inbound(theirs, pki.identity("app"))
    assert scene.exchange() == DATA
    (line,) = scene.sidecar.closed(1)
    assert (line["tls"]["version"], line["tls"]["peer_spiffe_id"]) == (f"TLSv{version}", theirs.spiffe_id)
    assert (line["bytes_received"], line["bytes_sent"]) == (len(DATA), len(DATA))


@each_version
@each_proxy
def test_a_proxy_of_an_unknown_authority_does_not_reach_the_app(scene: Scene, pki: Pki) -> None:
    theirs = pki.identity("proxy", issuer=pki.stranger)
    scene.proxy_before_inbound(theirs, pki.identity("app"))
    line = scene.refused()
    assert (line["reason"], line["tls"]["peer_spiffe_id"]) == ("UNKNOWN_AUTHORITY", theirs.spiffe_id)


@each_version
@each_proxy
def test_a_proxy_that_does_not_trust_our_inbound_sends_it_nothing(scene: Scene, pki: Pki, proxy: str) -> None:
    scene.proxy_before_inbound(pki.identity("proxy", trust=pki.stranger), pki.identity("app"))
    assert scene.exchange() == b""
    (line,) = scene.sidecar.closed(1)
    assert (line["bytes_received"], line["bytes_sent"]) == (0, 0)
    if PROXIES[proxy].judges_inside:
        assert (line["reason"], scene.app.accepted) == ("HANDSHAKE_FAILED", 0)
        assert "the peer sent the alert" in line["detail"]


@each_version
@each_proxy
def test_our_outbound_reaches_the_app_behind_a_proxy(scene: Scene, pki: Pki, version: str) -> None:
    theirs = pki.identity("proxy")
    scene.outbound_before_proxy(pki.identity("app"), theirs)
    assert scene.exchange() == DATA
    (line,) = scene.sidecar.closed(1)
    assert (line["tls"]["version"], line["tls"]["peer_spiffe_id"]) == (f"TLSv{version}", theirs.spiffe_id)
    assert (line["bytes_received"], line["bytes_sent"]) == (len(DATA), len(DATA))


@each_version
@each_proxy
def test_our_outbound_comes_back_to_a_proxy_with_its_session(scene: Scene, pki: Pki) -> None:
    scene.outbound_before_proxy(pki.identity("app"), pki.identity("proxy"))
    assert [scene.exchange(), scene.exchange()] == [DATA, DATA]
    assert [line["tls"]["resumed"] for line in scene.sidecar.closed(2)] == [False, True]


@each_version
@each_proxy
def test_our_outbound_refuses_a_proxy_of_an_unknown_authority(scene: Scene, pki: Pki) -> None:
    theirs = pki.identity("proxy", issuer=pki.stranger)
    scene.outbound_before_proxy(pki.identity("app"), theirs)
    line = scene.refused()
    assert (line["reason"], line["tls"]["peer_spiffe_id"]) == ("UNKNOWN_AUTHORITY", theirs.spiffe_id)


@each_version
@each_proxy
def test_a_proxy_that_refuses_our_certificate_is_reported_as_that(scene: Scene, pki: Pki) -> None:
    theirs = pki.identity("proxy", trust=pki.stranger)
    scene.outbound_before_proxy(pki.identity("app"), theirs)
    line = scene.refused(b"")  # a client that waits: how it ends is then the proxy's doing alone
    assert (line["reason"], line["tls"]["peer_spiffe_id"]) == ("UPSTREAM_REJECTED_US", theirs.spiffe_id)


@each_version
@each_proxy
def test_a_refusal_is_no_success_either_when_the_client_speaks_at_once(scene: Scene, pki: Pki, proxy: str) -> None:
    scene.outbound_before_proxy(pki.identity("app"), pki.identity("proxy", trust=pki.stranger))
    line = scene.refused()
    if PROXIES[proxy].judges_inside or line["reason"] != "RESET":
        assert line["reason"] == "UPSTREAM_REJECTED_US"
    else:  # its kernel answers what it left unread with a reset, as that of an app that crashed would
        assert "it may have refused our certificate" in line["detail"]
