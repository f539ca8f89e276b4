"""
How much a worker takes on: `limits` as counters and token buckets. Values and arithmetic; the clock is an argument.

A worker has one for each direction: strangers who fill the inbound places must not keep our own app from its upstreams.
"""

from ipaddress import IPv6Address, IPv6Network

from proxy.core.config import Limits
from proxy.core.reasons import Reason, Rejected

MAX_SOURCES = 8192  # addresses whose rate is remembered; the one that was quiet longest is forgotten first


class TokenBucket:
    """Lets `rate` through per second, and as many at once (one at least) after a quiet second."""

    __slots__ = ("_at", "_tokens")

    def __init__(self, rate: float, now: float) -> None:
        self._tokens = max(rate, 1.0)
        self._at = now

    def take(self, rate: float, now: float) -> bool:
        """Take one token if there is one. now: monotonic seconds."""
        self._tokens = min(max(rate, 1.0), self._tokens + (now - self._at) * rate)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class Admission:
    """The state behind `limits` of one worker and one direction."""

    __slots__ = ("_all", "_sources", "connections", "handshakes", "limits")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.connections = 0
        self.handshakes = 0
        self._all: TokenBucket | None = None
        self._sources: dict[str, TokenBucket] = {}

    def has_room(self) -> bool:
        """Whether there is a place for another handshake; if not, connections wait in the backlog."""
        return not self.limits.handshakes or self.handshakes < self.limits.handshakes

    def check(self, address: object, now: float) -> None:
        """
        Judge a connection that was just accepted.

        address: of the client, as `accept` returns it
        Raises:  Rejected(OVERLOADED | RATE_LIMITED)
        """
        limits = self.limits
        if limits.connections and self.connections >= limits.connections:
            raise Rejected(Reason.OVERLOADED, f"limits.connections is {limits.connections}, and all are in use")
        per_source = limits.handshakes_per_s_per_source
        source = source_of(address) if per_source else ""
        if source and not self._bucket_of(source, per_source, now).take(per_source, now):
            raise Rejected(Reason.RATE_LIMITED, f"{source} opens more than {per_source:g} connections per second")
        rate = limits.handshakes_per_s
        if rate:
            if self._all is None:
                self._all = TokenBucket(rate, now)
            if not self._all.take(rate, now):
                raise Rejected(Reason.RATE_LIMITED, f"more than {rate:g} connections per second are opened")

    def _bucket_of(self, source: str, rate: float, now: float) -> TokenBucket:
        bucket = self._sources.pop(source, None) or TokenBucket(rate, now)
        self._sources[source] = bucket  # at the end again: the order is that of the last use
        if len(self._sources) > MAX_SOURCES:
            del self._sources[next(iter(self._sources))]
        return bucket


def source_of(address: object) -> str:
    """
    Who a client is to the rate for each source: its IPv4 address, or the /64 of its IPv6 address.

    One host usually has a whole /64 to choose addresses from (RFC 4291 2.5.4).
    address: as `accept` returns it. Returns: "" for a unix socket, which has no source of its own
    """
    if not isinstance(address, tuple):
        return ""
    host = str(address[0]).partition("%")[0]
    if ":" not in host:
        return host
    ip = IPv6Address(host)
    return str(ip.ipv4_mapped or IPv6Network((int(ip) >> 64 << 64, 64)))
