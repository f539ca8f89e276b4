"""
From a checked Material to what a listener needs for its handshakes; the only file with version, cipher and group words.

A context belongs to one listener and one trust generation, and is never changed after it was made: a failed key load
poisons a live SSL_CTX, and a CA cannot be taken out of one. Whatever is new (certificate, bundle, policy, versions)
makes new contexts aside; the old ones live on in the connections that were made with them.

Tickets follow from that. Each server context seals its tickets with its own random keys and its own session id context,
so a ticket of one listener, or of an older generation, opens nowhere else, and the client falls back to a full
handshake. Each client context keeps the last session of its one upstream, together with the identity that was verified
in full when it began; a session whose chain has lapsed is not offered again.
"""

import itertools
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from OpenSSL import SSL

from proxy.core.config import TLS_VERSIONS, TlsConfig
from proxy.core.policy import Permit
from proxy.core.reasons import Reason, Rejected
from proxy.core.spiffe import SpiffeId
from proxy.core.svid import LeafFacts
from proxy.tls import binding
from proxy.tls.handshake import OPENSSL_SUITES, Handshake, Step
from proxy.tls.verify import PeerIdentity, Purpose, Verifier

if TYPE_CHECKING:
    from proxy.tls.material import Material

Clock = Callable[[], float]
Admit = Callable[[SpiffeId], Permit | None]

_VERSIONS = dict(zip(TLS_VERSIONS, (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION), strict=True))
_REMEMBERED_PEERS = 16384  # identities that a ticket may bring back; each shares its bytes with the Verifier's memory
_context_numbers = itertools.count(1)  # makes session id contexts differ; it identifies nothing and grants nothing


class PeerContext:
    """
    What server and client contexts share: the SSL_CTX with our SVID, and the judge of the peer.

    admit: the policy; takes a verified identity, raises Rejected to refuse it, and gives a server its Permit
    clock: our clock, epoch seconds
    """

    def __init__(
        self, material: "Material", tls: TlsConfig, verifier: Verifier, admit: Admit, clock: Clock, purpose: Purpose
    ) -> None:
        self.purpose = purpose
        self.admit = admit
        self.judging: Handshake | None = None
        self._verifier = verifier
        self._clock = clock
        self._remembered: dict[bytes, PeerIdentity] = {}
        self._callback = binding.verify_callback(self._judge)
        self._ssl_context = _ssl_context(material, tls, server=purpose is Purpose.CLIENT)
        binding.set_verify(self._ssl_context, self._callback)

    def _judge(self, store_context: Any) -> int | None:
        # OpenSSL calls back inside SSL_do_handshake, on the same stack: there is one handshake that it can mean. A
        # certificate outside of any (no renegotiation is let through) is refused as one that is not to be used.
        return binding.ERROR_CERTIFICATE_REJECTED if self.judging is None else self.judging.judge(store_context)

    def _judge_resumption(self) -> int | None:
        return None if self.judging is None else self.judging.judge_resumption()

    def verify(self, chain: list[Any]) -> PeerIdentity:
        """Judge a presented chain now. Raises: Rejected."""
        return self._verifier.verify(chain, self.purpose, self._clock())

    def leaf_facts(self, chain: list[Any]) -> LeafFacts | None:
        """What the presented leaf claims, for the log; None when it names nobody."""
        return self._verifier.leaf_facts(chain[0]) if chain else None

    def remember(self, peer: PeerIdentity) -> None:
        """Keep an identity that was verified in full, for its resumptions."""
        leaf = peer.path[0]
        if leaf not in self._remembered and len(self._remembered) >= _REMEMBERED_PEERS:
            self._remembered.pop(next(iter(self._remembered)))
        self._remembered[leaf] = peer

    def recall(self, leaf: Any) -> PeerIdentity:
        """
        The identity behind the leaf of a resumed session, its time judged now.

        A leaf that is not remembered is judged by itself: without its intermediates it passes only when an anchor
        issued it. Raises: Rejected
        """
        peer = self._remembered.get(self._verifier.der_of(leaf))
        if peer is None:
            return self.verify([leaf])
        peer.check_time(self._clock())
        return peer

    def sni_of(self, ssl: Any) -> str | None:
        """The server name that the client sent."""
        return binding.text_of(binding.lib.SSL_get_servername(ssl, 0))


