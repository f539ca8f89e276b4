"""
The PROXY v2 header as the app gets it, read here by a reader of its own: who connected from where, and, with v2-tls,
whose identity was verified.

Source: HAProxy's proxy-protocol.txt, sections 2.2 (the header) and 2.2.5 (TLVs and the SSL TLV); 0xE1 is this project's
"""

import queue
import socket
import ssl
import struct
from collections.abc import Callable
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests import minting
from tests.e2e.apps import App, Serve, echo, exchange
from tests.e2e.pki import Identity, Pki
from tests.e2e.sidecar import Sidecar, inbound
from tests.e2e.tlspeers import HELLO, ask, client_context, connect
from tests.e2e.waiting import PATIENCE_S, text_of

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
ALPN, AUTHORITY, SSL, SPIFFE_ID = 0x01, 0x02, 0x20, 0xE1
VERSION, CN, CIPHER, KEY_ALG, GROUP, CLIENT_CERT = 0x21, 0x22, 0x23, 0x25, 0x26, 0x28
IS_SSL, CERT_CONN, CERT_SESS = 0x01, 0x02, 0x04

Start = Callable[..., Sidecar]
each_version = pytest.mark.parametrize("version", ["1.2", "1.3"])


class Header(NamedTuple):
    """tlvs: of the header; ssl: those inside the SSL TLV; client, verify: its fields."""

    source: str
    destination: str
    tlvs: dict[int, bytes]
    client: int
    verify: int
    ssl: dict[int, bytes]


Headers = queue.Queue[Header]


def read_exactly(sock: socket.socket, count: int) -> bytes:
    return sock.recv(count, socket.MSG_WAITALL)


def read_header(sock: socket.socket) -> Header:
    signature, command, family, length = struct.unpack("!12sBBH", read_exactly(sock, 16))
    assert (signature, command) == (SIGNATURE, 0x21)
    block = read_exactly(sock, length)
    assert family == 0x11  # TCP over IPv4
    source, destination, source_port, destination_port = struct.unpack("!4s4sHH", block[:12])
    tlvs = read_tlvs(block[12:])
    client, verify, inner = 0, 0, b""
    if SSL in tlvs:
        (client, verify), inner = struct.unpack("!BI", tlvs[SSL][:5]), tlvs[SSL][5:]
    return Header(
        text_of((socket.inet_ntoa(source), source_port)),
        text_of((socket.inet_ntoa(destination), destination_port)),
        tlvs,
        client,
        verify,
        read_tlvs(inner),
    )


