"""
One refusal of each kind: a client that must not get in, what it sees, and what the sidecar tells its operator.

The clients are Python's own ssl module: another program's TLS than ours, as an operator's clients are. They only
listen after the handshake: whoever is let in would hear nothing and run into the timeout, which is then the finding.
"""

import re
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from proxy.cli.childprocess import Address, Line, LoggedProcess
from proxy.cli.demo_world import (
    APP_A,
    HOST,
    LIFETIME_S,
    OTHER_DOMAIN,
    STRANGER,
    TO_APP_B,
    TO_PAYMENTS,
    TRUST_DOMAIN,
    VERSIONS,
    World,
)
from proxy.core.reasons import Reason
from proxy.tls.authority import Authority, Svid
from proxy.tls.identityfiles import BUNDLE_FILE, CERT_FILE, KEY_FILE, write_svid

REQUEST = b"GET / HTTP/1.1\r\nHost: app-b\r\n\r\n"
LET_IN = "it was let in, and answered"
NOT_REFUSED = "no refusal came"
CLOSED = "the connection was closed without a byte"
_TIMEOUT_S = 5.0
_ALERT = re.compile(r"ALERT_(\w+)")
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class Seen(NamedTuple):
    """What a client saw, and the address it called from."""

    words: str
    client: str


class Refusal(NamedTuple):
    """
    A kind of refusal.

    connect: (world, TLS version) -> what the client saw
    alerts:  TLS version -> the alerts of which the client must see one; none: it is plaintext, and is closed
    judge:   whose log explains it
    """

    claim: str
    reason: Reason
    alerts: Mapping[str, Sequence[str]]
    connect: Callable[[World, str], Seen]
    judge: Callable[[World, str], LoggedProcess]


def plaintext_client(address: Address) -> Seen:
    """Speak HTTP to a port that wants TLS. Raises: OSError when nobody listens."""
    with socket.socket() as sock:
        sock.settimeout(_TIMEOUT_S)
        # Bound by hand: if the machine is busy, connect(2) itself tells of the reset, and no address comes with that.
        sock.bind((HOST, 0))
        client = _client(sock)
        try:
            sock.connect(address)
            sock.sendall(REQUEST)
            return Seen(LET_IN if sock.recv(1) else CLOSED, client)
        except TimeoutError:
            return Seen(NOT_REFUSED, client)
        except ConnectionRefusedError:
            raise
        except OSError:
            return Seen(CLOSED, client)


