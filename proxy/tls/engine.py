"""
The seam: a TLS engine as everything above tls/ sees it, and which one a configuration gets.

Two engines implement it. `openssl` is pyca's binding over the OpenSSL in the `cryptography` wheel: it is always there.
`boringssl` is a distribution of its own (engine/), faster, and there where somebody built it. Both fill the same
Handshake, TlsChannel and contexts, and both ask the same Verifier; what differs is how they come by a chain, and how
exactly they can tell a peer why it is refused (docs/engines.md). This file refuses to know how either does it.
"""

import importlib.util
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from cryptography import x509

from proxy.core.config import GROUPS, TLS_VERSIONS, Engine, TlsConfig
from proxy.core.reasons import Reason, Rejected
from proxy.core.spiffe import SpiffeId, TrustDomain
from proxy.tls.contexts import Admit, ClientContext, Clock, ServerContext, shake_hands
from proxy.tls.ticketkeys import TicketKey
from proxy.tls.verify import Certificates, Verifier

if TYPE_CHECKING:
    from proxy.tls.material import Material

_DISTRIBUTION = "mtls_sidecar_boringssl"
_INTERFACE = 2  # of BoringSSL's distribution, as this proxy calls it; one from before it had a number has the first
_OF_ANOTHER_VERSION = "it was built for another version of mtls-sidecar"


class MakeServerContext(Protocol):
    """
    How an engine makes the inbound side of one listener.

    ticket_key: seals its session tickets, where the engine can be given one
    alpn:       what the app speaks, in order of preference
    Raises:     Rejected(KEY_MISMATCH | CONFIG_FAULT) when the engine does not take the SVID or the words
    """

    def __call__(
        self,
        material: "Material",
        tls: TlsConfig,
        verifier: Verifier,
        admit: Admit,
        clock: Clock,
        *,
        ticket_key: TicketKey,
        alpn: tuple[str, ...] = (),
    ) -> ServerContext:
        """Make it."""
        ...


class MakeClientContext(Protocol):
    """
    How an engine makes what one upstream is called with.

    server_name: the SNI, None to send none; resume: whether to keep and offer sessions
    Raises:      as MakeServerContext
    """

    def __call__(
        self,
        material: "Material",
        tls: TlsConfig,
        verifier: Verifier,
        admit: Admit,
        clock: Clock,
        *,
        server_name: str | None = None,
        alpn: tuple[str, ...] = (),
        resume: bool = True,
    ) -> ClientContext:
        """Make it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsEngine:
    """
    One engine.

    name:         "openssl" or "boringssl", as in the configuration and the metrics
    version:      the engine's own words, e.g. "OpenSSL 4.0.3 29 Sep 2026"
    groups:       of those that can be configured, the ones that it knows
    certificates: its parsing and path validation, for a Verifier
    """

    name: str
    version: str
    groups: frozenset[str]
    certificates: Certificates
    server_context: MakeServerContext
    client_context: MakeClientContext

    def verifier(
        self, bundles: Mapping[TrustDomain, Sequence[x509.Certificate]], *, verdicts: int | None = None
    ) -> Verifier:
        """The judge of one trust generation. verdicts: as Verifier's, None for its default."""
        if verdicts is None:
            return Verifier(bundles, certificates=self.certificates)
        return Verifier(bundles, verdicts=verdicts, certificates=self.certificates)


def find_engine(tls: TlsConfig) -> TlsEngine:
    """
    The engine that a configuration asks for. `auto` is BoringSSL where it is built and knows all of `groups`.

    Raises: Rejected(CONFIG_FAULT) when it asks for one that is not there
    """
    if tls.engine is Engine.OPENSSL:
        return openssl_engine()
    try:
        engine = boringssl_engine()
    except ImportError as error:
        if tls.engine is Engine.AUTO:
            return openssl_engine()
        raise Rejected(Reason.CONFIG_FAULT, missing(str(error))) from None
    if tls.engine is Engine.AUTO and not engine.groups.issuperset(tls.groups):
        return openssl_engine()
    return engine


def missing(why: str) -> str:
    """Why there is no BoringSSL, and what to do about it."""
    fault = "is not installed here" if not _is_installed() else f"is installed here and cannot be used ({why})"
    return (
        f"the engine boringssl {fault}: build it with `make engine`, install the wheel mtls-sidecar-boringssl, or use "
        f"`auto` or `openssl`"
    )


