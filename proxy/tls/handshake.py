"""
One handshake, step by step, and the judgement inside it.

`step()` drives the engine as far as the socket allows. Somewhere in it the peer's chain has to be judged: by
tls/verify.py, and its identity by the policy that came with the context, both before the handshake is done, so that a
refused peer gets an alert and not a bare end of file. An exception that is no refusal (a bug of ours, an interrupt)
refuses the peer too, and `step()` raises it again. A handshake without a positive verdict is a refusal, whatever the
engine thinks of it.

Resumption is where the field has its holes: engines resume without asking anybody. Here a resumed peer is judged as
one that presents its chain now: time, trust and policy. How each engine comes by the chain, and how it can still tell
the peer, is in tls/opensslhandshake.py and tls/boringhandshake.py; what a verdict is and what a failure means, is here.
"""

from abc import abstractmethod
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from proxy.core.clockwords import rfc3339
from proxy.core.events import TlsFacts
from proxy.core.policy import Permit
from proxy.core.reasons import Reason, Rejected
from proxy.core.svid import LeafFacts
from proxy.tls.channel import End, Failure, TlsChannel
from proxy.tls.verify import PeerIdentity, Purpose

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from proxy.tls.contexts import PeerContext


class Basis(Enum):
    """What a verdict was formed on. One that stands on a session says nothing of a chain that is presented after."""

    CHAIN = "chain"
    SESSION = "session"


class Step(Enum):
    """What the handshake waits for."""

    DONE = "done"
    WANT_READ = "want read"
    WANT_WRITE = "want write"


class Alert(IntEnum):
    """The AlertDescription (RFC 8446 6) that tells a peer why."""

    BAD_CERTIFICATE = 42
    UNSUPPORTED_CERTIFICATE = 43
    CERTIFICATE_EXPIRED = 45
    CERTIFICATE_UNKNOWN = 46
    UNKNOWN_CA = 48
    ACCESS_DENIED = 49
    INTERNAL_ERROR = 80


_ALERT_OF = {
    Reason.CERTIFICATE_EXPIRED: Alert.CERTIFICATE_EXPIRED,
    Reason.CERTIFICATE_NOT_YET_VALID: Alert.CERTIFICATE_EXPIRED,  # RFC 8446: "has expired or is not currently valid"
    Reason.UNKNOWN_AUTHORITY: Alert.UNKNOWN_CA,
    Reason.WRONG_TRUST_DOMAIN: Alert.UNKNOWN_CA,
    Reason.CERTIFICATE_INVALID: Alert.BAD_CERTIFICATE,
    Reason.SPIFFE_ID_MALFORMED: Alert.BAD_CERTIFICATE,
    Reason.NOT_AN_SVID: Alert.UNSUPPORTED_CERTIFICATE,
    Reason.NOT_ALLOWED: Alert.ACCESS_DENIED,
    Reason.DENIED: Alert.ACCESS_DENIED,
    Reason.SERVER_ID_MISMATCH: Alert.ACCESS_DENIED,
}

_CERTIFICATE_ALERTS = frozenset({42, 43, 44, 45, 46, 48, 49, 116})
_HANDSHAKE_FAILURE, _PROTOCOL_VERSION, _INSUFFICIENT_SECURITY = 40, 70, 71


class Negotiated(NamedTuple):
    """What both sides agreed on, in the words of the configuration and of the log; all None until they have."""

    version: str | None = None
    cipher: str | None = None
    group: str | None = None
    alpn: str | None = None


_NOTHING_YET = Negotiated()