class ServerContext(PeerContext):
    """For the inbound side of one listener. alpn: what the app speaks, in order of preference."""

    def __init__(
        self,
        material: "Material",
        tls: TlsConfig,
        verifier: Verifier,
        admit: Admit,
        clock: Clock,
        *,
        alpn: tuple[str, ...] = (),
    ) -> None:
        super().__init__(material, tls, verifier, admit, clock, Purpose.CLIENT)
        context = self._ssl_context
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)  # tickets only: no state per client on our side
        context.set_session_id(next(_context_numbers).to_bytes(16, "big"))
        self._hello_callback = binding.set_hello_callback(context, self._judge_resumption)
        if alpn:
            self._alpn_callback = binding.select_alpn(context, alpn)

    def accept(self, sock: socket.socket) -> Handshake:
        """Begin a server's handshake on a connected, non-blocking socket."""
        ssl = binding.new_ssl(self._ssl_context, sock.fileno())
        binding.lib.SSL_set_accept_state(ssl)
        return Handshake(self, sock, ssl)


class ClientContext(PeerContext):
    """
    For one upstream. server_name: the SNI, None to send none; resume: whether to keep and offer sessions.
    """

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
        super().__init__(material, tls, verifier, admit, clock, Purpose.SERVER)
        self._server_name = server_name.encode("ascii") if server_name else None
        self._resume = resume
        self._session: tuple[Any, PeerIdentity] | None = None
        context = self._ssl_context
        if not resume:
            context.set_options(binding.OP_NO_TICKET)
        if alpn:
            context.set_alpn_protos([name.encode("ascii") for name in alpn])

    def connect(self, sock: socket.socket) -> Handshake:
        """Begin a client's handshake on a connected, non-blocking socket, offering the session that we keep."""
        ssl = binding.new_ssl(self._ssl_context, sock.fileno())
        binding.lib.SSL_set_connect_state(ssl)
        if self._server_name is not None:
            binding.lib.SSL_set_tlsext_host_name(ssl, self._server_name)
        if self._session is not None:
            session, peer = self._session
            # An upstream that rotated would still resume the old session, and we would then refuse its old leaf.
            if peer.valid_from <= self._clock() < peer.lapses_at:
                binding.lib.SSL_set_session(ssl, session)
            else:
                self._session = None
        return Handshake(self, sock, ssl)

    def keep_session(self, handshake: Handshake) -> None:
        """Keep the session of a connection whose upstream has proven that it accepts us."""
        if self._resume and handshake.peer is not None:
            session = handshake.session()
            if session is not None:
                self._session = (session, handshake.peer)

    def forget_session(self) -> None:
        """Offer no session again until a full handshake made a new one: the upstream did not like the last."""
        self._session = None


def _ssl_context(material: "Material", tls: TlsConfig, *, server: bool) -> SSL.Context:
    """
    An SSL_CTX with our SVID and the configured words. Its own trust store stays empty (see tls/verify.py).

    Raises: Rejected(KEY_MISMATCH | CERTIFICATE_INVALID) when OpenSSL does not take the SVID
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD if server else SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(_VERSIONS[tls.min_version])
    context.set_max_proto_version(_VERSIONS[tls.max_version])
    context.set_options(binding.OP_NO_COMPRESSION | binding.OP_NO_RENEGOTIATION | binding.OP_CIPHER_SERVER_PREFERENCE)
    context.set_mode(binding.MODE_RELEASE_BUFFERS)
    context.set_cipher_list(":".join(OPENSSL_SUITES[name] for name in tls.cipher_suites).encode("ascii"))
    if not binding.set_groups(context, ":".join(tls.groups)):
        raise Rejected(Reason.CONFIG_FAULT, f"this OpenSSL does not know all of tls.groups: {', '.join(tls.groups)}")
    try:
        context.use_certificate(material.chain[0])
        for intermediate in material.chain[1:]:
            context.add_extra_chain_cert(intermediate)
        context.use_privatekey(material.key)
        context.check_privatekey()
    except SSL.Error as error:
        words = binding.first_error()[1] or str(error)
        raise Rejected(Reason.KEY_MISMATCH, f"OpenSSL does not take the certificate with its key ({words})") from None
    return context


def prove(material: "Material", tls: TlsConfig, verifier: Verifier, clock: Clock) -> None:
    """
    Let a new generation shake hands with itself on a pair of sockets, in every TLS version that it is to speak.

    Raises: Rejected when it could not have served anybody; the detail says that it was no peer's fault
    """
    versions = [version for version in TLS_VERSIONS if tls.min_version <= version <= tls.max_version]
    for version in versions:
        words = TlsConfig(min_version=version, max_version=version, cipher_suites=tls.cipher_suites, groups=tls.groups)
        server = ServerContext(material, words, verifier, _admit_anybody, clock)
        client = ClientContext(material, words, verifier, _admit_anybody, clock)
        ours, theirs = _socket_pair()
        try:
            with ours, theirs:
                _shake_hands(client.connect(ours), server.accept(theirs))
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


def _shake_hands(*ends: Handshake) -> None:
    for _ in range(8):  # a handshake takes four flights at the most
        if [end.step() for end in ends] == [Step.DONE, Step.DONE]:
            return
    raise Rejected(Reason.HANDSHAKE_FAILED, "neither side came to an end")
