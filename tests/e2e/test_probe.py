"""`probe` against real peers: our own sidecar, OpenSSL's server, nginx, Python's ssl, and whatever else has a port."""

import json
import shlex
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from proxy.cli.main import main
from proxy.tls.authority import Authority
from tests import minting
from tests.e2e.apps import App, Serve, echo, saying
from tests.e2e.peers import Peer
from tests.e2e.pki import Identity, Pki
from tests.e2e.proxies import PROXIES, Link
from tests.e2e.sidecar import Sidecar, inbound, outbound
from tests.e2e.waiting import Address, free_address, text_of
from tests.programs import program

PAYMENTS = "spiffe://example.org/ns/shop/sa/payments"
each_version = pytest.mark.parametrize("version", ["1.2", "1.3"])


class Probed(NamedTuple):
    """What one run said. page: the document of --json."""

    status: int
    page: dict[str, Any]

    @property
    def verdict(self) -> dict[str, Any]:
        verdict: dict[str, Any] = self.page["verdict"]
        return verdict

    def version(self, version: str) -> dict[str, Any]:
        return next(one for one in self.page["versions"] if one["version"] == version)


@pytest.fixture
def probe(capsys: pytest.CaptureFixture[str]) -> Callable[..., Probed]:
    """`probe(ADDRESS, *options)`: the command, its JSON read."""

    def run(address: Address | str | None, *options: str) -> Probed:
        target = text_of(address) if isinstance(address, tuple) else address
        status = main(["probe", *([target] if target else []), "--json", *options])
        captured = capsys.readouterr()
        assert captured.err == ""
        return Probed(status, json.loads(captured.out))

    return run


def as_(identity: Identity, *server_ids: str) -> tuple[str, ...]:
    """The options of a client that trusts its own domain."""
    ids = [word for server_id in server_ids or (PAYMENTS,) for word in ("--server-id", server_id)]
    return (
        "--cert",
        str(identity.cert),
        "--key",
        str(identity.key),
        "--bundle",
        f"example.org={identity.bundle}",
        *ids,
    )


