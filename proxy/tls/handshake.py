"""
One handshake, step by step, and the judgement inside it.

`step()` drives OpenSSL as far as the socket allows. Somewhere in it OpenSSL calls the verify callback of the context,
which asks this Handshake for its verdict: the chain is judged by tls/verify.py, then the identity by the policy that
came with the context, both before the handshake is done, so that a refused peer gets an alert and not a bare end of
file. OpenSSL calls back once per certificate and error; the verdict is formed at the first call and repeated after.
An exception that is no refusal (a bug of ours, an interrupt) refuses the peer too, and `step()` raises it again.

Resumption is where the field has its holes: OpenSSL calls no verify callback on a resumed connection, in TLS 1.2 and
1.3 alike, and hands out the peer's leaf but no chain. So a context remembers the identities that *it* verified in full
(contexts die with the trust generation, and a ticket opens only under the context that sealed it), and time and policy
are judged again. A leaf that is not remembered is verified from what is there: the leaf alone. A server judges in the
server name callback, the one that OpenSSL calls after it has opened the ticket and before it has answered, so that here
too the refused peer gets an alert. A client judges when the handshake is done: it offers no session that would fail.

A handshake without a positive verdict is a refusal, whatever OpenSSL thinks of it.

OpenSSL's API cannot send an alert of our choice, only the one that belongs to a verify error: `_ALERT_OF` picks the
error. access_denied (49) belongs to none; certificate_unknown (46) is the nearest: "some other issue arose in
processing the certificate, rendering it unacceptable" (RFC 8446 6.2).
"""

from enum import Enum
from typing import TYPE_CHECKING, Any

from proxy.core.clockwords import rfc3339
from proxy.core.events import TlsFacts
from proxy.core.policy import Permit
from proxy.core.reasons import Reason, Rejected
from proxy.core.svid import LeafFacts
from proxy.tls import binding
from proxy.tls.channel import End, Failure, TlsChannel, read_failure
from proxy.tls.verify import PeerIdentity, Purpose

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from proxy.tls.contexts import PeerContext


class _Basis(Enum):
    """What a verdict was formed on. One that stands on a session says nothing of a chain that is presented after."""

    CHAIN = "chain"
    SESSION = "session"


class Step(Enum):
    """What the handshake waits for."""

    DONE = "done"
    WANT_READ = "want read"
    WANT_WRITE = "want write"


class _Alert(Enum):
    """The AlertDescription (RFC 8446 6) that tells a peer why."""

    EXPIRED = 45
    UNKNOWN_CA = 48
    BAD = 42
    UNSUPPORTED = 43
    UNKNOWN = 46
    INTERNAL = 80


_X509_ERROR_OF_ALERT = {
    _Alert.EXPIRED: 10,
    _Alert.UNKNOWN_CA: 19,
    _Alert.BAD: 28,
    _Alert.UNSUPPORTED: 26,
    _Alert.UNKNOWN: 47,
    _Alert.INTERNAL: 1,
}  # the X509_V_ERR for which OpenSSL sends it
_ALERT_OF = {
    Reason.CERTIFICATE_EXPIRED: _Alert.EXPIRED,
    Reason.CERTIFICATE_NOT_YET_VALID: _Alert.EXPIRED,  # RFC 8446: "has expired or is not currently valid"
    Reason.UNKNOWN_AUTHORITY: _Alert.UNKNOWN_CA,
    Reason.WRONG_TRUST_DOMAIN: _Alert.UNKNOWN_CA,
    Reason.CERTIFICATE_INVALID: _Alert.BAD,
    Reason.SPIFFE_ID_MALFORMED: _Alert.BAD,
    Reason.NOT_AN_SVID: _Alert.UNSUPPORTED,
    Reason.NOT_ALLOWED: _Alert.UNKNOWN,
    Reason.DENIED: _Alert.UNKNOWN,
    Reason.SERVER_ID_MISMATCH: _Alert.UNKNOWN,
}

# SSL_R_*: what OpenSSL found wrong, as far as it is worth a Reason of its own.
_NO_PEER_CERTIFICATE = 199
_VERIFY_FAILED = 134
_VERSION_REASONS = frozenset({161, 191, 258, 396, 421})
_CIPHER_REASONS = frozenset({101, 118, 185, 193, 295, 360, 376, 410})
_NOT_TLS_REASONS = frozenset({155, 156, 198, 267})
_CERTIFICATE_ALERTS = frozenset({42, 43, 44, 45, 46, 48, 49, 116})
_HANDSHAKE_FAILURE, _PROTOCOL_VERSION, _INSUFFICIENT_SECURITY = 40, 70, 71

_IANA_SUITES = {
    "ECDHE-ECDSA-AES256-GCM-SHA384": "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384": "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256": "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256": "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "ECDHE-ECDSA-CHACHA20-POLY1305": "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "ECDHE-RSA-CHACHA20-POLY1305": "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
}
OPENSSL_SUITES = {iana: openssl for openssl, iana in _IANA_SUITES.items()}
_GROUPS = {"secp256r1": "P-256", "prime256v1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521", "x25519": "X25519"}


