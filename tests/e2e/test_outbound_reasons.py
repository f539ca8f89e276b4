"""
What is wrong with an upstream, as our outbound listener tells it: the same words as for a client, not one byte of the
app's has gone out, and the app sees a reset, since an end in order would look like an empty answer.
"""

import socket
import ssl
import struct
from collections.abc import Callable

import pytest

from proxy.core.reasons import EXPLANATIONS
from proxy.tls.authority import Svid
from tests import minting
from tests.e2e.apps import App, Serve, exchange
from tests.e2e.pki import Identity, Pki
from tests.e2e.sidecar import Line, Sidecar, outbound
from tests.e2e.tlspeers import HELLO, VERSIONS, what_is_seen

Start = Callable[..., Sidecar]
SERVER = "spiffe://example.org/ns/shop/sa/server"

CERTIFICATES: dict[str, Callable[[Pki], Svid]] = {
    "UNKNOWN_AUTHORITY": lambda pki: minting.svid(pki.stranger, SERVER),
    "CERTIFICATE_EXPIRED": lambda pki: minting.expired(pki.authority, SERVER),
    "CERTIFICATE_NOT_YET_VALID": lambda pki: minting.not_yet_valid(pki.authority, SERVER),
    "CERTIFICATE_INVALID": lambda pki: minting.svid(
        pki.authority.intermediate(now=minting.clock(), lifetime_s=3600).intermediate(
            now=minting.clock(), lifetime_s=3600
        ),
        SERVER,
    ),  # the path length of the upper intermediate is zero
    "NOT_AN_SVID": lambda pki: minting.with_extended_key_usage(pki.authority, minting.SERVER_AUTH),
    "SPIFFE_ID_MALFORMED": lambda pki: minting.with_uris(pki.authority, "https://example.org/server"),
    "WRONG_TRUST_DOMAIN": lambda pki: minting.svid(minting.authority("elsewhere.example")),
    "SERVER_ID_MISMATCH": lambda pki: minting.svid(pki.authority, f"{SERVER}-2"),
}
UNNAMED = ("SPIFFE_ID_MALFORMED",)  # there is no identity to name; this NOT_AN_SVID has one, and one use too few


def tls_server(identity: Identity, received: list[bytes], *, ciphers: str | None = None, **options: object) -> Serve:
    """A TLS server that keeps what it gets; it asks for no certificate, so whatever fails fails on our side."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.cert, identity.key)
    if ciphers is not None:
        context.set_ciphers(ciphers)
    for name, value in options.items():
        setattr(context, name, value)

    def serve(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_side=True) as encrypted:
            received.append(encrypted.recv(100))

    return serve


@pytest.fixture
def refused(start_sidecar: Start, start_app: Callable[[Serve], App], pki: Pki) -> Callable[..., Line]:
    """`refused(serve, **sections)`: an app calls this upstream through our sidecar. Returns: the line of it."""

    def call(serve: Serve, **sections: object) -> Line:
        calls = outbound("out", start_app(serve).address, server_ids=[SERVER])
        sidecar = start_sidecar(pki.identity("cart"), outbound=[calls], **sections)
        assert what_is_seen(sidecar.at("out"), None) == "reset"
        (line,) = sidecar.closed()
        assert line["advice"] == EXPLANATIONS[line["reason"]].advice
        assert sidecar.metric("rejected_total", direction="outbound", listener="out", reason=line["reason"]) == 1
        return line

    return call


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("reason", CERTIFICATES)
def test_a_servers_certificate_is_judged_as_a_clients_is(
    refused: Callable[..., Line], pki: Pki, reason: str, version: str
) -> None:
    received: list[bytes] = []
    svid = CERTIFICATES[reason](pki)
    server = tls_server(pki.write(svid), received, minimum_version=VERSIONS[version], maximum_version=VERSIONS[version])
    line = refused(server)
    assert (line["reason"], received) == (reason, []), line["detail"]
    assert line["tls"]["peer_spiffe_id"] == (None if reason in UNNAMED else svid.spiffe_id)
    if "EXPIRED" in reason or "NOT_YET" in reason:
        assert "our clock says" in line["detail"]


def speak_plaintext(sock: socket.socket) -> None:
    sock.recv(100)
    sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def hang_up(sock: socket.socket) -> None:
    sock.recv(1)


def reset(sock: socket.socket) -> None:
    sock.recv(1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.parametrize(
    ("serve", "reason"),
    [(speak_plaintext, "NOT_TLS"), (hang_up, "HANDSHAKE_FAILED"), (reset, "HANDSHAKE_FAILED")],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_an_upstream_that_is_no_tls_server_is_said_to_be_none(
    refused: Callable[..., Line], serve: Serve, reason: str
) -> None:
    line = refused(serve)
    assert line["reason"] == reason, line["detail"]
    assert line["upstream_address"] is not None


def test_an_upstream_with_an_older_tls_is_told_apart(refused: Callable[..., Line], pki: Pki) -> None:
    old = tls_server(pki.identity("server"), [], maximum_version=VERSIONS["1.2"])
    assert refused(old, tls={"min_version": "1.3"})["reason"] == "UNSUPPORTED_TLS_VERSION"


def test_an_upstream_that_shares_no_cipher_is_told_apart(refused: Callable[..., Line], pki: Pki) -> None:
    other = tls_server(
        pki.identity("server"), [], ciphers="ECDHE-ECDSA-AES128-SHA256", maximum_version=VERSIONS["1.2"]
    )  # CBC
    line = refused(other)
    assert line["reason"] == "NO_SHARED_CIPHER", line["detail"]


def test_an_upstream_that_asks_for_no_certificate_is_served_all_the_same(
    start_sidecar: Start, start_app: Callable[[Serve], App], pki: Pki
) -> None:
    received: list[bytes] = []
    server = start_app(tls_server(pki.identity("server"), received))
    sidecar = start_sidecar(pki.identity("cart"), outbound=[outbound("out", server.address, server_ids=[SERVER])])
    exchange(sidecar.at("out"), HELLO)
    sidecar.closed()
    assert received == [HELLO]
