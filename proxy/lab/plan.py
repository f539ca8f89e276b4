"""
One measurement as a value: what is loaded, with which client, at which pace and for how long. Plans cross to the
generator processes as JSON, and come back as reports; nothing here knows a socket or a clock.
"""

from enum import StrEnum

import msgspec

from proxy.core.reasons import Reason
from proxy.tls.loadclient import Negotiated
from proxy.tls.loadcontext import Credentials, Offer

LATE_S = 0.005  # later than this, an arrival of an open loop is the client's fault
MAX_REQUEST_BYTES = 4096  # what a fresh connection takes in one call, whatever the kernel


class Arrivals(StrEnum):
    """How the arrivals of an open loop are spaced."""

    CONSTANT = "constant"
    POISSON = "poisson"


class ClosedLoop(msgspec.Struct, frozen=True, kw_only=True, tag="closed"):
    """As many clients as in_flight, over all processes: each begins its next connection when its last has ended."""

    in_flight: int = 16


class OpenLoop(msgspec.Struct, frozen=True, kw_only=True, tag="open"):
    """
    Connections begin at instants that are fixed in advance, over all processes, whatever the server does.

    rate: arrivals a second; seed: of the Poisson process
    """

    rate: float
    arrivals: Arrivals = Arrivals.CONSTANT
    seed: int = 0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """
    One measurement.

    address:   (host, port), the host an IP address where speed matters: it is resolved once
    resumed:   every counted handshake resumes a session; those of the warm-up make the first ones
    request:   sent when our side of the handshake is done; the first byte back is the success. Empty: it is the
               session ticket or first byte in TLS 1.3, the server's Finished in TLS 1.2
    farewell:  in TLS 1.3 without a request, the client says its end (close_notify) as soon as it is done: some servers
               send their ticket only with their first bytes, and their end is the first then
    seconds:   for how long connections begin; warm_up_s: the same, before it, not counted
    timeout_s: how long one connection may take until the server has accepted it, from its (intended) start
    linger_s:  how long the client waits for the server's end after its own
    max_open:  connections of all processes together; arrivals beyond it wait, and their wait counts as latency
    """

    address: tuple[str, int]
    credentials: Credentials
    offer: Offer = Offer()
    resumed: bool = False
    pace: ClosedLoop | OpenLoop = ClosedLoop()
    request: bytes = b""
    farewell: bool = False
    seconds: float = 2.0
    warm_up_s: float = 0.3
    timeout_s: float = 10.0
    linger_s: float = 1.0
    max_open: int = 10_000


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """
    What one generator process saw.

    count:       handshakes that the server accepted
    seconds:     from the common start to the last acceptance, or to the end of the plan if that is later
    cpu_s:       of this process, its closing included
    latency:     Latencies.encode() of `count` latencies from the (intended) start to the acceptance
    failures:    by Reason; details: the first words of each
    not_resumed: accepted, but without the session that was offered; in no other number
    bytes_sent, bytes_received: TCP payload until the acceptance, as the kernel counts it; None where it does not
    waited_s:    for how long this process was ready to run and had no core; 0 where the kernel does not say
    late:        connections of an open loop that began more than LATE_S after their instant; late_s: the worst of all
    most_open:   the most connections that were open at once
    shortage:    the sentence about what this machine ran out of, which ended the measurement
    fatal:       nothing was measured: shortage, or the one failure, says why
    """

    count: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    waited_s: float = 0.0
    latency: str = ""
    failures: dict[Reason, int] = {}
    details: dict[Reason, str] = {}
    not_resumed: int = 0
    bytes_sent: int | None = None
    bytes_received: int | None = None
    negotiated: Negotiated | None = None
    late: int = 0
    late_s: float = 0.0
    most_open: int = 0
    shortage: str | None = None
    fatal: bool = False


class Prepare(msgspec.Struct, frozen=True, kw_only=True, tag="prepare"):
    """Make the client, keep sessions, warm the server up; answered with a Report of the warm-up. share: of `shares`."""

    plan: Plan
    share: int
    shares: int


class Start(msgspec.Struct, frozen=True, kw_only=True, tag="start"):
    """Measure what was prepared, from an instant of CLOCK_MONOTONIC on; answered with a Report."""

    at_s: float


class Hold(msgspec.Struct, frozen=True, kw_only=True, tag="hold"):
    """Open connections of the prepared kind and keep them; answered with a Report when all are open."""

    count: int


class Release(msgspec.Struct, frozen=True, kw_only=True, tag="release"):
    """End the held connections; answered with an empty Report."""


Order = Prepare | Start | Hold | Release
