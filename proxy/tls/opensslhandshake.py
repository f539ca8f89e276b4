"""
A handshake by OpenSSL. What a verdict is: tls/handshake.py.

In the middle of `SSL_do_handshake` OpenSSL calls the verify callback of the context, once per certificate and error;
the verdict is formed at the first call and repeated after.

On a resumed connection it calls none, in TLS 1.2 and 1.3 alike, and hands out the peer's leaf but no chain. So a
context remembers the identities that *it* verified in full (contexts die with the trust generation, and a ticket opens
only under the context that sealed it), and time and policy are judged again. A leaf that is not remembered is verified
from what is there: the leaf alone. A server judges in the server name callback, the one that OpenSSL calls after it has
opened the ticket and before it has answered, so that here too the refused peer gets an alert. A client judges when the
handshake is done: it offers no session that would fail.

OpenSSL's API cannot send an alert of our choice, only the one that belongs to a verify error: `_X509_ERROR_OF` picks
the error. access_denied (49) belongs to none; certificate_unknown (46) is the nearest: "some other issue arose in
processing the certificate, rendering it unacceptable" (RFC 8446 6.2).
"""

from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from proxy.core.reasons import Reason, Rejected
from proxy.tls import binding
from proxy.tls.handshake import Alert, Basis, Handshake, Negotiated, Step
from proxy.tls.opensslchannel import OpenSslChannel, read_failure
from proxy.tls.suites import OPENSSL_SUITES
from proxy.tls.verify import MAX_PRESENTED, PeerIdentity, Purpose

if TYPE_CHECKING:
    from proxy.tls.opensslcontexts import OpenSslPeers

_X509_ERROR_OF = {
    Alert.CERTIFICATE_EXPIRED: 10,
    Alert.UNKNOWN_CA: 19,
    Alert.BAD_CERTIFICATE: 28,
    Alert.UNSUPPORTED_CERTIFICATE: 26,
    Alert.CERTIFICATE_UNKNOWN: 47,
    Alert.INTERNAL_ERROR: 1,
}  # the X509_V_ERR for which OpenSSL sends it

# SSL_R_*: what OpenSSL found wrong, as far as it is worth a Reason of its own.
_REASON_OF = {
    199: Reason.NO_CLIENT_CERTIFICATE,
    **dict.fromkeys((161, 191, 258, 396, 421), Reason.UNSUPPORTED_TLS_VERSION),
    **dict.fromkeys((101, 118, 185, 193, 295, 360, 376, 410), Reason.NO_SHARED_CIPHER),
    **dict.fromkeys((155, 156, 198, 267), Reason.NOT_TLS),
}

_IANA_SUITES = {openssl: iana for iana, openssl in OPENSSL_SUITES.items()}
_GROUPS = {"secp256r1": "P-256", "prime256v1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521", "x25519": "X25519"}


