"""One scene for each Reason of a refusal: nothing of a refused peer reaches an app, and the peer is told why."""

import socket
import ssl

from cryptography import x509

from proxy.core.reasons import Reason
from tests import minting
from tests.e2e.apps import echo
from tests.e2e.stage import BOTH_CLOCKS, Shown, Stage, shows
from tests.e2e.tlspeers import ask, client_context, connect, over_tls, what_is_seen
from tests.e2e.waiting import PATIENCE_S, Address, free_address
from tests.engines import policy_alert

CART = minting.CART


def say(address: Address, data: bytes) -> bytes:
    """Send bytes and wait for the end. Returns: what came before it."""
    received = b""
    try:  # around the connect as well: who is refused at once may be reset before connect(2) has returned
        with socket.create_connection(address, timeout=PATIENCE_S) as sock:
            sock.sendall(data)
            while more := sock.recv(65536):
                received += more
    except ConnectionResetError:
        received += b"(reset)"
    return received


@shows(Reason.PLAINTEXT_REFUSED)
def plaintext_comes_to_a_strict_port(stage: Stage) -> Shown:
    sidecar = stage.inbound()
    saw = say(sidecar.at("in"), b"GET / HTTP/1.1\r\n\r\n")
    return Shown(sidecar, repr(saw), repr(b""), in_detail=("HTTP",))


@shows(Reason.NO_CLIENT_CERTIFICATE)
def a_client_has_no_certificate(stage: Stage) -> Shown:
    return stage.meets(None, "CERTIFICATE_REQUIRED")


@shows(Reason.UNKNOWN_AUTHORITY)
def a_client_of_another_ca_bears_the_right_name(stage: Stage) -> Shown:
    return stage.meets(stage.pki.identity("cart", issuer=stage.pki.stranger), "UNKNOWN_CA")


@shows(Reason.CERTIFICATE_EXPIRED)
def a_clients_certificate_is_over(stage: Stage) -> Shown:
    svid = minting.expired(stage.pki.authority)
    end = svid.leaf.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ")
    shown = stage.meets(stage.pki.write(svid), "CERTIFICATE_EXPIRED")
    return shown._replace(in_detail=(end, *BOTH_CLOCKS))


@shows(Reason.CERTIFICATE_NOT_YET_VALID)
def a_clients_clock_is_ahead(stage: Stage) -> Shown:
    svid = minting.not_yet_valid(stage.pki.authority)
    start = svid.leaf.not_valid_before_utc.strftime("%Y-%m-%dT%H:%M:%SZ")
    shown = stage.meets(stage.pki.write(svid), "CERTIFICATE_EXPIRED")  # "expired or not currently valid"
    return shown._replace(in_detail=(start, *BOTH_CLOCKS))


@shows(Reason.CERTIFICATE_INVALID)
def a_certificate_has_a_critical_extension_that_nobody_knows(stage: Stage) -> Shown:
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x05\x00")
    svid = minting.forge(stage.pki.authority, replace=[(unknown, True)])
    return stage.meets(stage.pki.write(svid), "BAD_CERTIFICATE")


@shows(Reason.NOT_AN_SVID)
def a_certificate_has_two_names(stage: Stage) -> Shown:
    svid = minting.with_uris(stage.pki.authority, CART, f"{CART}-2")
    return stage.meets(stage.pki.write(svid), "UNSUPPORTED_CERTIFICATE")._replace(peer=None)


@shows(Reason.SPIFFE_ID_MALFORMED)
def a_certificate_names_no_workload(stage: Stage) -> Shown:
    svid = minting.with_uris(stage.pki.authority, "spiffe://example.org")
    return stage.meets(stage.pki.write(svid), "BAD_CERTIFICATE")._replace(peer=None)


@shows(Reason.WRONG_TRUST_DOMAIN)
def a_client_comes_from_a_domain_without_a_bundle(stage: Stage) -> Shown:
    svid = minting.svid(minting.authority("elsewhere.example"))
    return stage.meets(stage.pki.write(svid), "UNKNOWN_CA")._replace(in_detail=("elsewhere.example",))


@shows(Reason.NOT_ALLOWED)
def a_client_is_in_no_allow_pattern(stage: Stage) -> Shown:
    shown = stage.meets(stage.pki.identity("cart"), policy_alert(), allow=[f"{CART}s"])
    return shown._replace(in_detail=(f"{CART}s",))


@shows(Reason.DENIED)
def a_client_is_in_a_deny_pattern(stage: Stage) -> Shown:
    shown = stage.meets(stage.pki.identity("cart"), policy_alert(), deny=["spiffe://example.org/ns/*/sa/cart"])
    return shown._replace(in_detail=("spiffe://example.org/ns/*/sa/cart",))


@shows(Reason.SERVER_ID_MISMATCH)
def a_server_is_somebody_else(stage: Stage) -> Shown:
    server = stage.pki.identity("server")
    app = stage.start_app(over_tls(server, echo))
    sidecar = stage.outbound(app.address, server_ids=["spiffe://example.org/ns/shop/sa/payments"])
    saw = what_is_seen(sidecar.at("out"), None)
    return Shown(sidecar, saw, "reset", server.spiffe_id, ("payments",), "out")


