"""
Contexts by OpenSSL: an SSL_CTX with our SVID; the only file with OpenSSL's words for versions and suites.
"""

import itertools
import socket
import time
from typing import TYPE_CHECKING, Any

from OpenSSL import SSL

from proxy.core.config import TLS_VERSIONS, TlsConfig
from proxy.core.reasons import Reason, Rejected
from proxy.tls import binding
from proxy.tls.contexts import Admit, ClientContext, Clock, PeerContext, ServerContext
from proxy.tls.opensslchannel import OpenSslChannel
from proxy.tls.opensslhandshake import OpenSslHandshake
from proxy.tls.suites import OPENSSL_SUITES
from proxy.tls.ticketkeys import TicketKey
from proxy.tls.verify import PeerIdentity, Verifier

if TYPE_CHECKING:
    from proxy.tls.material import Material

_VERSIONS = dict(zip(TLS_VERSIONS, (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION), strict=True))
_REMEMBERED_PEERS = 16384  # identities that a ticket may bring back; each shares its bytes with the Verifier's memory
_STEPS_A_SECOND = 300  # for messages behind a handshake, two or three for each; a peer in order sends a few in its life
_context_numbers = itertools.count(1)  # makes session id contexts differ; it identifies nothing and grants nothing


class OpenSslPeers:
    """The part of a context that OpenSSL calls back, and what it remembers for resumptions."""

    def __init__(self, context: PeerContext, ssl_context: SSL.Context) -> None:
        self.context = context
        self.judging: OpenSslHandshake | None = None
        self.remembered: dict[bytes, PeerIdentity] = {}  # by the SHA-256 of the leaf; their time is judged at each use
        self.flooding: Any = None  # the SSL that was stopped
        self._talker: Any = None
        self._steps = 0
        self._talks_since = 0.0
        self._callback = binding.verify_callback(self._judge)
        binding.set_verify(ssl_context, self._callback)
        self._info_callback = binding.info_callback(self._hear)

    def _judge(self, store_context: Any) -> int | None:
        # OpenSSL calls back inside SSL_do_handshake, on the same stack: there is one handshake that it can mean. A
        # certificate outside of any (no renegotiation is let through) is refused as one that is not to be used.
        return binding.ERROR_CERTIFICATE_REJECTED if self.judging is None else self.judging.judge(store_context)

    def listen(self, ssl: Any) -> None:
        """Count its messages from now on: its handshake is over, of which each step would else be told as well."""
        self.flooding = self._talker = None  # it may lie where an old one did
        binding.lib.SSL_set_info_callback(ssl, self._info_callback)

    def _hear(self, ssl: Any) -> None:
        # A KeyUpdate, a ticket, a HelloRequest or a refused renegotiation carries no application data, so that SSL_read
        # goes on to the next one: with a flood of them it would not come back while the peer goes on, and nobody else
        # would be served. OpenSSL counts none of them. What is called consecutively for one SSL is one call, or nearly.
        now = time.monotonic()
        if ssl != self._talker or now - self._talks_since > 1.0:
            self._talker, self._steps, self._talks_since = ssl, 0, now
        self._steps += 1
        if self._steps > _STEPS_A_SECOND:
            self.flooding = ssl
            binding.lib.SSL_set_shutdown(ssl, binding.SHUTDOWN_SENT | binding.SHUTDOWN_RECEIVED)  # reads no more

    def judge_resumption(self) -> int | None:
        """For binding.set_hello_callback."""
        return None if self.judging is None else self.judging.judge_resumption()

    def remember(self, leaf_digest: bytes, peer: PeerIdentity) -> None:
        """Keep an identity that was verified in full, for its resumptions."""
        if leaf_digest not in self.remembered and len(self.remembered) >= _REMEMBERED_PEERS:
            self.remembered.pop(next(iter(self.remembered)))
        self.remembered[leaf_digest] = peer


class OpenSslServerContext(ServerContext):
    """alpn: what the app speaks, in order of preference."""

    def __init__(
        self,
        material: "Material",
        tls: TlsConfig,
        verifier: Verifier,
        admit: Admit,
        clock: Clock,
        *,
        ticket_key: TicketKey,  # noqa: ARG002  pyca's binding can set none: OpenSSL draws its own for each context
        alpn: tuple[str, ...] = (),
    ) -> None:
        super().__init__(verifier, admit, clock)
        context = self._ssl_context = _ssl_context(material, tls, server=True)
        self.peers = OpenSslPeers(self, context)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)  # tickets only: no state per client on our side
        context.set_session_id(next(_context_numbers).to_bytes(16, "big"))
        self._hello_callback = binding.set_hello_callback(context, self.peers.judge_resumption)
        if alpn:
            self._alpn_callback = binding.select_alpn(context, alpn)

    def accept(self, sock: socket.SocketType) -> OpenSslHandshake:
        """As ServerContext's."""
        ssl = binding.new_ssl(self._ssl_context, sock.fileno())
        binding.lib.SSL_set_accept_state(ssl)
        return _handshake(self.peers, sock, ssl)


class OpenSslClientContext(ClientContext):
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
        self._server_name = server_name.encode("ascii") if server_name else None
        context = self._ssl_context = _ssl_context(material, tls, server=False)
        self.peers = OpenSslPeers(self, context)
        if not resume:
            context.set_options(binding.OP_NO_TICKET)
        if alpn:
            context.set_alpn_protos([name.encode("ascii") for name in alpn])

    def _begin(self, sock: socket.SocketType, session: Any | None) -> OpenSslHandshake:
        ssl = binding.new_ssl(self._ssl_context, sock.fileno())
        binding.lib.SSL_set_connect_state(ssl)
        if self._server_name is not None:
            binding.lib.SSL_set_tlsext_host_name(ssl, self._server_name)
        if session is not None:
            binding.lib.SSL_set_session(ssl, session)
        return _handshake(self.peers, sock, ssl)


def _handshake(peers: OpenSslPeers, sock: socket.SocketType, ssl: Any) -> OpenSslHandshake:
    channel = OpenSslChannel(sock, sock.fileno(), ssl=ssl, peers=peers)
    return OpenSslHandshake(peers.context, channel=channel, _peers=peers)


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