def read_tlvs(block: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while block:
        kind, length = struct.unpack("!BH", block[:3])
        assert kind not in found
        assert len(block) >= 3 + length
        found[kind], block = block[3 : 3 + length], block[3 + length :]
    return found


@pytest.fixture
def headers() -> Headers:
    """What the app has read, one header a connection."""
    return queue.Queue()


@pytest.fixture
def app(start_app: Callable[[Serve], App], headers: Headers) -> App:
    def serve(sock: socket.socket) -> None:
        headers.put(read_header(sock))
        echo(sock)

    return start_app(serve)


def call(
    sidecar: Sidecar, context: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> tuple[ssl.SSLSession, str]:
    """A conversation from its start to its end. Returns: what to resume with, and the client's address"""
    with connect(sidecar.at("in"), context, session=session, sni="web.example.org") as sock:
        assert ask(sock) == HELLO
        address, fresh = text_of(sock.getsockname()), sock.session
        sock.unwrap().close()
    assert fresh is not None
    return fresh, address


@each_version
def test_v2_tls_tells_who_was_verified_full_and_resumed(
    start_sidecar: Start, app: App, headers: Headers, web: Identity, pki: Pki, version: str
) -> None:
    sidecar = start_sidecar(web, inbound=[inbound("in", app.address, proxy_protocol="v2-tls", alpn=["h2"])])
    svid = minting.svid(pki.authority, common_name="the cart")
    context = client_context(pki.write(svid), trust=web.bundle, version=version)
    context.set_alpn_protocols(["h2"])
    session, client = call(sidecar, context)
    full = headers.get(timeout=PATIENCE_S)
    assert (full.source, full.destination) == (client, text_of(sidecar.at("in")))
    assert (full.tlvs[ALPN], full.tlvs[AUTHORITY], full.tlvs[SPIFFE_ID]) == (
        b"h2",
        b"web.example.org",
        minting.CART.encode(),
    )
    assert (full.client, full.verify) == (IS_SSL | CERT_CONN | CERT_SESS, 0)
    assert (full.ssl[VERSION], full.ssl[CN], full.ssl[KEY_ALG]) == (f"TLSv{version}".encode(), b"the cart", b"EC256")
    assert full.ssl[CLIENT_CERT] == svid.leaf.public_bytes(Encoding.DER)
    assert x509.load_der_x509_certificate(full.ssl[CLIENT_CERT]) == svid.leaf
    (line,) = sidecar.closed()
    assert (full.ssl[CIPHER].decode(), full.ssl[GROUP].decode()) == (line["tls"]["cipher"], line["tls"]["group"])

    call(sidecar, context, session)
    resumed = headers.get(timeout=PATIENCE_S)
    assert sidecar.closed(2)[1]["tls"]["resumed"] is True
    assert (resumed.client, resumed.verify) == (IS_SSL | CERT_SESS, 0)
    same = (SPIFFE_ID, ALPN, AUTHORITY)
    assert {kind: resumed.tlvs[kind] for kind in same} == {kind: full.tlvs[kind] for kind in same}
    assert {kind: resumed.ssl[kind] for kind in (CN, CLIENT_CERT, VERSION)} == {
        kind: full.ssl[kind] for kind in (CN, CLIENT_CERT, VERSION)
    }


def test_without_a_common_name_none_is_sent(
    start_sidecar: Start, app: App, headers: Headers, web: Identity, pki: Pki
) -> None:
    sidecar = start_sidecar(web, inbound=[inbound("in", app.address, proxy_protocol="v2-tls")])
    call(sidecar, client_context(pki.identity("cart"), trust=web.bundle))
    header = headers.get(timeout=PATIENCE_S)
    assert (CN in header.ssl, ALPN in header.tlvs, header.tlvs[SPIFFE_ID]) == (False, False, minting.CART.encode())


def test_plain_v2_tells_the_addresses_alone(
    start_sidecar: Start, app: App, headers: Headers, web: Identity, pki: Pki
) -> None:
    sidecar = start_sidecar(web, inbound=[inbound("in", app.address, proxy_protocol="v2")])
    _, client = call(sidecar, client_context(pki.identity("cart"), trust=web.bundle))
    header = headers.get(timeout=PATIENCE_S)
    assert (header.source, header.destination, header.tlvs) == (client, text_of(sidecar.at("in")), {})


@pytest.mark.parametrize("mode", ["PERMISSIVE", "DISABLE"])
@pytest.mark.parametrize("kind", ["v2", "v2-tls"])
def test_plaintext_gets_its_addresses_and_no_identity(
    start_sidecar: Start, app: App, headers: Headers, web: Identity, mode: str, kind: str
) -> None:
    sidecar = start_sidecar(web, inbound=[inbound("in", app.address, mode=mode, proxy_protocol=kind)])
    with socket.create_connection(sidecar.at("in"), timeout=PATIENCE_S) as sock:
        client = text_of(sock.getsockname())
        assert ask(sock) == HELLO
    header = headers.get(timeout=PATIENCE_S)
    assert (header.source, header.client, SPIFFE_ID in header.tlvs, SSL in header.tlvs) == (client, 0, False, False)
    (line,) = sidecar.closed()
    assert line["bytes_received"] == len(HELLO)  # the header is ours, and counts as nobody's bytes


def test_a_server_that_speaks_first_gets_the_header_before_it_speaks(
    start_sidecar: Start, start_app: Callable[[Serve], App], headers: Headers, web: Identity
) -> None:
    def greet(sock: socket.socket) -> None:
        headers.put(read_header(sock))
        sock.sendall(HELLO)
        echo(sock)

    keys = {"mode": "PERMISSIVE", "server_first": True, "server_first_hold_s": 0.1}
    listener = inbound("in", start_app(greet).address, proxy_protocol="v2-tls", **keys)
    sidecar = start_sidecar(web, inbound=[listener])
    assert exchange(sidecar.at("in"), b"", expect=len(HELLO)) == HELLO
    assert headers.get(timeout=PATIENCE_S).client == 0
