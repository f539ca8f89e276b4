"""
One handshake, step by step, and the judgement inside it.

`step()` drives OpenSSL as far as the socket allows. Somewhere in it OpenSSL calls the verify callback of the context,
which asks this Handshake for its verdict: the chain is judged by tls/verify.py, then the identity by the policy that
came with the context, both before the handshake is done, so that a refused peer gets an alert and not a bare end of
file. OpenSSL calls back once per certificate and error; the verdict is formed at the first call and repeated after.

Resumption is where the field has its holes: OpenSSL calls no verify callback on a resumed connection, in TLS 1.2 and
1.3 alike, and hands out the peer's leaf but no chain. So a context remembers the identities that *it* verified in full
(contexts die with the trust generation, and a ticket opens only under the context that sealed it), and `_resumed`
judges time and policy again. A leaf that is not remembered is verified from what is there: the leaf alone.

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

    from proxy.tls.contexts import PeerContext


class Step(Enum):
    """What the handshake waits for."""

    DONE = "done"
    WANT_READ = "want read"
    WANT_WRITE = "want write"


_X509_ERROR_OF_ALERT = {"expired": 10, "unknown_ca": 19, "bad": 28, "unsupported": 26, "unknown": 47, "internal": 1}
_ALERT_OF = {
    Reason.CERTIFICATE_EXPIRED: "expired",
    Reason.CERTIFICATE_NOT_YET_VALID: "expired",  # RFC 8446: "has expired or is not currently valid"
    Reason.UNKNOWN_AUTHORITY: "unknown_ca",
    Reason.WRONG_TRUST_DOMAIN: "unknown_ca",
    Reason.CERTIFICATE_INVALID: "bad",
    Reason.SPIFFE_ID_MALFORMED: "bad",
    Reason.NOT_AN_SVID: "unsupported",
    Reason.NOT_ALLOWED: "unknown",
    Reason.DENIED: "unknown",
    Reason.SERVER_ID_MISMATCH: "unknown",
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
    """The handshake of one connection. `peer` is set when, and only when, it ended well."""

    __slots__ = (
        "_context",
        "_first_session",
        "_refusal",
        "_ssl",
        "_verdict",
        "channel",
        "leaf",
        "peer",
        "permit",
        "resumed",
    )

    def __init__(self, context: "PeerContext", sock: "socket.socket", ssl: Any) -> None:
        self._context = context
        self._ssl = ssl
        self._verdict: PeerIdentity | None = None
        self._refusal: Rejected | None = None
        self.leaf: LeafFacts | None = None  # what the peer's certificate claims, verified or not
        self.peer: PeerIdentity | None = None
        self.permit: Permit | None = None  # what the policy gave for it; a server's identity gets none
        self.resumed = False
        self._first_session: Any = None
        self.channel = TlsChannel(sock, ssl)

    def step(self) -> Step:
        """
        Go on as far as the socket allows.

        Raises: Rejected with why the handshake failed; OpenSSL has then already sent the alert
        """
        binding.ERR_clear_error()
        self._context.judging = self
        try:
            code = binding.SSL_do_handshake(self._ssl)
        finally:
            self._context.judging = None
        if code == 1:
            self._done()
            return Step.DONE
        error = binding.SSL_get_error(self._ssl, code)
        if error == binding.ERROR_WANT_READ:
            return Step.WANT_READ
        if error == binding.ERROR_WANT_WRITE:
            return Step.WANT_WRITE
        raise self._failure(error)

    def judge(self, store_context: Any) -> int | None:
        """What the verify callback answers: None to let the peer in, else the X509_V_ERR whose alert is to be sent."""
        if self._verdict is None and self._refusal is None:
            try:
                chain = binding.presented_chain(store_context)
                self.leaf = self._context.leaf_facts(chain)
                self._verdict = self._context.verify(chain)
                self.permit = self._context.admit(self._verdict.spiffe_id)
            except Rejected as rejected:
                self._refusal = rejected
        if self._refusal is None and self._verdict is not None:
            return None
        reason = self._refusal.reason if self._refusal else Reason.HANDSHAKE_FAILED
        return _X509_ERROR_OF_ALERT[_ALERT_OF.get(reason, "internal")]

    def _done(self) -> None:
        self._first_session = binding.lib.SSL_get_session(self._ssl)
        self.resumed = bool(binding.lib.SSL_session_reused(self._ssl))
        if self.resumed:
            self.peer = self._resumed()
        elif self._verdict is None or self._refusal is not None:
            raise self._refusal or Rejected(Reason.HANDSHAKE_FAILED, "the peer's certificate was never judged")
        else:
            self.peer = self._verdict
            self._context.remember(self.peer)

    def _resumed(self) -> PeerIdentity:
        leaf = binding.peer_certificate(self._ssl)
        if leaf is None:
            raise Rejected(Reason.NO_CLIENT_CERTIFICATE, "the resumed session holds no certificate")
        self.leaf = self._context.leaf_facts([leaf])
        peer = self._context.recall(leaf)
        self.permit = self._context.admit(peer.spiffe_id)
        return peer

    def _failure(self, error: int) -> Rejected:
        code, words = binding.peek_error()
        failure = read_failure(error)
        if self._refusal is not None:
            return self._refusal
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
        ssl, lib = self._ssl, binding.lib
        leaf = self.leaf
        established = self.peer is not None
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
        return binding.text_of(binding.lib.SSL_get_version(self._ssl)) or "unknown"

    def ticket_has_come(self) -> bool:
        """TLS 1.3, our side the client: whether the server has sent a session ticket, which makes a new session."""
        return bool(binding.lib.SSL_get_session(self._ssl) != self._first_session)

    def session(self) -> Any | None:
        """The session to resume later (TLS 1.3: once a ticket has come)."""
        return binding.session_of(self._ssl)


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
    """The key-exchange group as the configuration spells it; None on a TLS 1.2 resumption, which has none."""
    if binding.lib.SSL_get_session(ssl) == binding.ffi.NULL:
        return None  # SSL_get0_group_name crashes without a session
    name = binding.text_of(binding.lib.SSL_get0_group_name(ssl))
    return _GROUPS.get(name or "", name)
