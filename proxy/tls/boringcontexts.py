"""
Contexts by BoringSSL: our SVID, and the configured words in its own numbers and names.

TLS 1.3's suites are BoringSSL's own choice (AES-128-GCM first where the processor has AES), and there is one ticket for
a handshake, not two: a client of ours keeps only the last, and each costs the server 10 us and the wire 1.5 KiB.
"""

import socket
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from proxy.core.config import TLS_VERSIONS, TlsConfig
from proxy.core.reasons import Reason, Rejected
from proxy.tls import boringbinding as boring
from proxy.tls.boringbinding import ffi, lib
from proxy.tls.boringchannel import BoringChannel
from proxy.tls.boringhandshake import GROUP_IDS, BoringHandshake
from proxy.tls.contexts import Admit, ClientContext, Clock, ServerContext
from proxy.tls.suites import OPENSSL_SUITES
from proxy.tls.ticketkeys import TicketKey
from proxy.tls.verify import Verifier

if TYPE_CHECKING:
    from proxy.tls.material import Material

TICKETS = 1
_VERSIONS = dict(zip(TLS_VERSIONS, (0x0303, 0x0304), strict=True))


class BoringServerContext(ServerContext):
    """ticket_key: seals its tickets; alpn: what the app speaks, in order of preference."""

    def __init__(
        self,
        material: "Material",
        tls: TlsConfig,
        verifier: Verifier,
        admit: Admit,
        clock: Clock,
        *,
        ticket_key: TicketKey,
        alpn: tuple[str, ...] = (),
    ) -> None:
        super().__init__(verifier, admit, clock)
        context = self._native = _native(material, tls, alpn, server=True)
        if not lib.bs_context_set_ticket_key(context, *ticket_key) or not lib.bs_context_set_tickets(context, TICKETS):
            raise MemoryError("BoringSSL took no ticket key")

    def accept(self, sock: socket.SocketType) -> BoringHandshake:
        """As ServerContext's."""
        fd = sock.fileno()
        connection = _owned(lib.bs_accept(self._native, fd))
        return BoringHandshake(self, BoringChannel(sock, fd, connection=connection, context=self._native))


class BoringClientContext(ClientContext):
    """server_name: the SNI, None to send none."""

    def __init__(
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
    ) -> None:
        super().__init__(verifier, admit, clock, resume=resume)
        self._server_name = server_name.encode("ascii") if server_name else ffi.NULL
        self._native = _native(material, tls, alpn, server=False)
        if not resume:
            lib.bs_context_set_tickets(self._native, 0)

    def _begin(self, sock: socket.SocketType, session: Any | None) -> BoringHandshake:
        offered = ffi.NULL if session is None else session
        fd = sock.fileno()
        connection = _owned(lib.bs_connect(self._native, fd, self._server_name, offered))
        return BoringHandshake(self, BoringChannel(sock, fd, connection=connection, context=self._native))


def _owned(connection: Any) -> Any:
    if connection == ffi.NULL:
        raise MemoryError("BoringSSL could not make a connection")
    return ffi.gc(connection, lib.bs_free)


def _can_sign_with(key: object) -> bool:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1)
    return isinstance(key, rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey)


def _native(material: "Material", tls: TlsConfig, alpn: tuple[str, ...], *, server: bool) -> Any:
    """
    BoringSSL's context with our SVID and the configured words. It has no trust store (see tls/verify.py).

    Raises: Rejected(KEY_MISMATCH | CONFIG_FAULT) when BoringSSL does not take the SVID or the words
    """
    context = lib.bs_context_new(server, _VERSIONS[tls.min_version], _VERSIONS[tls.max_version])
    if context == ffi.NULL:
        raise MemoryError("BoringSSL could not make a context")
    context = ffi.gc(context, lib.bs_context_free)
    groups = [GROUP_IDS.get(name, 0) for name in dict.fromkeys(tls.groups)]
    if not lib.bs_context_set_groups(context, groups, len(groups)):
        boring.last_words()
        raise Rejected(Reason.CONFIG_FAULT, f"BoringSSL does not know all of tls.groups: {', '.join(tls.groups)}")
    suites = ":".join(OPENSSL_SUITES[name] for name in tls.cipher_suites)
    if not lib.bs_context_set_ciphers(context, suites.encode("ascii")):
        raise Rejected(Reason.CONFIG_FAULT, f"BoringSSL does not take tls.cipher_suites ({boring.last_words()})")
    if alpn:
        wire = b"".join(len(name).to_bytes(1, "big") + name.encode("ascii") for name in alpn)
        if not lib.bs_context_set_alpn(context, wire, len(wire)):
            raise MemoryError("BoringSSL took no ALPN list")
    if not _can_sign_with(material.key):
        raise Rejected(
            Reason.CONFIG_FAULT,
            "BoringSSL signs with RSA, with ECDSA on P-256, P-384 and P-521, and with Ed25519; our key is none of "
            "these, and needs `tls.engine: openssl`",
        )
    chain = boring.Blobs([certificate.public_bytes(Encoding.DER) for certificate in material.chain])
    key = material.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    if not lib.bs_context_set_identity(context, chain.pointers, chain.lengths, chain.count, key, len(key)):
        words = boring.last_words().replace("_", " ").lower()
        raise Rejected(Reason.KEY_MISMATCH, f"BoringSSL does not take the certificate with its key ({words})")
    return context