class Handshake:
    """The handshake of one connection. `peer` and `permit` are set when, and only when, it ended well."""

    __slots__ = (
        "_basis",
        "_bug",
        "_context",
        "_first_session",
        "_permit",
        "_refusal",
        "_verdict",
        "channel",
        "leaf",
        "peer",
        "permit",
        "resumed",
    )

    def __init__(self, context: "PeerContext", sock: "socket.socket", ssl: Any) -> None:
        self._context = context
        self._basis: _Basis | None = None
        self._permit: Permit | None = None
        self._verdict: PeerIdentity | None = None
        self._refusal: Rejected | None = None
        self._bug: BaseException | None = None
        self.leaf: LeafFacts | None = None  # what the peer's certificate claims, verified or not
        self.peer: PeerIdentity | None = None
        self.permit: Permit | None = None  # what the policy gave for it; a server's identity gets none
        self.resumed = False
        self._first_session: Any = None  # ours, the client's, until a ticket has come in TLS 1.3
        self.channel = TlsChannel(sock, ssl)

    def step(self) -> Step:
        """
        Go on as far as the socket allows.

        Raises: Rejected with why the handshake failed; OpenSSL has then already sent the alert
        """
        ssl = self.channel.ssl
        binding.ERR_clear_error()
        self._context.judging = self
        try:
            code = binding.SSL_do_handshake(ssl)
        finally:
            self._context.judging = None
        self._raise_bug()
        if code == 1:
            self._done()
            return Step.DONE
        error = binding.SSL_get_error(ssl, code)
        if error == binding.ERROR_WANT_READ:
            return Step.WANT_READ
        if error == binding.ERROR_WANT_WRITE:
            return Step.WANT_WRITE
        raise self._failure(error)

    def judge(self, store_context: Any) -> int | None:
        """What the verify callback answers: None to let the peer in, else the X509_V_ERR whose alert is to be sent."""
        if self._basis is not _Basis.CHAIN:
            self._form_verdict(_Basis.CHAIN, lambda: self._presented(store_context))
        alert = self._alert()
        return None if alert is None else _X509_ERROR_OF_ALERT[alert]

    def judge_resumption(self) -> int | None:
        """What the server name callback answers: None to go on, else the alert (its number) to be sent."""
        if not binding.lib.SSL_session_reused(self.channel.ssl):
            return None  # a full handshake: the verify callback is still to come
        self._form_verdict(_Basis.SESSION, self._resumed)
        alert = self._alert()
        return None if alert is None else alert.value

    def _form_verdict(self, basis: _Basis, judgement: "Callable[[], PeerIdentity]") -> None:
        """Called inside OpenSSL, on C's stack: no exception may pass, C would only print it."""
        self._basis, self._verdict, self._refusal, self._permit = basis, None, None, None
        try:
            peer = judgement()
            self._permit = self._context.admit(peer.spiffe_id)
            self._verdict = peer
        except Rejected as rejected:
            # Without its traceback, which would hold this frame, and so the SSL, until the next garbage collection.
            self._refusal = Rejected(rejected.reason, rejected.detail)
        except BaseException as bug:
            self._bug = bug

    def _alert(self) -> "_Alert | None":
        if self._verdict is not None:
            return None
        reason = self._refusal.reason if self._refusal else Reason.HANDSHAKE_FAILED
        return _ALERT_OF.get(reason, _Alert.INTERNAL)

    def _presented(self, store_context: Any) -> PeerIdentity:
        chain = binding.presented_chain(store_context)
        self.leaf = self._context.leaf_facts(chain)
        return self._context.verify(chain)

    def _resumed(self) -> PeerIdentity:
        leaf = binding.peer_certificate(self.channel.ssl)
        if leaf is None:
            raise Rejected(Reason.NO_CLIENT_CERTIFICATE, "the resumed session holds no certificate")
        self.leaf = self._context.leaf_facts([leaf])
        return self._context.recall(leaf)

    def _done(self) -> None:
        ssl = self.channel.ssl
        self.resumed = bool(binding.lib.SSL_session_reused(ssl))
        basis = _Basis.SESSION if self.resumed else _Basis.CHAIN
        if self.resumed and self._basis is not basis:
            self._form_verdict(basis, self._resumed)
            self._raise_bug()
        if self._verdict is None or self._basis is not basis:
            raise self._refused() or Rejected(Reason.HANDSHAKE_FAILED, "the peer's certificate was never judged")
        if not self.resumed:
            self._context.remember(self._verdict)
        if self._context.purpose is Purpose.SERVER:
            # Held and not only looked at: freed, its address would be given to the session of the second ticket.
            self._first_session = binding.session_of(ssl)
        self.peer, self.permit = self._verdict, self._permit  # only now has the peer proven that it holds the key

    def _raise_bug(self) -> None:
        if self._bug is not None:
            bug, self._bug = self._bug, None
            binding.ERR_clear_error()
            raise bug

    def _refused(self) -> Rejected | None:
        return None if self._refusal is None else Rejected(self._refusal.reason, self._refusal.detail)

    def _failure(self, error: int) -> Rejected:
        code, words = binding.peek_error()
        failure = read_failure(error)
        if (refused := self._refused()) is not None:
            return refused
        if code == _NO_PEER_CERTIFICATE:
            return Rejected(Reason.NO_CLIENT_CERTIFICATE, "the client opened TLS but presented no certificate")
        if code in _VERSION_REASONS:
            return Rejected(Reason.UNSUPPORTED_TLS_VERSION, f"no TLS version in common ({words})")
        if code in _CIPHER_REASONS:
            return Rejected(Reason.NO_SHARED_CIPHER, f"no cipher suite, group or signature in common ({words})")
        if code in _NOT_TLS_REASONS:
            return Rejected(Reason.NOT_TLS, f"the answer is not TLS ({words})")
        if self._context.purpose is Purpose.SERVER:
            return self._upstream_failure(failure)
        return _downstream_failure(failure)

    def _upstream_failure(self, failure: Failure) -> Rejected:
        """What a server's behaviour in mid-handshake means to us, the client."""
        end, words, alert = failure
        judged = self._verdict is not None  # its certificate has arrived, so ours was asked for and sent
        if alert == _PROTOCOL_VERSION:
            return Rejected(Reason.UNSUPPORTED_TLS_VERSION, f"{words}: it takes none of our TLS versions")
        if alert in _CERTIFICATE_ALERTS or (judged and end is not End.PROTOCOL):
            return Rejected(Reason.UPSTREAM_REJECTED_US, f"{words} after it had seen our certificate")
        if alert in (_HANDSHAKE_FAILURE, _INSUFFICIENT_SECURITY):
            return Rejected(Reason.NO_SHARED_CIPHER, f"{words} before it showed a certificate")
        return Rejected(Reason.HANDSHAKE_FAILED, words)

    def facts(self) -> TlsFacts:
        """What is known so far; after a refusal too, as far as the peer's certificate was seen."""
        ssl, lib = self.channel.ssl, binding.lib
        leaf = self.leaf
        established = self.peer is not None and self.channel.fd >= 0
        cipher = lib.SSL_get_current_cipher(ssl) if established else binding.ffi.NULL
        return TlsFacts(
            version=binding.text_of(lib.SSL_get_version(ssl)) if established else None,
            cipher=_cipher_name(cipher),
            group=_group_name(ssl) if established else None,
            sni=self._context.sni_of(ssl),
            alpn=binding.alpn_of(ssl) if established else None,
            resumed=self.resumed,
            peer_spiffe_id=str(leaf.spiffe_id) if leaf else None,
            peer_serial=leaf.serial if leaf else None,
            peer_not_after=rfc3339(leaf.not_after) if leaf else None,
        )

    @property
    def version(self) -> str:
        """The protocol version in use: "TLSv1.2" or "TLSv1.3"."""
        if self.channel.fd < 0:
            return "unknown"
        return binding.text_of(binding.lib.SSL_get_version(self.channel.ssl)) or "unknown"

    def ticket_has_come(self) -> bool:
        """TLS 1.3, our side the client: whether the server has sent a session ticket, which makes a new session."""
        if self._first_session is None or self.channel.fd < 0:
            return False
        return bool(binding.lib.SSL_get_session(self.channel.ssl) != self._first_session)

    def session(self) -> Any | None:
        """The session to resume later (TLS 1.3: once a ticket has come)."""
        return binding.session_of(self.channel.ssl) if self.channel.fd >= 0 else None


