"""
`openssl s_client` comes back with the session that we gave it, in TLS 1.2 and 1.3.

A resumed handshake shows no certificate, so a server that relies on OpenSSL alone lets in whoever was good once: in
their default settings HAProxy, nginx and stunnel serve a client whose certificate has expired since. We judge it again.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import minting
from tests.e2e.apps import App, Serve, http_hello
from tests.e2e.pki import Identity, Pki
from tests.e2e.sidecar import Sidecar, inbound
from tests.e2e.test_interop_openssl import each_version, presenting, s_client, version_option
from tests.e2e.waiting import Address, until

pytestmark = pytest.mark.needs("openssl")

REQUEST = "GET / HTTP/1.1\r\n\r\n"
SHORT_S = 3  # long enough for a first handshake on a busy machine


@pytest.fixture
def app(start_app: Callable[[Serve], App]) -> App:
    return start_app(http_hello)


@pytest.fixture
def sidecar(start_sidecar: Callable[..., Sidecar], pki: Pki, app: App) -> Sidecar:
    """Two inbound STRICT listeners before the app; `other` lets nobody in whom these tests send."""
    nobody = ["spiffe://example.org/ns/shop/sa/nobody"]
    listeners = [inbound("in", app.address), inbound("other", app.address, allow=nobody)]
    return start_sidecar(pki.identity("web"), inbound=listeners)


class Client:
    """An s_client with one identity, one TLS version and a file for its session."""

    def __init__(self, identity: Identity, version: str, session: Path) -> None:
        self._options = (*presenting(identity), version_option(version))
        self._session = session

    def visit(self, address: Address) -> str:
        """A full handshake, whose session is kept. Returns: what came."""
        return s_client(address, *self._options, "-sess_out", str(self._session), send=REQUEST).stdout

    def come_back(self, address: Address) -> str:
        """Offer the session that was kept. Returns: what came."""
        assert self._session.exists(), "the server gave no session"
        return s_client(address, *self._options, "-sess_in", str(self._session), send=REQUEST).stdout


@each_version
def test_a_session_is_resumed_and_the_log_says_who_it_is(
    sidecar: Sidecar, pki: Pki, tmp_path: Path, version: str
) -> None:
    identity = pki.identity("cart")
    client = Client(identity, version, tmp_path / "session")
    assert client.visit(sidecar.at("in")).endswith("hello")
    assert client.come_back(sidecar.at("in")).endswith("hello")
    first, second = (line["tls"] for line in sidecar.closed(2))
    assert (first["resumed"], second["resumed"]) == (False, True)
    assert second["peer_spiffe_id"] == identity.spiffe_id
    assert second["version"] == f"TLSv{version}"


@each_version
def test_a_session_does_not_outlive_the_certificate_that_began_it(
    sidecar: Sidecar, app: App, pki: Pki, tmp_path: Path, version: str
) -> None:
    svid = minting.svid(pki.authority, lifetime_s=SHORT_S)
    client = Client(pki.write(svid), version, tmp_path / "session")
    assert client.visit(sidecar.at("in")).endswith("hello")
    until(lambda: minting.clock() > svid.leaf.not_valid_after_utc, "the certificate has expired")
    assert client.come_back(sidecar.at("in")) == ""
    _, refused = sidecar.closed(2)
    assert (refused["reason"], app.accepted) == ("CERTIFICATE_EXPIRED", 1)


@each_version
def test_a_session_of_one_listener_opens_no_other(
    sidecar: Sidecar, app: App, pki: Pki, tmp_path: Path, version: str
) -> None:
    client = Client(pki.identity("cart"), version, tmp_path / "session")
    assert client.visit(sidecar.at("in")).endswith("hello")
    assert client.come_back(sidecar.at("other")) == ""
    _, refused = sidecar.closed(2)
    assert (refused["listener"], refused["reason"], app.accepted) == ("other", "NOT_ALLOWED", 1)