class OpenSslHandshake(Handshake, kw_only=True):
    """A Handshake on an SSL of OpenSSL's."""

    _peers: "OpenSslPeers"
    _leaf_digest: bytes = b""  # of a chain that was presented: SHA-256
    _first_session: Any = None  # ours, the client's, until a ticket has come in TLS 1.3

    if TYPE_CHECKING:
        channel: OpenSslChannel

    def step(self) -> Step:
        """As Handshake's."""
        ssl = self.channel.ssl
        binding.ERR_clear_error()
        self._peers.judging = self
        try:
            code = binding.SSL_do_handshake(ssl)
        finally:
            self._peers.judging = None
        self._raise_bug()
        if code == 1:
            self._done()
            return Step.DONE
        error = binding.SSL_get_error(ssl, code)
        if error == binding.ERROR_WANT_READ:
            return Step.WANT_READ
        if error == binding.ERROR_WANT_WRITE:
            return Step.WANT_WRITE
        reason, words = binding.peek_error()
        raise self._failure(_REASON_OF.get(reason), words, read_failure(error))

    def judge(self, store_context: Any) -> int | None:
        """What the verify callback answers: None to let the peer in, else the X509_V_ERR whose alert is to be sent."""
        if self._basis is not Basis.CHAIN:
            self._form_verdict(Basis.CHAIN, lambda: self._presented(store_context))
        alert = self._nearest_alert()
        return None if alert is None else _X509_ERROR_OF[alert]

    def judge_resumption(self) -> int | None:
        """What the server name callback answers: None to go on, else the alert (its number) to be sent."""
        if not binding.lib.SSL_session_reused(self.channel.ssl):
            return None  # a full handshake: the verify callback is still to come
        self._form_verdict(Basis.SESSION, self._remembered)
        return self._nearest_alert()

    def _nearest_alert(self) -> Alert | None:
        alert = self._alert()
        return Alert.CERTIFICATE_UNKNOWN if alert is Alert.ACCESS_DENIED else alert

    def _presented(self, store_context: Any) -> PeerIdentity:
        context, chain = self._context, binding.presented_chain(store_context)
        digests = [binding.digest_of(certificate) for certificate in chain[:MAX_PRESENTED]]
        self._leaf_digest = digests[0] if digests else b""
        peer = None
        if len(digests) == len(chain):
            peer = context.verifier.recall(sha256(b"".join(digests)).digest(), context.purpose)
        if peer is not None:  # as context.verify would find, without looking at the leaf again
            self.leaf = peer.svid
            peer.check_time(context.clock())
            return peer
        self.leaf = context.leaf_facts(chain)
        return context.verify(chain)

    def _remembered(self) -> PeerIdentity:
        leaf = binding.peer_certificate(self.channel.ssl)
        if leaf is None:
            raise Rejected(Reason.NO_CLIENT_CERTIFICATE, "the resumed session holds no certificate")
        context, peer = self._context, self._peers.remembered.get(binding.digest_of(leaf))
        if peer is not None:
            self.leaf = peer.svid
            peer.check_time(context.clock())
            return peer
        # One that is not remembered is judged by itself: without its intermediates it passes only when an anchor
        # issued it.
        self.leaf = context.leaf_facts([leaf])
        return context.verify([leaf])

    def _done(self) -> None:
        ssl = self.channel.ssl
        self.resumed = bool(binding.lib.SSL_session_reused(ssl))
        if self.resumed and self._basis is not Basis.SESSION:
            self._form_verdict(Basis.SESSION, self._remembered)
            self._raise_bug()
        self._conclude()
        self._peers.listen(ssl)
        if self.peer is not None and not self.resumed:
            self._peers.remember(self._leaf_digest, self.peer)
        if self._context.purpose is Purpose.SERVER:
            # Held and not only looked at: freed, its address would be given to the session of the second ticket.
            self._first_session = binding.session_of(ssl)

    def _raise_bug(self) -> None:
        if self._bug is not None:
            binding.ERR_clear_error()
        super()._raise_bug()

    def _negotiated(self) -> Negotiated:
        ssl, lib = self.channel.ssl, binding.lib
        return Negotiated(
            _version_name(lib.SSL_get_version(ssl)),
            _cipher_name(lib.SSL_get_current_cipher(ssl)),
            _group_name(ssl),
            binding.alpn_of(ssl),
        )

    def _sni(self) -> str | None:
        return binding.text_of(binding.lib.SSL_get_servername(self.channel.ssl, 0))

    @property
    def version(self) -> str:
        """As Handshake's."""
        if self.channel.fd < 0:
            return "unknown"
        return binding.text_of(binding.lib.SSL_get_version(self.channel.ssl)) or "unknown"

    def ticket_has_come(self) -> bool:
        """As Handshake's; a ticket makes a new session."""
        if self._first_session is None or self.channel.fd < 0:
            return False
        return bool(binding.lib.SSL_get_session(self.channel.ssl) != self._first_session)

    def session(self) -> Any | None:
        """As Handshake's."""
        return binding.session_of(self.channel.ssl) if self.channel.fd >= 0 else None


# OpenSSL's versions and suites are constants of its own: their addresses are as good as numbers. Those of groups belong
# to a context.


@lru_cache(16)
def _version_name(name: Any) -> str | None:
    return binding.text_of(name)


@lru_cache(64)
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