def _downstream_failure(failure: Failure) -> Rejected:
    """What a client's behaviour in mid-handshake means to us, the server."""
    end, words, alert = failure
    if alert == _PROTOCOL_VERSION:
        return Rejected(Reason.UNSUPPORTED_TLS_VERSION, f"{words}: it takes none of our TLS versions")
    if alert in _CERTIFICATE_ALERTS:
        return Rejected(Reason.HANDSHAKE_FAILED, f"{words}: the client does not accept our certificate")
    if end in (End.TRUNCATED, End.RESET):
        return Rejected(Reason.CLIENT_LEFT, f"the client left in mid-handshake ({words})")
    return Rejected(Reason.HANDSHAKE_FAILED, words)


def _cipher_name(cipher: Any) -> str | None:
    """The IANA name: OpenSSL has names of its own for TLS 1.2 suites."""
    if cipher == binding.ffi.NULL:
        return None
    name = binding.text_of(binding.lib.SSL_CIPHER_get_name(cipher))
    return _IANA_SUITES.get(name or "", name)


def _group_name(ssl: Any) -> str | None:
    """The key-exchange group as the configuration spells it; on a TLS 1.2 resumption, that of the first handshake."""
    if binding.lib.SSL_get_session(ssl) == binding.ffi.NULL:
        return None  # SSL_get0_group_name crashes without a session
    name = binding.text_of(binding.lib.SSL_get0_group_name(ssl))
    return _GROUPS.get(name or "", name)
