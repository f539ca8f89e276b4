"""
What `probe` found, as plain values: the JSON that --json prints, and what the text for people is written from.

Programs read it, so a field keeps its name and its meaning: what is new is added, and a change that is none of these
raises `schema`. Times are milliseconds, lists are empty where there is nothing, and null means "not known".
"""

from enum import StrEnum

import msgspec

from proxy.core.reasons import Reason
from proxy.tls.pemview import CertificateView

SCHEMA = 1


class Outcome(StrEnum):
    """How a handshake ended. NO_WORD: our end of it is done, and nothing shows that the peer has accepted us."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    NO_WORD = "no word"
    NOT_SPOKEN = "not spoken"
    FAILED = "failed"


class Demand(StrEnum):
    """What a peer wants of its clients. OPTIONAL: it asks for a certificate, and lets TLS finish without one."""

    REQUIRED = "required"
    OPTIONAL = "optional"
    NOT_ASKED = "not asked"
    UNKNOWN = "unknown"


class Resumption(StrEnum):
    """Whether a session can be taken up again."""

    WORKS = "works"
    NO_TICKET = "no ticket came"
    FULL_HANDSHAKE = "the session was not taken up"
    FAILED = "failed"
    NOT_TRIED = "not tried"


class AddressView(msgspec.Struct, frozen=True, kw_only=True):
    """One address of the peer."""

    address: str
    connected: bool
    ms: float | None
    reason: Reason | None
    detail: str


class HandshakeView(msgspec.Struct, frozen=True, kw_only=True):
    """
    One handshake.

    proof:    what showed that the peer accepts us; null where nothing did
    alert:    the name of the alert that it sent
    detail:   a sentence; advice: what to do, "" where nothing is to be done
    ca_names: the CAs from which it wants a certificate; empty: any
    """

    version: str
    with_certificate: bool
    outcome: Outcome
    proof: str | None
    reason: Reason | None
    alert: str | None
    detail: str
    advice: str
    cipher: str | None
    group: str | None
    alpn: str | None
    certificate_asked: bool
    certificate_sent: bool
    ca_names: list[str]
    tickets: int
    ticket_lifetime_s: int | None
    warning_alert: str | None
    ms: float | None


class VersionView(msgspec.Struct, frozen=True, kw_only=True):
    """
    One TLS version. as_asked: the handshake with our certificate where there is one, else without.
    """

    version: str
    spoken: bool
    as_asked: HandshakeView
    without_certificate: HandshakeView | None
    client_certificate: Demand
    resumption: Resumption


class ChoiceView(msgspec.Struct, frozen=True, kw_only=True):
    """
    What the peer takes of a list of ours. taken: in the order in which it chose; complete: whether all was tried.
    """

    version: str
    taken: list[str]
    not_taken: list[str]
    complete: bool


class IdentityView(msgspec.Struct, frozen=True, kw_only=True):
    """
    Who the peer is.

    spiffe_id: what its leaf claims, verified or not
    verified:  whether its chain is good by our bundles and our clock
    expected:  whether it matches one of `server_ids`; null where it was not verified, or nobody said who it should be
    """

    spiffe_id: str | None
    verified: bool
    server_ids: list[str]
    expected: bool | None
    lapses_at: str | None
    reason: Reason | None
    detail: str
    advice: str


class OursView(msgspec.Struct, frozen=True, kw_only=True):
    """What we present. fault: what a peer with the same bundles would refuse it for; null where it is good."""

    spiffe_id: str | None
    serial: str
    issuer: str
    key_type: str
    validity: str
    reason: Reason | None
    fault: str | None


class VerdictView(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the peer can be spoken to as asked and is who it should be. next_command: what to type next."""

    good: bool
    reason: Reason | None
    sentence: str
    advice: str
    next_command: str


class ProbeDocument(msgspec.Struct, frozen=True, kw_only=True):
    """
    The whole of it.

    speaks_tls: null where it could not be told (nothing answered)
    greeting:   how an answer that is not TLS began, quoted; protocol: what it looks like
    chain:      as the peer sent it; chain_order: a sentence about its order; pem: of the chain, only with --verbose
    """

    schema: int
    peer: str
    server_name: str | None
    our_clock: str
    ours: OursView | None
    lookup_ms: float | None
    addresses: list[AddressView]
    probed: str | None
    speaks_tls: bool | None
    protocol: str | None
    greeting: str | None
    versions: list[VersionView]
    groups: ChoiceView | None
    cipher_suites: ChoiceView | None
    chain: list[CertificateView]
    chain_order: str | None
    pem: list[str]
    identity: IdentityView | None
    warnings: list[str]
    connections: int
    verdict: VerdictView
