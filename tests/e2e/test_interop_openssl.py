"""`openssl s_client` and `s_server` as peers: what they see of us, and what we say about them, in TLS 1.2 and 1.3."""

import subprocess
import threading
from collections.abc import Callable
from typing import IO

import pytest

from tests.e2e.apps import App, exchange
from tests.e2e.peers import Peer
from tests.e2e.pki import Identity, Pki
from tests.e2e.sidecar import Sidecar, inbound, outbound
from tests.e2e.waiting import PATIENCE_S, Address, free_address, text_of, until
from tests.programs import program

pytestmark = pytest.mark.needs("openssl")

LEAVE_FIRST = "-no_ign_eof"  # s_client ends TLS properly when there is nothing more to send

each_version = pytest.mark.parametrize("version", ["1.2", "1.3"])


def version_option(version: str) -> str:
    """E.g. -tls1_3."""
    return f"-tls{version.replace('.', '_')}"


def s_client(address: Address, *args: str, send: str = "") -> subprocess.CompletedProcess[str]:
    """Connect, send, and stay until the server ends (LEAVE_FIRST: not that long). stdout: what came."""
    argv = [program("openssl"), "s_client", "-connect", text_of(address), "-quiet", *args]
    return subprocess.run(argv, input=send, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def s_server(listen: Address, identity: Identity, *args: str) -> list[str]:
    """A server that demands a certificate and sends each line back, its letters reversed."""
    files = ["-cert", str(identity.cert), "-key", str(identity.key), "-CAfile", str(identity.bundle)]
    mutual = ["-Verify", "1", "-verify_return_error"]
    return [program("openssl"), "s_server", "-accept", text_of(listen), "-rev", *files, *mutual, *args]


def presenting(identity: Identity) -> tuple[str, ...]:
    """What s_client presents, and whom it trusts."""
    ours = ("-cert", str(identity.cert), "-key", str(identity.key))
    return *ours, "-CAfile", str(identity.bundle), "-verify_return_error"


@pytest.fixture
def strict(start_sidecar: Callable[..., Sidecar], pki: Pki, app: App) -> Sidecar:
    """An inbound STRICT listener before the app."""
    return start_sidecar(pki.identity("web"), inbound=[inbound("in", app.address)])


@each_version
def test_s_client_gets_its_bytes_back_and_sees_tls_end_properly(strict: Sidecar, pki: Pki, version: str) -> None:
    client = pki.identity("cart")
    line_by_line = "".join(f"line {number}\n" for number in range(2000))
    asked = s_client(strict.at("in"), *presenting(client), version_option(version), LEAVE_FIRST, send=line_by_line)
    (line,) = strict.closed(1)
    assert (line["tls"]["version"], line["tls"]["peer_spiffe_id"]) == (f"TLSv{version}", client.spiffe_id)
    assert line["bytes_received"] == len(line_by_line)
    assert line_by_line.startswith(asked.stdout)  # it leaves at the end of its input, whatever is still on the way
    assert "error" not in asked.stderr


def test_s_client_renews_its_keys_and_asks_for_new_ones_of_ours(strict: Sidecar, pki: Pki) -> None:
    """RFC 8446 4.6.3: each KeyUpdate that asks for one is answered before our next bytes."""
    argv = [program("openssl"), "s_client", "-connect", text_of(strict.at("in")), "-tls1_3", "-quiet", LEAVE_FIRST]
    argv += presenting(pki.identity("cart"))
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, text=True, stdin=pipe, stdout=pipe, stderr=pipe) as client:
        deadline = threading.Timer(PATIENCE_S, client.kill)
        deadline.start()
        for number in range(5):
            _type(client, "K")  # s_client's command for it, alone in what it reads
            assert _seen(client.stderr, "KEYUPDATE")
            _type(client, f"line {number}")
            assert _seen(client.stdout, f"line {number}")
        deadline.cancel()
        _type(client, "Q")
    (line,) = strict.closed(1)
    assert (line["reason"], line["bytes_sent"]) == ("COMPLETED", 5 * len("line 0\n")), line


def _type(client: "subprocess.Popen[str]", line: str) -> None:
    assert client.stdin is not None
    client.stdin.write(f"{line}\n")
    client.stdin.flush()


def _seen(stream: "IO[str] | None", wanted: str) -> bool:
    """Read on until this line has come; False where the stream ends before."""
    assert stream is not None
    return any(line.strip() == wanted for line in stream)


