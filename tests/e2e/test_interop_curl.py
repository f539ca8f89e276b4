"""curl as a client of our inbound listener, and of an app's plaintext port that leads through our outbound one."""

import subprocess
from collections.abc import Callable

import pytest

from tests.e2e.apps import App, Serve, http_hello
from tests.e2e.pki import Identity, Pki
from tests.e2e.sidecar import Sidecar, inbound, outbound
from tests.e2e.waiting import PATIENCE_S, Address, text_of
from tests.programs import program

pytestmark = pytest.mark.needs("curl")

TOO_FEW_BYTES = (52, 56)  # curl's exit status for an empty reply, and for a failed read
HANDSHAKE_FAILED = (35, 56)  # ... for an alert inside the handshake, and (TLS 1.3) right after the client's end of it
UNKNOWN_ISSUER = 60

each_version = pytest.mark.parametrize("version", ["1.2", "1.3"])


def curl(*args: str) -> subprocess.CompletedProcess[str]:
    """Run curl: its body on stdout, its complaint on stderr."""
    argv = [program("curl"), "--silent", "--show-error", "--noproxy", "*", "--max-time", f"{PATIENCE_S:g}", *args]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def https(server: Identity, address: Address, *args: str) -> subprocess.CompletedProcess[str]:
    """Ask for / by the server's DNS name, which curl finds in the SVID beside the SPIFFE ID."""
    host, port = address
    resolve = ("--resolve", f"{server.host}:{port}:{host}")
    return curl(*resolve, "--cacert", str(server.bundle), *args, f"https://{server.host}:{port}/")


def presenting(identity: Identity) -> tuple[str, ...]:
    """curl's options for a client certificate."""
    return "--cert", str(identity.cert), "--key", str(identity.key)


def only(version: str) -> tuple[str, ...]:
    """curl's options for one TLS version."""
    return f"--tlsv{version}", "--tls-max", version


@pytest.fixture
def server(pki: Pki) -> Identity:
    return pki.identity("web")


@pytest.fixture
def app(start_app: Callable[[Serve], App]) -> App:
    return start_app(http_hello)


@pytest.fixture
def strict(start_sidecar: Callable[..., Sidecar], server: Identity, app: App) -> Sidecar:
    """An inbound STRICT listener before the app."""
    return start_sidecar(server, inbound=[inbound("in", app.address)])


@each_version
def test_curl_with_an_svid_is_served(strict: Sidecar, server: Identity, pki: Pki, version: str) -> None:
    client = pki.identity("cart")
    asked = https(server, strict.at("in"), *presenting(client), *only(version))
    assert (asked.stdout, asked.returncode) == ("hello", 0), asked.stderr
    (line,) = strict.closed(1)
    assert line["reason"] == "COMPLETED", line["detail"]
    tls = line["tls"]
    assert (tls["version"], tls["peer_spiffe_id"], tls["sni"]) == (f"TLSv{version}", client.spiffe_id, server.host)


@each_version
def test_curl_without_a_certificate_is_told_so(strict: Sidecar, server: Identity, app: App, version: str) -> None:
    asked = https(server, strict.at("in"), *only(version))
    assert asked.returncode in HANDSHAKE_FAILED
    assert "alert" in asked.stderr
    (line,) = strict.closed(1)
    assert (line["reason"], app.accepted) == ("NO_CLIENT_CERTIFICATE", 0)


@each_version
def test_curl_with_a_certificate_of_another_ca_is_told_so(
    strict: Sidecar, server: Identity, app: App, pki: Pki, version: str
) -> None:
    asked = https(server, strict.at("in"), *presenting(pki.identity("cart", issuer=pki.stranger)), *only(version))
    assert asked.returncode in HANDSHAKE_FAILED
    assert "unknown ca" in asked.stderr
    (line,) = strict.closed(1)
    assert (line["reason"], app.accepted) == ("UNKNOWN_AUTHORITY", 0)


@each_version
def test_curl_that_does_not_trust_our_ca_leaves_with_an_alert(strict: Sidecar, pki: Pki, version: str) -> None:
    client = pki.identity("cart", trust=pki.stranger)
    host, port = strict.at("in")
    name = f"web.{pki.authority.trust_domain}"
    trusting_another = ("--cacert", str(client.bundle), "--resolve", f"{name}:{port}:{host}")
    asked = curl(*trusting_another, *presenting(client), *only(version), f"https://{name}:{port}/")
    assert asked.returncode == UNKNOWN_ISSUER
    (line,) = strict.closed(1)
    assert (line["reason"], "unknown_ca" in line["detail"]) == ("HANDSHAKE_FAILED", True), line["detail"]


def test_plaintext_curl_is_refused_by_a_strict_port(strict: Sidecar, app: App) -> None:
    asked = curl(f"http://{text_of(strict.at('in'))}/")
    assert (asked.stdout, asked.returncode in TOO_FEW_BYTES) == ("", True), asked.stderr
    (line,) = strict.closed(1)
    assert (line["reason"], app.accepted) == ("PLAINTEXT_REFUSED", 0)


def test_plaintext_curl_and_curl_with_an_svid_are_both_served_by_a_permissive_port(
    start_sidecar: Callable[..., Sidecar], server: Identity, app: App, pki: Pki
) -> None:
    sidecar = start_sidecar(server, inbound=[inbound("in", app.address, mode="PERMISSIVE")])
    assert curl(f"http://{text_of(sidecar.at('in'))}/").stdout == "hello"
    assert https(server, sidecar.at("in"), *presenting(pki.identity("cart"))).stdout == "hello"
    assert sorted(line["security"] for line in sidecar.closed(2)) == ["mutual_tls", "plaintext"]


def test_curl_settles_on_http_1_where_the_listener_says_so(
    start_sidecar: Callable[..., Sidecar], server: Identity, app: App, pki: Pki
) -> None:
    sidecar = start_sidecar(server, inbound=[inbound("in", app.address, alpn=["http/1.1"])])
    assert https(server, sidecar.at("in"), *presenting(pki.identity("cart"))).stdout == "hello"
    (line,) = sidecar.closed(1)
    assert line["tls"]["alpn"] == "http/1.1"


@each_version
def test_plaintext_curl_crosses_two_sidecars(
    start_sidecar: Callable[..., Sidecar], strict: Sidecar, pki: Pki, server: Identity, version: str
) -> None:
    client = pki.identity("cart")
    calls = outbound("out", strict.at("in"), server_ids=[server.spiffe_id])
    sidecar = start_sidecar(client, outbound=[calls], tls={"min_version": version, "max_version": version})
    assert curl(f"http://{text_of(sidecar.at('out'))}/").stdout == "hello"
    (ours,), (theirs,) = sidecar.closed(1), strict.closed(1)
    assert (ours["tls"]["version"], ours["tls"]["peer_spiffe_id"]) == (f"TLSv{version}", server.spiffe_id)
    assert theirs["tls"]["peer_spiffe_id"] == client.spiffe_id
    assert (ours["reason"], theirs["reason"]) == ("COMPLETED", "COMPLETED")
