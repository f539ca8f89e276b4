"""
What a connection tells the world about itself: frozen facts, in the order in which they happen.

The connection (net/connection.py) emits them to one observer; the log and the metrics (ops/) are two renderers of the
same facts. Nothing here knows a renderer. No fact tells what is so now (how many are open, what they have moved so
far): whoever shows that asks the worker, which answers with a Living for each. Clocks: `*_s` are durations in seconds
from a monotonic clock, `start_time` is seconds since the epoch.
"""

from enum import StrEnum
from typing import NamedTuple, Protocol

import msgspec

from proxy.core.reasons import Reason


class Direction(StrEnum):
    """Whose connections a listener takes: `inbound` from the network to our app, `outbound` from our app."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


class Security(StrEnum):
    """How the bytes crossed the network (Istio's connection_security_policy)."""

    MUTUAL_TLS = "mutual_tls"
    PLAINTEXT = "plaintext"
    APP_TLS = "app_tls"


class Listener(msgspec.Struct, frozen=True):
    """The two labels that every fact carries: direction and the listener's name."""

    direction: Direction
    name: str


class TlsFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a handshake settled, as the log's `tls` object shows it; None where it is not known (never guessed)."""

    version: str | None = None  # "TLSv1.2" or "TLSv1.3"
    cipher: str | None = None  # IANA name
    group: str | None = None  # "X25519MLKEM768", "X25519", "P-256" ...
    sni: str | None = None
    alpn: str | None = None
    resumed: bool = False
    peer_spiffe_id: str | None = None
    peer_serial: str | None = None  # lower-case hex without leading zeros
    peer_not_after: str | None = None  # RFC 3339, UTC, e.g. "2026-11-24T12:00:00Z"


class Accepted(msgspec.Struct, frozen=True):
    """A downstream connection was taken from the backlog (also one that a limit refuses right away)."""

    listener: Listener


class Saturated(msgspec.Struct, frozen=True, kw_only=True):
    """
    `limits.handshakes` is reached, and clients of this listener wait in the backlog. Told at most every few seconds.

    handshakes: places that are taken; silent: how many of them by clients that have not begun a handshake yet
    """

    listener: Listener
    handshakes: int
    silent: int


class HandshakeEnded(msgspec.Struct, frozen=True):
    """The handshake is over; `tls` is None when it failed. seconds: from its first byte to its end."""

    listener: Listener
    seconds: float
    tls: TlsFacts | None


class Detected(msgspec.Struct, frozen=True):
    """The first bytes (or the silence) of a PERMISSIVE or STRICT client were judged. seconds: since the accept."""

    listener: Listener
    security: Security
    seconds: float


class Dialed(msgspec.Struct, frozen=True):
    """The TCP or unix connection to the upstream stands. seconds: name look-up and every address tried included."""

    listener: Listener
    upstream_address: str
    seconds: float


class Relaying(msgspec.Struct, frozen=True):
    """The connection was let in and its bytes flow: the one that connections_total counts."""

    listener: Listener
    security: Security


class Closed(msgspec.Struct, frozen=True, kw_only=True):
    """The whole life of a connection in one record: the log's `connection` line, refused ones included."""

    listener: Listener
    start_time: float
    duration_s: float
    downstream_remote_address: str
    downstream_local_address: str
    upstream_address: str | None
    bytes_received: int  # plaintext bytes from the downstream
    bytes_sent: int  # plaintext bytes to the downstream
    security: Security | None  # None when it was refused before that was known
    tls: TlsFacts | None
    reason: Reason
    detail: str


class Living(NamedTuple):
    """
    One open connection as it stands, for the gauges.

    bytes_received, bytes_sent: plaintext, from and to the downstream, so far
    security: how its bytes cross the network; None before they do
    """

    listener: Listener
    bytes_received: int
    bytes_sent: int
    security: Security | None
    is_shaking_hands: bool
    is_half_closed: bool


class Flow(StrEnum):
    """The `flow` label of bytes_total: each plaintext byte counts once, seen from the downstream."""

    RECEIVED = "received"
    SENT = "sent"


class ReloadResult(StrEnum):
    """The `result` label of reloads_total."""

    PUBLISHED = "published"
    UNCHANGED = "unchanged"
    FAILED = "failed"


class Reloaded(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt to read identity or configuration anew is over; what was in force before stays when it failed."""

    what: str  # "identity" or "configuration"
    result: ReloadResult
    reason: Reason  # RELOADED when published or unchanged, else why not
    detail: str
    generation: int  # the trust generation in force afterwards


Event = Accepted | Saturated | HandshakeEnded | Detected | Dialed | Relaying | Closed | Reloaded


class Observer(Protocol):
    """Where facts go. Must not raise and must not block: it runs on the connection's own stack."""

    def emit(self, event: Event) -> None:
        """Take one fact."""