def tls_server(identity: Identity, *, in_order: bool = True, **settings: Any) -> Serve:
    """An app behind Python's ssl that demands a client certificate unless `verify_mode` is given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.cert, identity.key)
    context.load_verify_locations(identity.bundle)
    context.verify_mode = ssl.CERT_REQUIRED
    for name, value in settings.items():
        setattr(context, name, value)

    def serve(sock: socket.socket) -> None:
        try:
            with context.wrap_socket(sock, server_side=True) as encrypted:
                heard.extend(encrypted.recv(1000))
                if in_order:
                    encrypted.unwrap()
        except ssl.SSLError:
            pass

    heard = bytearray()
    serve.heard = heard  # type: ignore[attr-defined]
    return serve


def test_a_sidecar_that_lets_us_in_is_good(
    probe: Callable[..., Probed], start_sidecar: Callable[..., Sidecar], start_app: Callable[[Serve], App], pki: Pki
) -> None:
    sidecar = start_sidecar(pki.identity("payments"), inbound=[inbound("in", start_app(echo).address)])
    found = probe(sidecar.at("in"), *as_(pki.identity("cart")))
    assert (found.status, found.verdict["good"]) == (0, True)
    assert found.page["identity"]["spiffe_id"] == PAYMENTS
    for version in ("1.2", "1.3"):
        seen = found.version(version)
        assert seen["as_asked"]["outcome"] == "accepted"
        assert seen["client_certificate"] == "required"
        assert seen["resumption"] == "works"
    assert found.version("1.3")["without_certificate"]["alert"] == "certificate_required"
    assert found.version("1.2")["without_certificate"]["alert"] == "handshake_failure"
    assert found.page["groups"]["taken"] == ["X25519MLKEM768", "X25519", "P-256", "P-384"]
    assert len(found.page["cipher_suites"]["taken"]) == 3  # those with ECDSA
    assert all("ECDSA" in suite for suite in found.page["cipher_suites"]["taken"])
    assert found.page["groups"]["complete"]
    assert found.page["cipher_suites"]["complete"]


@each_version
def test_a_sidecar_that_does_not_allow_us_is_explained_as_policy(
    probe: Callable[..., Probed],
    start_sidecar: Callable[..., Sidecar],
    start_app: Callable[[Serve], App],
    pki: Pki,
    version: str,
) -> None:
    allow = ["spiffe://example.org/ns/shop/sa/web"]
    listeners = [inbound("in", start_app(echo).address, allow=allow)]
    sidecar = start_sidecar(pki.identity("payments"), inbound=listeners, tls={"max_version": version})
    found = probe(sidecar.at("in"), *as_(pki.identity("cart")), "--quick")
    assert (found.status, found.verdict["reason"]) == (1, "UPSTREAM_REJECTED_US")
    assert found.version(version)["as_asked"]["alert"] in ("certificate_unknown", "access_denied")
    assert "sa/cart" in found.verdict["sentence"]
    assert "allow" in found.verdict["advice"]
    assert found.page["identity"]["verified"]


def test_a_configuration_says_whom_to_probe_as_whom_and_whom_to_expect(
    probe: Callable[..., Probed], start_sidecar: Callable[..., Sidecar], start_app: Callable[[Serve], App], pki: Pki
) -> None:
    upstream = start_sidecar(pki.identity("payments"), inbound=[inbound("in", start_app(echo).address)])
    caller = start_sidecar(
        pki.identity("cart"), outbound=[outbound("payments", upstream.at("in"), server_ids=[PAYMENTS])]
    )
    found = probe(None, "--config", str(caller.file), "--quick")
    assert (found.status, found.page["peer"]) == (0, text_of(upstream.at("in")))
    assert found.verdict["next_command"] == f"mtls-sidecar run --config {caller.file}"


def test_the_listener_of_a_plaintext_app_is_explained(
    probe: Callable[..., Probed], start_sidecar: Callable[..., Sidecar], pki: Pki
) -> None:
    """The admin endpoint: the port beside the one that was meant."""
    sidecar = start_sidecar(pki.identity("payments"), inbound=[inbound("in", free_address())])
    found = probe(sidecar.admin, *as_(pki.identity("cart")))
    assert (found.status, found.verdict["reason"], found.page["protocol"]) == (1, "NOT_TLS", "HTTP")
    assert found.verdict["next_command"] == f"curl --verbose http://{text_of(sidecar.admin)}/"
    assert found.page["connections"] == 1


def test_an_app_that_speaks_first_is_named(
    probe: Callable[..., Probed], start_app: Callable[[Serve], App], pki: Pki
) -> None:
    app = start_app(saying(b"SSH-2.0-OpenSSH_9.2\r\n"))
    found = probe(app.address, *as_(pki.identity("cart")))
    assert (found.status, found.verdict["reason"], found.page["protocol"]) == (1, "NOT_TLS", "SSH")
    assert found.page["greeting"] == "'SSH-2.0-OpenSSH_9.2'"


def test_an_app_that_waits_for_a_line_gives_itself_away_at_our_end(
    probe: Callable[..., Probed], start_app: Callable[[Serve], App]
) -> None:
    def complain(sock: socket.socket) -> None:
        while sock.recv(65536):
            pass
        sock.sendall(b"-ERR unknown command\r\n")

    found = probe(start_app(complain).address, "--timeout", "0.2")
    assert (found.verdict["reason"], found.page["protocol"]) == ("NOT_TLS", "Redis")


def test_an_app_that_closes_at_our_hello_is_explained(
    probe: Callable[..., Probed], start_app: Callable[[Serve], App]
) -> None:
    def close(sock: socket.socket) -> None:
        sock.recv(65536)

    found = probe(start_app(close).address)
    assert (found.status, found.verdict["reason"], found.page["speaks_tls"]) == (1, "HANDSHAKE_FAILED", None)
    assert "without a byte" in found.verdict["sentence"]


@pytest.mark.parametrize(
    ("alert", "reason", "words"),
    [
        (40, "NO_SHARED_CIPHER", "handshake_failure"),
        (71, "NO_SHARED_CIPHER", "insufficient_security"),
        (70, "UNSUPPORTED_TLS_VERSION", "neither of ours: 1.3, 1.2 tried"),
        (80, "HANDSHAKE_FAILED", "something failed inside the peer"),
        (112, "HANDSHAKE_FAILED", "it serves no such server name"),
        (120, "HANDSHAKE_FAILED", "none of the application protocols"),
        (200, "HANDSHAKE_FAILED", "an alert that RFC 8446 does not list"),
    ],
)
def test_an_alert_at_our_hello_is_explained(
    probe: Callable[..., Probed], start_app: Callable[[Serve], App], alert: int, reason: str, words: str
) -> None:
    def refuse(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(bytes([21, 3, 3, 0, 2, 2, alert]))

    found = probe(start_app(refuse).address)
    assert (found.status, found.verdict["reason"], found.page["speaks_tls"]) == (1, reason, True)
    assert words in found.verdict["sentence"]
    assert found.verdict["advice"]
    assert found.page["connections"] == 2  # one for each version, and nothing more is worth asking


def test_a_silent_server_is_called_silent(probe: Callable[..., Probed], start_app: Callable[[Serve], App]) -> None:
    def say_nothing(sock: socket.socket) -> None:
        while sock.recv(65536):
            pass
        ended.wait(60)

    ended = threading.Event()
    app = start_app(say_nothing)
    found = probe(app.address, "--timeout", "0.1")
    ended.set()
    assert (found.status, found.verdict["reason"]) == (1, "UPSTREAM_TIMEOUT")
    assert "silence for 0.1 s" in found.verdict["sentence"]
    assert app.accepted == 1


def test_a_server_that_stops_in_mid_handshake_is_not_waited_for(
    probe: Callable[..., Probed], start_app: Callable[[Serve], App]
) -> None:
    def half_a_record(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(b"\x16\x03\x03\x00\x7a\x02")
        while sock.recv(65536):
            pass

    found = probe(start_app(half_a_record).address, "--timeout", "0.1")
    assert (found.status, found.verdict["reason"]) == (1, "UPSTREAM_TIMEOUT")
    assert "in mid-handshake" in found.verdict["sentence"]


def test_a_closed_port_is_refused(probe: Callable[..., Probed]) -> None:
    found = probe(free_address())
    assert (found.status, found.verdict["reason"]) == (1, "UPSTREAM_REFUSED")
    assert "nothing listens" in found.verdict["sentence"]
    assert found.page["versions"] == []


def test_a_unix_socket_is_probed(probe: Callable[..., Probed], tmp_path: Path, pki: Pki) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "sock"))
        listener.listen()
        with App(tls_server(pki.identity("payments")), listener):
            found = probe(f"unix:{tmp_path / 'sock'}", *as_(pki.identity("cart")), "--quick")
    assert found.status == 0


def test_no_application_data_is_ever_sent(
    probe: Callable[..., Probed], start_app: Callable[[Serve], App], pki: Pki
) -> None:
    serve = tls_server(pki.identity("payments"), verify_mode=ssl.CERT_OPTIONAL)
    probe(start_app(serve).address, *as_(pki.identity("cart")))
    assert bytes(serve.heard) == b""  # type: ignore[attr-defined]


def test_a_server_without_tickets_proves_by_its_close_notify(
    probe: Callable[..., Probed], start_app: Callable[[Serve], App], pki: Pki
) -> None:
    app = start_app(tls_server(pki.identity("payments"), num_tickets=0))
    found = probe(app.address, *as_(pki.identity("cart")))
    assert found.status == 0
    assert found.version("1.3")["as_asked"]["proof"] == "its close_notify in answer to ours"
    assert found.version("1.3")["resumption"] == "no ticket came"


def test_a_server_that_only_closes_when_we_do_has_proven_nothing(
    probe: Callable[..., Probed], start_app: Callable[[Serve], App], pki: Pki
) -> None:
    app = start_app(tls_server(pki.identity("payments"), in_order=False, num_tickets=0))
    found = probe(app.address, *as_(pki.identity("cart")), "--quick")
    assert (found.status, found.version("1.3")["as_asked"]["outcome"]) == (1, "no word")
    assert found.version("1.2")["as_asked"]["outcome"] == "accepted"


def test_a_server_that_shows_nothing_is_not_taken_for_one_that_accepts(
    probe: Callable[..., Probed], start_app: Callable[[Serve], App], pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.cli.probe_handshake.PATIENCE_S", 0.2)
    identity, ended = pki.identity("payments"), threading.Event()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.cert, identity.key)
    context.num_tickets = 0
    context.minimum_version = ssl.TLSVersion.TLSv1_3

    def mute(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_side=True):
            ended.wait(60)

    found = probe(start_app(mute).address, *as_(pki.identity("cart")), "--quick")
    ended.set()
    assert (found.status, found.verdict["reason"]) == (1, "UPSTREAM_TIMEOUT")
    assert found.version("1.3")["as_asked"]["outcome"] == "no word"
    assert "silence" in found.verdict["sentence"]


@pytest.mark.parametrize(
    ("mode", "demand"),
    [(ssl.CERT_REQUIRED, "required"), (ssl.CERT_OPTIONAL, "optional"), (ssl.CERT_NONE, "not asked")],
)
def test_what_a_server_demands_of_clients(
    probe: Callable[..., Probed], start_app: Callable[[Serve], App], pki: Pki, mode: ssl.VerifyMode, demand: str
) -> None:
    app = start_app(tls_server(pki.identity("payments"), verify_mode=mode))
    found = probe(app.address, *as_(pki.identity("cart")), "--quick")
    assert [one["client_certificate"] for one in found.page["versions"]] == [demand, demand]
    assert bool(found.page["warnings"]) == (demand != "required")
    assert found.status == 0


def test_a_server_that_demands_a_certificate_when_we_give_none(
    probe: Callable[..., Probed], start_app: Callable[[Serve], App], pki: Pki
) -> None:
    app, ours = start_app(tls_server(pki.identity("payments"))), pki.identity("cart")
    trust = ("--bundle", f"example.org={ours.bundle}", "--server-id", PAYMENTS)
    found = probe(app.address, *trust, "--quick")
    assert (found.status, found.verdict["reason"]) == (1, "UPSTREAM_REJECTED_US")
    assert found.verdict["next_command"].endswith("--cert tls.crt --key tls.key")
    assert found.page["identity"]["verified"]


@each_version
@pytest.mark.parametrize("fault", ["stranger", "expired"])
def test_a_server_that_refuses_our_certificate(
    probe: Callable[..., Probed], start_app: Callable[[Serve], App], pki: Pki, version: str, fault: str
) -> None:
    limit = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[version]
    app = start_app(tls_server(pki.identity("payments"), minimum_version=limit, maximum_version=limit))
    ours = (
        pki.identity("cart", issuer=pki.stranger) if fault == "stranger" else pki.write(minting.expired(pki.authority))
    )
    found = probe(app.address, *as_(ours), "--quick")
    alert, hint = {
        "stranger": ("unknown_ca", "ours was issued by"),
        "expired": ("certificate_expired", "expired"),
    }[fault]
    assert (found.status, found.verdict["reason"]) == (1, "UPSTREAM_REJECTED_US")
    assert found.version(version)["as_asked"]["alert"] == alert
    assert hint in found.verdict["sentence"]
    assert found.page["ours"]["reason"] == {"stranger": "UNKNOWN_AUTHORITY", "expired": "CERTIFICATE_EXPIRED"}[fault]
    assert any("our own certificate" in warning for warning in found.page["warnings"])


def stranger_of(pki: Pki, kind: str) -> Identity:
    other: Authority = minting.authority("partner.example")
    match kind:
        case "expired":
            return pki.write(minting.expired(pki.authority, PAYMENTS))
        case "early":
            return pki.write(minting.not_yet_valid(pki.authority, PAYMENTS))
        case "stranger":
            return pki.identity("payments", issuer=pki.stranger)
        case "domain":
            return pki.write(minting.svid(other))
        case "web":
            return pki.write(minting.without_san(pki.authority))
        case _:
            return pki.identity("orders")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("expired", "CERTIFICATE_EXPIRED"),
        ("early", "CERTIFICATE_NOT_YET_VALID"),
        ("stranger", "UNKNOWN_AUTHORITY"),
        ("domain", "WRONG_TRUST_DOMAIN"),
        ("web", "NOT_AN_SVID"),
        ("other", "SERVER_ID_MISMATCH"),
    ],
)
def test_a_server_that_is_not_who_it_should_be(
    probe: Callable[..., Probed], start_app: Callable[[Serve], App], pki: Pki, kind: str, reason: str
) -> None:
    app = start_app(tls_server(stranger_of(pki, kind)))
    found = probe(app.address, *as_(pki.identity("cart")), "--quick")
    assert (found.status, found.verdict["reason"]) == (1, reason)
    assert found.page["identity"]["reason"] == reason
    assert found.version("1.3")["as_asked"]["outcome"] == "accepted"  # it does not know that we refuse it
    assert found.verdict["advice"]
    if kind in ("expired", "early"):
        assert "our clock says" in found.verdict["sentence"]
    if kind == "web":
        assert "ordinary web certificate" in found.verdict["sentence"]


def test_the_next_command_of_an_unknown_identity_leads_to_a_good_verdict(
    probe: Callable[..., Probed], start_app: Callable[[Serve], App], pki: Pki
) -> None:
    """Whoever types what it says next, three times, is through."""
    ours, app = pki.identity("cart"), start_app(tls_server(pki.identity("payments")))
    found = probe(app.address, "--quick")
    assert found.verdict["reason"] == "WRONG_TRUST_DOMAIN"
    words = shlex.split(found.verdict["next_command"])
    assert words[-2:] == ["--bundle", "example.org=example.org.crt"]
    trust = ("--bundle", f"example.org={ours.bundle}", "--cert", str(ours.cert), "--key", str(ours.key))
    found = probe(app.address, *trust, "--quick")
    assert (found.status, found.verdict["reason"]) == (1, "SERVER_ID_MISMATCH")
    words = shlex.split(found.verdict["next_command"])
    assert words[:2] == ["mtls-sidecar", "probe"]
    assert probe(words[2], *words[3:], "--quick").status == 0


def test_alpn_that_is_not_selected_is_no_good_end(
    probe: Callable[..., Probed], start_app: Callable[[Serve], App], pki: Pki
) -> None:
    app, ours = start_app(tls_server(pki.identity("payments"))), pki.identity("cart")
    found = probe(app.address, *as_(ours), "--alpn", "h2", "--quick")
    assert (found.status, found.verdict["reason"]) == (1, "HANDSHAKE_FAILED")
    assert "ALPN names (h2)" in found.verdict["sentence"]


def test_a_key_that_the_server_cannot_verify_is_said_not_to_have_been_sent(
    probe: Callable[..., Probed], start_peer: Callable[..., Peer], pki: Pki
) -> None:
    address = free_address()
    identity = pki.identity("payments")
    argv = s_server(address, identity, "-Verify", "1", "-client_sigalgs", "ECDSA+SHA256:RSA-PSS+SHA256")
    start_peer(argv, listening=address)
    ours = pki.write(minting.svid(pki.authority, key_type="ed25519"))
    found = probe(address, *as_(ours), "--quick")
    assert not found.version("1.3")["as_asked"]["certificate_sent"]
    assert any("ed25519" in warning for warning in found.page["warnings"])


def s_server(listen: Address, identity: Identity, *args: str) -> list[str]:
    files = ["-cert", str(identity.cert), "-key", str(identity.key), "-CAfile", str(identity.bundle)]
    return [program("openssl"), "s_server", "-accept", text_of(listen), "-rev", *files, *args]


@pytest.mark.needs("openssl")
def test_s_server_names_the_ca_that_it_asks_for_and_the_versions_that_it_lacks(
    probe: Callable[..., Probed], start_peer: Callable[..., Peer], pki: Pki
) -> None:
    address, identity = free_address(), pki.identity("payments")
    options = ("-Verify", "1", "-verify_return_error", "-no_tls1_3", "-groups", "P-256", "-alpn", "h2")
    start_peer(s_server(address, identity, *options), listening=address)
    found = probe(address, *as_(pki.identity("cart")), "--alpn", "http/1.1,h2")
    assert found.status == 0
    assert not found.version("1.3")["spoken"]
    assert found.version("1.3")["as_asked"]["outcome"] == "not spoken"
    seen = found.version("1.2")["as_asked"]
    subject = pki.authority.certificate.subject.rfc4514_string()
    assert (seen["ca_names"], seen["alpn"], seen["group"]) == ([subject], "h2", "P-256")
    assert found.page["groups"] is None


@each_version
@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.needs(name)) for name in PROXIES])
def test_other_proxies_let_us_in_or_refuse_a_stranger(
    probe: Callable[..., Probed],
    start_app: Callable[[Serve], App],
    start_peer: Callable[..., Peer],
    pki: Pki,
    tmp_path: Path,
    name: str,
    version: str,
) -> None:
    """nginx-stream refuses without a word after the handshake, and Envoy keeps its tickets back."""
    address, app = free_address(), start_app(echo)
    link = Link(address, app.address, pki.identity("payments"), version)
    start_peer(PROXIES[name].server(tmp_path, link), listening=address)
    good = probe(address, *as_(pki.identity("cart")), "--quick")
    assert (good.status, good.version(version)["client_certificate"]) == (0, "required")
    bad = probe(address, *as_(pki.identity("cart", issuer=pki.stranger)), "--quick")
    assert bad.status == 1
    seen = bad.version(version)["as_asked"]
    alert = "unknown_ca" if PROXIES[name].judges_inside else None
    assert (seen["outcome"], seen["alert"]) == ("refused", alert)


def test_a_sidecar_whose_app_is_down_is_not_good(
    probe: Callable[..., Probed], start_sidecar: Callable[..., Sidecar], pki: Pki
) -> None:
    sidecar = start_sidecar(pki.identity("payments"), inbound=[inbound("in", free_address())])
    found = probe(sidecar.at("in"), *as_(pki.identity("cart")), "--quick")
    assert (found.status, found.verdict["reason"]) == (1, "UPSTREAM_REJECTED_US")
    assert "what is behind it is down" in found.verdict["advice"]


NGINX = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr info;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
    uwsgi_temp_path {folder}; scgi_temp_path {folder};
    server {{
        listen {listen} ssl;
        ssl_certificate {identity.cert};
        ssl_certificate_key {identity.key};
        ssl_protocols TLSv1.2 TLSv1.3;
        {more}
    }}
}}
"""


@pytest.mark.needs("nginx")
@pytest.mark.parametrize(
    ("more", "demand"), [("ssl_client_certificate {bundle}; ssl_verify_client on;", "optional"), ("", "not asked")]
)
def test_nginx_lets_tls_finish_and_refuses_in_http(
    probe: Callable[..., Probed], start_peer: Callable[..., Peer], pki: Pki, tmp_path: Path, more: str, demand: str
) -> None:
    address, identity = free_address(), pki.identity("payments")
    lines = more.format(bundle=identity.bundle)
    file = tmp_path / "nginx.conf"
    file.write_text(NGINX.format(folder=tmp_path, listen=text_of(address), identity=identity, more=lines))
    start_peer([program("nginx"), "-e", "stderr", "-p", str(tmp_path), "-c", str(file)], listening=address)
    found = probe(address, *as_(pki.identity("cart")))
    assert found.status == 0
    assert found.version("1.3")["client_certificate"] == demand
    assert any(("HTTP 400" if more else "not mutual TLS") in warning for warning in found.page["warnings"])