def why_not_boringssl(tls: TlsConfig) -> str | None:
    """Why `auto` is OpenSSL although BoringSSL is installed, as a sentence; None where nobody has to be told."""
    if tls.engine is not Engine.AUTO:
        return None
    if (why := boringssl_is_broken()) is not None:
        again = f"build it again (`make engine`), or uninstall {_DISTRIBUTION.replace('_', '-')}"
        return f"BoringSSL is installed and cannot be used, so OpenSSL serves: {why}; {again}"
    if _is_installed() and (unknown := [name for name in tls.groups if name not in boringssl_engine().groups]):
        return f"BoringSSL does not know {', '.join(unknown)} of `tls.groups`, so OpenSSL serves"
    return None


def boringssl_is_broken() -> str | None:
    """Why a BoringSSL that is installed cannot be used; None where it can, or where there is none."""
    if not _is_installed():
        return None
    try:
        boringssl_engine()
    except ImportError as error:
        return str(error)
    return None


def installed_versions() -> str:
    """The engines that are here, the one that `auto` prefers first: for --version."""
    try:
        return f"{boringssl_engine().version}, {openssl_engine().version}"
    except ImportError:
        return openssl_engine().version


def openssl_engine() -> TlsEngine:
    """The engine that is always there."""
    from proxy.tls import binding
    from proxy.tls.opensslcontexts import OpenSslClientContext, OpenSslServerContext

    return TlsEngine(
        name="openssl",
        version=binding.openssl_version(),
        groups=frozenset(GROUPS),
        certificates=binding,
        server_context=OpenSslServerContext,
        client_context=OpenSslClientContext,
    )


def boringssl_engine() -> TlsEngine:
    """The faster one. Raises: ImportError when it is not built here, or was built for another version of this."""
    try:
        from proxy.tls import boringbinding
        from proxy.tls.boringcontexts import BoringClientContext, BoringServerContext
        from proxy.tls.boringhandshake import GROUP_IDS
    except AttributeError as error:  # a function that it does not have yet, or not any more
        raise ImportError(f"{_OF_ANOTHER_VERSION} ({error})") from error
    built = getattr(sys.modules[_DISTRIBUTION], "INTERFACE", 1)  # boringbinding has imported it
    if built != _INTERFACE:
        raise ImportError(f"{_OF_ANOTHER_VERSION} (its interface is {built}, and {_INTERFACE} is called)")

    return TlsEngine(
        name="boringssl",
        version=boringbinding.boringssl_version(),
        groups=frozenset(GROUP_IDS),
        certificates=boringbinding,
        server_context=BoringServerContext,
        client_context=BoringClientContext,
    )


def prove(engine: TlsEngine, material: "Material", tls: TlsConfig, verifier: Verifier, clock: Clock) -> None:
    """
    Let a new generation shake hands with itself on a pair of sockets, in every TLS version that it is to speak.

    Raises: Rejected when it could not have served anybody; the detail says that it was no peer's fault
    """
    for version in TLS_VERSIONS:
        if not tls.min_version <= version <= tls.max_version:
            continue
        words = replace(tls, min_version=version, max_version=version)
        server = engine.server_context(material, words, verifier, _admit_anybody, clock, ticket_key=TicketKey.random())
        client = engine.client_context(material, words, verifier, _admit_anybody, clock)
        ours, theirs = _socket_pair()
        try:
            with ours, theirs:
                shake_hands(client.connect(ours), server.accept(theirs))
        except Rejected as rejected:
            fault = f"our own certificate cannot serve with what `tls` allows: a handshake with itself in TLS {version}"
            raise Rejected(rejected.reason, f"{fault} ended with {rejected.detail}") from rejected


def _admit_anybody(_peer: SpiffeId) -> None:
    return None


def _socket_pair() -> tuple[socket.socket, socket.socket]:
    try:
        ours, theirs = socket.socketpair()
    except OSError as error:  # strangers can use up our descriptors: it is no bug of ours, and is tried again
        why = (error.strerror or str(error)).lower()
        raise Rejected(Reason.OVERLOADED, f"there are no sockets for a handshake with itself: {why}") from None
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


def _is_installed() -> bool:
    return importlib.util.find_spec(_DISTRIBUTION) is not None