@shows(Reason.UNSUPPORTED_TLS_VERSION)
def a_client_speaks_an_older_tls(stage: Stage) -> Shown:
    sidecar = stage.inbound(sections={"tls": {"min_version": "1.3"}})
    saw = what_is_seen(sidecar.at("in"), stage.client(stage.pki.identity("cart"), "1.2"))
    return Shown(sidecar, saw, "PROTOCOL_VERSION")


@shows(Reason.NO_SHARED_CIPHER)
def a_client_offers_no_cipher_of_ours(stage: Stage) -> Shown:
    sidecar = stage.inbound()
    context = stage.client(stage.pki.identity("cart"), "1.2")
    context.set_ciphers("ECDHE-ECDSA-AES128-SHA256")  # CBC
    return Shown(sidecar, what_is_seen(sidecar.at("in"), context), "HANDSHAKE_FAILURE")


@shows(Reason.NOT_TLS)
def something_begins_like_tls(stage: Stage) -> Shown:
    sidecar = stage.inbound()
    say(sidecar.at("in"), b"\x16\x03\x01\x00\x05hello")
    return Shown(sidecar)


@shows(Reason.HELLO_TOO_LONG)
def a_client_hello_has_no_end(stage: Stage) -> Shown:
    sidecar = stage.inbound()
    say(sidecar.at("in"), b"\x16\x03\x01\x40\x00\x01\x01\x00\x00" + b"\x00" * 0x3FFC)
    return Shown(sidecar)


@shows(Reason.HANDSHAKE_TIMEOUT)
def a_client_says_nothing(stage: Stage) -> Shown:
    sidecar = stage.inbound(sections={"timeouts": {"handshake_s": 0.2}})
    return Shown(sidecar, repr(say(sidecar.at("in"), b"")), repr(b""))


@shows(Reason.HANDSHAKE_FAILED)
def a_client_does_not_trust_us(stage: Stage) -> Shown:
    sidecar = stage.inbound()
    distrustful = stage.pki.identity("cart", trust=stage.pki.stranger)
    saw = what_is_seen(sidecar.at("in"), client_context(distrustful, trust=distrustful.bundle))
    return Shown(sidecar, saw, "CERTIFICATE_VERIFY_FAILED", in_detail=("unknown_ca",))


@shows(Reason.CLIENT_LEFT)
def a_health_check_connects_and_leaves(stage: Stage) -> Shown:
    sidecar = stage.inbound()
    socket.create_connection(sidecar.at("in"), timeout=PATIENCE_S).close()
    return Shown(sidecar)


@shows(Reason.UPSTREAM_REFUSED)
def the_app_is_down(stage: Stage) -> Shown:
    cart = stage.pki.identity("cart")
    sidecar = stage.inbound(upstream=free_address())
    saw = what_is_seen(sidecar.at("in"), stage.client(cart))
    return Shown(sidecar, saw, "reset", cart.spiffe_id)


@shows(Reason.UPSTREAM_TIMEOUT)
def the_upstream_says_nothing(stage: Stage) -> Shown:
    app = stage.start_app(lambda sock: sock.recv(1 << 20) and sock.recv(1))
    sidecar = stage.outbound(app.address, sections={"timeouts": {"handshake_s": 0.2}})
    return Shown(sidecar, what_is_seen(sidecar.at("out"), None), "reset", listener="out")


@shows(Reason.UPSTREAM_UNRESOLVED)
def the_upstreams_name_has_no_address(stage: Stage) -> Shown:
    sidecar = stage.outbound(("nowhere.invalid", 443))
    saw = what_is_seen(sidecar.at("out"), None)
    return Shown(sidecar, saw, "reset", in_detail=("nowhere.invalid",), listener="out")


@shows(Reason.UPSTREAM_REJECTED_US)
def the_upstream_does_not_trust_us(stage: Stage) -> Shown:
    server = stage.pki.identity("server", trust=stage.pki.stranger)
    sidecar = stage.outbound(stage.start_app(over_tls(server, echo)).address)
    saw = say(sidecar.at("out"), b"")  # a client that waits: what it sent could make the server's kernel drop the alert
    return Shown(sidecar, repr(saw), repr(b"(reset)"), server.spiffe_id, ("unknown_ca",), "out")


@shows(Reason.OVERLOADED)
def one_connection_too_many_comes(stage: Stage) -> Shown:
    sidecar = stage.inbound(sections={"limits": {"connections": 1}})
    client = stage.client(stage.pki.identity("cart"))
    with connect(sidecar.at("in"), client) as first:
        ask(first)
        saw = what_is_seen(sidecar.at("in"), client)
        ask(first)
        return Shown(sidecar, saw, "reset", in_detail=("limits.connections",))


@shows(Reason.RATE_LIMITED)
def a_client_connects_too_often(stage: Stage) -> Shown:
    sidecar = stage.inbound(sections={"limits": {"handshakes_per_s_per_source": 0.01}})
    client: ssl.SSLContext = stage.client(stage.pki.identity("cart"))
    assert what_is_seen(sidecar.at("in"), client) == "served"
    return Shown(sidecar, what_is_seen(sidecar.at("in"), client), "reset", in_detail=("0.01",))
