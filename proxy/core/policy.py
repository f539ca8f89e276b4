"""
Who may pass: rules and an identity in, a Permit out. Nothing matched means refused, and deny wins over allow.

The dialer takes a Permit and nothing else lets it dial, so the question "was this connection authorized?" is answered
by the type of an argument. Only the makers in this file construct one; each says why it is safe:

    Policy.authorize    a peer with a verified SVID, and a rule that allows it
    permit_plaintext    the operator wrote PERMISSIVE or DISABLE on this listener
    permit_app_tls      the operator named this server name as the app's own TLS
    permit_outbound     our own app, on a listener whose upstream is verified by ServerPolicy
    permit_passthrough  our own app, to where the operator lets it go as it is

This file refuses to know how an identity was proven (tls/) and how a refusal is shown (ops/).
"""

from dataclasses import InitVar, dataclass
from typing import TYPE_CHECKING

from proxy.core.config import Mode, OutboundDefault
from proxy.core.events import Direction, Listener, Security
from proxy.core.reasons import Reason, Rejected
from proxy.core.spiffe import quote

if TYPE_CHECKING:
    from proxy.core.spiffe import IdPattern, SpiffeId

_MAKER = object()  # known to this file alone; whoever does not hold it cannot construct a Permit


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """
    The right to dial the upstream of one listener for one connection.

    peer:     the downstream's verified identity; None where it has none (plaintext, the app's own TLS, our own app)
    security: how the bytes cross the network
    """

    listener: Listener
    peer: "SpiffeId | None"
    security: Security
    maker: InitVar[object]

    def __post_init__(self, maker: object) -> None:
        if maker is not _MAKER:
            raise TypeError("a Permit comes only from Policy.authorize or a permit_* maker of core/policy.py")


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of one inbound listener. Without an allow pattern nobody passes."""

    allow: "tuple[IdPattern, ...]"
    deny: "tuple[IdPattern, ...]" = ()

    def authorize(self, peer: "SpiffeId", listener: Listener) -> Permit:
        """
        Let a peer in whose SVID was verified: safe, because some rule of the operator names it and none denies it.

        Raises: Rejected(DENIED) with the pattern that hit; Rejected(NOT_ALLOWED) with the pattern that came nearest
        """
        for pattern in self.deny:
            if pattern.matches(peer):
                raise Rejected(Reason.DENIED, f"{peer} is denied on {_label(listener)} by the pattern {pattern}")
        for pattern in self.allow:
            if pattern.matches(peer):
                return Permit(listener=listener, peer=peer, security=Security.MUTUAL_TLS, maker=_MAKER)
        raise Rejected(
            Reason.NOT_ALLOWED, f"{peer} is not allowed on {_label(listener)}: {_tried(self.allow, peer, 'allow')}"
        )


@dataclass(frozen=True, slots=True)
class ServerPolicy:
    """Who may answer on one outbound listener (`server_ids`). Without a pattern nobody may."""

    server_ids: "tuple[IdPattern, ...]"

    def authorize(self, peer: "SpiffeId", listener: Listener) -> "SpiffeId":
        """
        Accept the verified identity of an upstream. It gives no Permit: the dial has already happened.

        Returns: the same identity
        Raises:  Rejected(SERVER_ID_MISMATCH) with the pattern that came nearest
        """
        for pattern in self.server_ids:
            if pattern.matches(peer):
                return peer
        raise Rejected(
            Reason.SERVER_ID_MISMATCH,
            f"the upstream of {_label(listener)} is {peer}: {_tried(self.server_ids, peer, 'server_ids')}",
        )


def permit_plaintext(listener: Listener, mode: Mode) -> Permit:
    """
    Let plaintext in: safe, because the operator asked for it with PERMISSIVE or DISABLE on this very listener.

    Raises: Rejected(PLAINTEXT_REFUSED) for STRICT, and for anything that is not a mode
    """
    # Named one by one, so that a mode added later is refused until somebody decides about it here.
    if mode is not Mode.PERMISSIVE and mode is not Mode.DISABLE:
        raise Rejected(Reason.PLAINTEXT_REFUSED, f"{_label(listener)} is {mode} and takes no plaintext")
    return Permit(listener=listener, peer=None, security=Security.PLAINTEXT, maker=_MAKER)


def permit_app_tls(listener: Listener, server_name: str | None, names: tuple[str, ...]) -> Permit:
    """
    Pass the app's own TLS through unopened: safe, because the operator listed this server name as the app's, which
    therefore does its own authentication.

    server_name: the SNI of the ClientHello, None when it had none
    names:       `app_tls_server_names`
    Raises:      Rejected(NOT_ALLOWED)
    """
    if server_name is None:
        raise Rejected(
            Reason.NOT_ALLOWED, f"{_label(listener)} passes TLS to the app by server name, and the client sent none"
        )
    if not is_app_server_name(server_name, names):
        raise Rejected(
            Reason.NOT_ALLOWED,
            f"the server name {quote(server_name)} is not in `app_tls_server_names` of {_label(listener)}",
        )
    return Permit(listener=listener, peer=None, security=Security.APP_TLS, maker=_MAKER)


def permit_outbound(listener: Listener) -> Permit:
    """
    Let our own app out: safe, because an outbound listener serves this host only (its address is the operator's
    choice), and what it dials must prove one of `server_ids` before a byte of the app reaches it.

    Raises: Rejected(PLAINTEXT_REFUSED) for an inbound listener, whose clients come from the network
    """
    if listener.direction is not Direction.OUTBOUND:
        raise Rejected(Reason.PLAINTEXT_REFUSED, f"{_label(listener)} is not an outbound listener")
    return Permit(listener=listener, peer=None, security=Security.MUTUAL_TLS, maker=_MAKER)


def permit_passthrough(listener: Listener, default: OutboundDefault) -> Permit:
    """
    Let our own app out as it is: safe, because it is what the operator wrote for destinations that no route covers, and
    what the app would do without a sidecar.

    Raises: Rejected(NOT_ALLOWED) for `refuse` and for an inbound listener
    """
    if listener.direction is not Direction.OUTBOUND or default is not OutboundDefault.PASSTHROUGH:
        raise Rejected(Reason.NOT_ALLOWED, f"{_label(listener)} lets nothing out as it is")
    return Permit(listener=listener, peer=None, security=Security.PLAINTEXT, maker=_MAKER)


def is_app_server_name(server_name: str, names: tuple[str, ...]) -> bool:
    """Whether an SNI is one of `names`, without regard to case; `*.shop.svc` covers exactly one more label."""
    # lower() folds some letters beyond ASCII into ASCII (the Kelvin sign into k); no DNS name has them.
    # A `*` from a client is no name at all, and must not equal the operator's wildcard.
    if not server_name.isascii() or "*" in server_name:
        return False
    name = server_name.lower()
    label, _, parent = name.partition(".")
    wildcard = f"*.{parent}" if label and parent else None
    return any(candidate.lower() in (name, wildcard) for candidate in names)


def _label(listener: Listener) -> str:
    return f"the {listener.direction} listener {listener.name}"


def _tried(patterns: "tuple[IdPattern, ...]", peer: "SpiffeId", key: str) -> str:
    """Say how many patterns were tried and which one came nearest: most often it has the typing error."""
    if not patterns:
        return f"it has no `{key}` pattern"
    nearest = max(patterns, key=lambda pattern: pattern.nearness(peer))
    stranger = nearest.nearness(peer) == 0
    if len(patterns) == 1:
        verdict = f"the one `{key}` pattern, {nearest}, does not match"
        return f"{verdict}: it is for another trust domain" if stranger else verdict
    verdict = f"none of {len(patterns)} `{key}` patterns matches"
    return f"{verdict}: all are for other trust domains" if stranger else f"{verdict}, the nearest is {nearest}"
