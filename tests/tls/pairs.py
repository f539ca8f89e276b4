"""
Two contexts on a pair of sockets, driven step by step: what the handshake tests share.

Which engine makes them is the one of the running test (tests/tls/conftest.py); both ends are on the same.
"""

import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from proxy.core.config import Engine, TlsConfig
from proxy.core.events import Direction, Listener
from proxy.core.policy import Policy, ServerPolicy
from proxy.core.reasons import Rejected
from proxy.core.spiffe import parse_pattern, parse_trust_domain
from proxy.tls.authority import Authority, Svid
from proxy.tls.channel import Scratch, TlsChannel
from proxy.tls.contexts import ClientContext, ServerContext
from proxy.tls.engine import TlsEngine
from proxy.tls.handshake import Handshake, Step
from proxy.tls.material import Material
from proxy.tls.ticketkeys import TicketKey
from proxy.tls.verify import Purpose, Verifier
from tests import minting
from tests.engines import ENGINES, POLICY_ALERT

INBOUND = Listener(Direction.INBOUND, "http")
OUTBOUND = Listener(Direction.OUTBOUND, "payments")
ANYBODY = ("spiffe://example.org/**",)
_in_use = [Engine.OPENSSL]


@contextmanager
def using(name: Engine) -> Iterator[None]:
    """Make everything with this engine meanwhile."""
    _in_use.append(name)
    yield
    _in_use.pop()


def engine() -> TlsEngine:
    """The engine in use."""
    return ENGINES[_in_use[-1]]()


def policy_alert() -> str:
    """What a peer is told whom the policy does not let in."""
    return POLICY_ALERT[_in_use[-1]]


def verifier_of(bundles: Mapping[str, Authority]) -> Verifier:
    """A Verifier of these authorities by trust domain."""
    return engine().verifier({parse_trust_domain(name): roots(authority) for name, authority in bundles.items()})


def roots(authority: Authority) -> tuple[x509.Certificate, ...]:
    return tuple(x509.load_pem_x509_certificates(authority.bundle_pem))


def material_of(svid: Svid, issuer: Authority) -> Material:
    """A Material without the disk and without a check, so that broken SVIDs can be presented as well."""
    bundles = {parse_trust_domain(issuer.trust_domain): roots(issuer)}
    good = minting.svid(issuer)
    identity = Verifier(bundles).verify_der(
        [c.public_bytes(Encoding.DER) for c in good.chain], Purpose.SERVER, time.time()
    )
    return Material(chain=svid.chain, key=svid.key, identity=identity, bundles=bundles, digest=b"")


def server(
    issuer: Authority,
    *,
    svid: Svid | None = None,
    tls: TlsConfig | None = None,
    allow: tuple[str, ...] = ANYBODY,
    bundles: Mapping[str, Authority] | None = None,
    alpn: tuple[str, ...] = (),
    ticket_key: TicketKey | None = None,
    clock=time.time,
) -> ServerContext:
    policy = Policy(tuple(parse_pattern(text) for text in allow))
    verifier = verifier_of(bundles or {issuer.trust_domain: issuer})
    material = material_of(svid or minting.svid(issuer), issuer)
    return engine().server_context(
        material,
        tls or TlsConfig(),
        verifier,
        lambda peer: policy.authorize(peer, INBOUND),
        clock,
        ticket_key=ticket_key or TicketKey.random(),
        alpn=alpn,
    )


def client(
    issuer: Authority,
    *,
    svid: Svid | None = None,
    tls: TlsConfig | None = None,
    server_ids: tuple[str, ...] = ANYBODY,
    bundles: Mapping[str, Authority] | None = None,
    server_name: str | None = None,
    alpn: tuple[str, ...] = (),
    resume: bool = True,
    clock=time.time,
) -> ClientContext:
    policy = ServerPolicy(tuple(parse_pattern(text) for text in server_ids))

    def admit(peer):
        policy.authorize(peer, OUTBOUND)

    verifier = verifier_of(bundles or {issuer.trust_domain: issuer})
    material = material_of(svid or minting.svid(issuer), issuer)
    return engine().client_context(
        material,
        tls or TlsConfig(),
        verifier,
        admit,
        clock,
        server_name=server_name,
        alpn=alpn,
        resume=resume,
    )


@contextmanager
def connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A pair of non-blocking stream sockets."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        yield ours, theirs


def shake(
    client_context: ClientContext, server_context: ServerContext, ours: socket.socket, theirs: socket.socket
) -> tuple[Handshake | Rejected, Handshake | Rejected]:
    """Drive both ends to their end. Returns: (client's, server's): the Handshake when done, why not otherwise."""
    ends: list[Handshake | Rejected] = [client_context.connect(ours), server_context.accept(theirs)]
    done = [False, False]
    for _ in range(10):
        for i, end in enumerate(ends):
            if isinstance(end, Handshake) and not done[i]:
                try:
                    done[i] = end.step() is Step.DONE
                except Rejected as rejected:
                    ends[i] = rejected
    return ends[0], ends[1]


def read(channel: TlsChannel, scratch: Scratch) -> bytes:
    """What is there to read now."""
    n = channel.receive(scratch)
    return bytes(scratch.view[:n])


def version(text: str) -> TlsConfig:
    """The default words, with one TLS version alone."""
    return TlsConfig(min_version=text, max_version=text)