@each_version
def test_s_client_without_a_certificate_gets_the_alert(strict: Sidecar, app: App, version: str) -> None:
    asked = s_client(strict.at("in"), version_option(version), send="hello\n")
    wanted = {"1.2": "handshake failure", "1.3": "certificate required"}[version]
    assert (wanted in asked.stderr, asked.stdout) == (True, ""), asked.stderr
    (line,) = strict.closed(1)
    assert (line["reason"], app.accepted) == ("NO_CLIENT_CERTIFICATE", 0)


@each_version
def test_s_client_of_another_ca_gets_the_alert(strict: Sidecar, app: App, pki: Pki, version: str) -> None:
    client = pki.identity("cart", issuer=pki.stranger)
    asked = s_client(strict.at("in"), *presenting(client), version_option(version), send="hello\n")
    assert ("unknown ca" in asked.stderr, asked.stdout) == (True, ""), asked.stderr
    (line,) = strict.closed(1)
    assert (line["reason"], app.accepted) == ("UNKNOWN_AUTHORITY", 0)


@each_version
def test_s_client_that_does_not_trust_us_leaves_with_an_alert(strict: Sidecar, pki: Pki, version: str) -> None:
    client = pki.identity("cart", trust=pki.stranger)
    asked = s_client(strict.at("in"), *presenting(client), version_option(version), send="hello\n")
    assert asked.stdout == ""
    (line,) = strict.closed(1)
    assert (line["reason"], "unknown_ca" in line["detail"]) == ("HANDSHAKE_FAILED", True), line["detail"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"), "UNSUPPORTED_TLS_VERSION"),
        (("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256"), "NO_SHARED_CIPHER"),
        (("-tls1_3", "-groups", "X448"), "NO_SHARED_CIPHER"),
    ],
)
def test_s_client_with_nothing_in_common_is_told_apart(
    strict: Sidecar, pki: Pki, options: tuple[str, ...], reason: str
) -> None:
    asked = s_client(strict.at("in"), *presenting(pki.identity("cart")), *options)
    assert "alert" in asked.stderr
    (line,) = strict.closed(1)
    assert line["reason"] == reason, line["detail"]


@each_version
def test_our_outbound_reaches_s_server(
    start_sidecar: Callable[..., Sidecar], start_peer: Callable[..., Peer], pki: Pki, version: str
) -> None:
    theirs, listen = pki.identity("server"), free_address()
    start_peer(s_server(listen, theirs, version_option(version)), listening=listen)
    sidecar = start_sidecar(
        pki.identity("cart"), outbound=[outbound("out", listen, server_ids=[theirs.spiffe_id], sni="a.example.org")]
    )
    assert exchange(sidecar.at("out"), b"hello\n") == b"olleh\n"
    (line,) = sidecar.closed(1)
    tls = line["tls"]
    assert (tls["version"], tls["peer_spiffe_id"], tls["sni"]) == (f"TLSv{version}", theirs.spiffe_id, "a.example.org")


@each_version
def test_an_s_server_that_refuses_our_certificate_is_reported_as_that(
    start_sidecar: Callable[..., Sidecar], start_peer: Callable[..., Peer], pki: Pki, version: str
) -> None:
    theirs, listen = pki.identity("server", trust=pki.stranger), free_address()
    start_peer(s_server(listen, theirs, version_option(version)), listening=listen)
    sidecar = start_sidecar(pki.identity("cart"), outbound=[outbound("out", listen)])
    assert exchange(sidecar.at("out"), b"hello\n") == b""
    (line,) = sidecar.closed(1)
    assert (line["reason"], "unknown_ca" in line["detail"]) == ("UPSTREAM_REJECTED_US", True), line["detail"]


@each_version
def test_an_s_server_with_another_identity_than_expected_is_refused(
    start_sidecar: Callable[..., Sidecar], start_peer: Callable[..., Peer], pki: Pki, version: str
) -> None:
    theirs, listen = pki.identity("server"), free_address()
    server = start_peer(s_server(listen, theirs, version_option(version)), listening=listen)
    expected = ["spiffe://example.org/ns/shop/sa/payments"]
    sidecar = start_sidecar(pki.identity("cart"), outbound=[outbound("out", listen, server_ids=expected)])
    assert exchange(sidecar.at("out"), b"hello\n") == b""
    (line,) = sidecar.closed(1)
    assert (line["reason"], line["tls"]["peer_spiffe_id"]) == ("SERVER_ID_MISMATCH", theirs.spiffe_id)
    until(lambda: "alert" in server.log(), "the server has had an alert")