class Handshake(msgspec.Struct, eq=False):
    """
    The handshake of one connection. `peer` and `permit` are set when, and only when, it ended well.

    leaf:   what the peer's certificate claims, verified or not
    permit: what the policy gave for the peer; a server's identity gets none

    What an engine adds: `step`, `version`, `ticket_has_come`, `session` and `_negotiated`.
    """

    _context: "PeerContext"
    channel: TlsChannel
    _basis: Basis | None = None
    _permit: Permit | None = None
    _verdict: PeerIdentity | None = None
    _refusal: Rejected | None = None
    _bug: BaseException | None = None
    leaf: LeafFacts | None = None
    peer: PeerIdentity | None = None
    permit: Permit | None = None
    resumed: bool = False

    @abstractmethod
    def step(self) -> Step:
        """
        Go on as far as the socket allows.

        Raises: Rejected with why the handshake failed; the engine has then already sent the alert
        """

    @property
    @abstractmethod
    def version(self) -> str:
        """The protocol version in use: "TLSv1.2" or "TLSv1.3"; "unknown" once the channel is closed."""

    @abstractmethod
    def ticket_has_come(self) -> bool:
        """TLS 1.3, our side the client: whether the server has sent a session ticket, so that it has accepted us."""

    @abstractmethod
    def session(self) -> "Any | None":
        """The session to resume later (TLS 1.3: once a ticket has come); it is the engine's own."""

    @abstractmethod
    def _negotiated(self) -> Negotiated:
        """Asked only when the handshake is done and the channel still open."""

    @abstractmethod
    def _sni(self) -> str | None:
        """The server name that the client sent, as far as it is known."""

    # The verdict.

    def _form_verdict(self, basis: Basis, judgement: "Callable[[], PeerIdentity]") -> None:
        """Lets no exception pass: it may be called inside of the engine, on C's stack, where C would only print it."""
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

    def _alert(self) -> Alert | None:
        """What is to be sent; None where the peer is let in."""
        if self._verdict is not None:
            return None
        reason = self._refusal.reason if self._refusal else Reason.HANDSHAKE_FAILED
        return _ALERT_OF.get(reason, Alert.INTERNAL_ERROR)

    def _conclude(self) -> None:
        """The engine is done: so are we, if there is a good verdict on what it went by. Raises: Rejected."""
        basis = Basis.SESSION if self.resumed else Basis.CHAIN
        if self._verdict is None or self._basis is not basis:
            raise self._refused() or Rejected(Reason.HANDSHAKE_FAILED, "the peer's certificate was never judged")
        self.peer, self.permit = self._verdict, self._permit  # only now has the peer proven that it holds the key

    def _raise_bug(self) -> None:
        if self._bug is not None:
            bug, self._bug = self._bug, None
            raise bug

    def _refused(self) -> Rejected | None:
        return None if self._refusal is None else Rejected(self._refusal.reason, self._refusal.detail)

    # Failures that are no verdict of ours.

    def _failure(self, reason: Reason | None, words: str, failure: Failure) -> Rejected:
        """
        Why a handshake failed.

        reason:  what the engine's error means by itself, where it has a Reason of its own; words: the engine's
        failure: how the stream ended, and the alert that came
        """
        if (refused := self._refused()) is not None:
            return refused
        if reason is Reason.NO_CLIENT_CERTIFICATE:
            return Rejected(reason, "the client opened TLS but presented no certificate")
        if reason is Reason.UNSUPPORTED_TLS_VERSION:
            return Rejected(reason, f"no TLS version in common ({words})")
        if reason is Reason.NO_SHARED_CIPHER:
            return Rejected(reason, f"no cipher suite, group or signature in common ({words})")
        if reason is Reason.NOT_TLS:
            return Rejected(reason, f"the answer is not TLS ({words})")
        if reason is not None:
            return Rejected(reason, words)
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

    # What is known.

    def facts(self) -> TlsFacts:
        """What is known so far; after a refusal too, as far as the peer's certificate was seen."""
        leaf = self.leaf
        established = self.peer is not None and self.channel.fd >= 0
        version, cipher, group, alpn = self._negotiated() if established else _NOTHING_YET
        return TlsFacts(
            version=version,
            cipher=cipher,
            group=group,
            sni=self._sni(),
            alpn=alpn,
            resumed=self.resumed,
            peer_spiffe_id=str(leaf.spiffe_id) if leaf else None,
            peer_serial=leaf.serial if leaf else None,
            peer_not_after=rfc3339(leaf.not_after) if leaf else None,
        )


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
