"""The app behind the sidecar in `demo` and `dev`: it believes the PROXY header and nothing else."""

import json
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from proxy.cli.childprocess import LoggedProcess
from proxy.cli.sampleapp import LISTENING, MODULE
from proxy.core.proxyprotocol import ClientFlags, IpEndpoint, TlsDetails, encode_v2
from proxy.ops.ownmodule import package_command
from tests.e2e.waiting import PATIENCE_S, Address

CLIENT = IpEndpoint(IPv4Address("192.0.2.1"), 4711)
SERVER = IpEndpoint(IPv4Address("192.0.2.2"), 443)
TLS = TlsDetails(
    client=ClientFlags.SSL, verify=0, version="TLSv1.3", cipher="C", group="G", spiffe_id="spiffe://example.org/cart"
)
GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def app(tmp_path: Path) -> Iterator[LoggedProcess]:
    process = LoggedProcess("app", package_command(MODULE), tmp_path / "app.log")
    yield process
    process.kill()


@pytest.fixture
def address(app: LoggedProcess) -> Address:
    return "127.0.0.1", app.line(lambda line: line.get("event") == LISTENING, "where it listens")["port"]


def bodies(address: Address, *pieces: bytes) -> list[dict[str, object]]:
    """Send pieces, close our side, and read every answer."""
    with socket.create_connection(address, PATIENCE_S) as sock:
        for piece in pieces:
            sock.sendall(piece)
        sock.shutdown(socket.SHUT_WR)
        received = b"".join(iter(lambda: sock.recv(65536), b"")).decode()
    decoder = json.JSONDecoder()
    return [decoder.raw_decode(part)[0] for part in received.split("\r\n\r\n")[1:] if part]


def test_it_says_who_called(address: Address) -> None:
    (body,) = bodies(address, encode_v2(CLIENT, SERVER, TLS), GET)
    assert body == {
        "caller": "spiffe://example.org/cart",
        "address": "192.0.2.1:4711",
        "security": "mutual_tls",
        "tls_version": "TLSv1.3",
        "cipher": "C",
        "group": "G",
        "request": "GET /a",
        "connection": 1,
    }


def test_plaintext_is_nobody(address: Address) -> None:
    (body,) = bodies(address, encode_v2(CLIENT, SERVER), GET)
    assert (body["caller"], body["security"]) == (None, "plaintext")


def test_a_connection_is_kept_alive_and_bodies_are_no_requests(address: Address) -> None:
    post = b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nGET /"
    first, second = bodies(address, encode_v2(CLIENT, SERVER) + post, GET)
    assert [one["request"] for one in (first, second)] == ["POST /b", "GET /a"]
    assert first["connection"] == second["connection"]


@pytest.mark.parametrize("start", [GET, b"", b"\r\n\r\n\0\r\nQUIT\n!"])
def test_without_a_header_nobody_is_served(address: Address, start: bytes) -> None:
    assert bodies(address, start) == []
    assert bodies(address, encode_v2(CLIENT, SERVER), GET)[0]["connection"] == 1


def test_it_ends_with_its_standard_input(app: LoggedProcess, address: Address) -> None:
    assert app.process.stdin is not None
    app.process.stdin.close()
    assert app.process.wait(PATIENCE_S) == 0