def tls_client(address: Address, version: str, bundle: bytes, identity: Path | None) -> Seen:
    """Shake hands and listen. Raises: OSError when nobody listens."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # the server's name is a SPIFFE ID, which this module does not read
    context.minimum_version = context.maximum_version = _VERSIONS[version]
    context.load_verify_locations(cadata=bundle.decode())
    if identity is not None:
        context.load_cert_chain(identity / CERT_FILE, identity / KEY_FILE)
    with socket.create_connection(address, _TIMEOUT_S) as sock:
        client = _client(sock)
        try:
            with context.wrap_socket(sock) as tls:
                return Seen(LET_IN if tls.recv(1) else CLOSED, client)
        except TimeoutError:
            return Seen(NOT_REFUSED, client)
        except ssl.SSLError as error:
            return Seen(_words(error), client)
        except OSError:
            return Seen(CLOSED, client)


def _client(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"{host}:{port}"


def _words(error: ssl.SSLError) -> str:
    """The alert by the name that RFC 8446 has for it; OpenSSL writes TLSV13_ALERT_CERTIFICATE_REQUIRED."""
    found = _ALERT.search(error.reason or "")
    return f"alert {found[1].lower()}" if found else f"{error.reason or error}"


def _send_plaintext(world: World, _version: str) -> Seen:
    return plaintext_client(world.sidecar_b.addresses[TO_APP_B])


def _send_nothing(world: World, version: str) -> Seen:
    return tls_client(world.sidecar_b.addresses[TO_APP_B], version, world.authority.bundle_pem, None)


def _present(name: str, issue: Callable[[World], Svid]) -> Callable[[World, str], Seen]:
    def connect(world: World, version: str) -> Seen:
        folder = world.folder / f"client-{name}"
        if not folder.exists():
            write_svid(folder, issue(world), bundles={BUNDLE_FILE: world.authority.bundle_pem})
        return tls_client(world.sidecar_b.addresses[TO_APP_B], version, world.authority.bundle_pem, folder)

    return connect


def _of_unknown_ca(_world: World) -> Svid:
    now = datetime.now(UTC)
    return Authority.create(TRUST_DOMAIN, now=now, lifetime_s=LIFETIME_S).issue(APP_A, now=now, lifetime_s=LIFETIME_S)


def _expired(world: World) -> Svid:
    return world.authority.issue(APP_A, now=datetime.now(UTC) - timedelta(hours=2), lifetime_s=3600)


def _of_other_domain(_world: World) -> Svid:
    now = datetime.now(UTC)
    authority = Authority.create(OTHER_DOMAIN, now=now, lifetime_s=LIFETIME_S)
    return authority.issue(APP_A.replace(TRUST_DOMAIN, OTHER_DOMAIN), now=now, lifetime_s=LIFETIME_S)


def _not_allowed(world: World) -> Svid:
    return world.authority.issue(STRANGER, now=datetime.now(UTC), lifetime_s=LIFETIME_S)


def _call_payments(world: World, version: str) -> Seen:
    return plaintext_client(world.sidecars_a[version].addresses[TO_PAYMENTS])


def _by_b(world: World, _version: str) -> LoggedProcess:
    return world.sidecar_b.process


def _by_a(world: World, version: str) -> LoggedProcess:
    return world.sidecars_a[version].process


def _in_both(*alerts: str) -> dict[str, Sequence[str]]:
    return dict.fromkeys(VERSIONS, alerts)


REFUSALS = (
    Refusal("plaintext is refused on a STRICT port", Reason.PLAINTEXT_REFUSED, {"": ()}, _send_plaintext, _by_b),
    Refusal(
        "TLS without a client certificate is refused",
        Reason.NO_CLIENT_CERTIFICATE,
        {"1.3": ("certificate_required",), "1.2": ("handshake_failure",)},  # RFC 8446 4.4.2.4, RFC 5246 7.4.6
        _send_nothing,
        _by_b,
    ),
    Refusal(
        "a certificate of an unknown CA is refused, though it claims app A's identity",
        Reason.UNKNOWN_AUTHORITY,
        _in_both("unknown_ca"),
        _present("unknown-ca", _of_unknown_ca),
        _by_b,
    ),
    Refusal(
        "an expired certificate is refused",
        Reason.CERTIFICATE_EXPIRED,
        _in_both("certificate_expired"),
        _present("expired", _expired),
        _by_b,
    ),
    Refusal(
        "a workload of a trust domain without a bundle is refused",
        Reason.WRONG_TRUST_DOMAIN,
        _in_both("unknown_ca"),
        _present("other-domain", _of_other_domain),
        _by_b,
    ),
    Refusal(
        "a proven identity that is not in `allow` is refused",
        Reason.NOT_ALLOWED,
        _in_both("access_denied", "certificate_unknown"),  # the second where the engine cannot send the first
        _present("not-allowed", _not_allowed),
        _by_b,
    ),
    Refusal(
        "sidecar A refuses a server that proves another identity than `server_ids`",
        Reason.SERVER_ID_MISMATCH,
        _in_both(),
        _call_payments,
        _by_a,
    ),
)


def explained(judge: LoggedProcess, since: int, client: str) -> Line:
    """The sidecar's line about the connection from this client. Raises: NotShown."""
    return judge.line(
        lambda line: line.get("event") == "connection" and line.get("downstream_remote_address") == client,
        f"the connection from {client}",
        since=since,
        within_s=_TIMEOUT_S,
    )
