"""
The metrics: the same facts as the log, counted.

What is exported stands in ops/metricfamilies.py, the instruments in ops/instruments.py, all in a registry of our own
(several proxies in one test process never meet). What this file adds is speed on the connection's path: the series of
a listener are looked up once and kept, so that a fact costs one dictionary look-up and a few additions.

What is so now is not counted but asked for, at each scrape: a look at the open connections sets the gauges, and gives
bytes_total, which is alive, their part of it. A counter must never go backwards, so a connection is left out from the
very step of the loop in which its Closed is emitted, and should it ever be a step late or early, the highest value
shown stays.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from proxy.core.config import Config
from proxy.core.entrances import modes
from proxy.core.events import (
    Closed,
    Detected,
    Dialed,
    Event,
    Flow,
    HandshakeEnded,
    Listener,
    Living,
    Relaying,
    Reloaded,
    ReloadResult,
    Saturated,
    Security,
)
from proxy.core.reasons import EXPLANATIONS, Kind, Reason
from proxy.ops.instruments import Number
from proxy.ops.metricfamilies import counter, counter_family, expose, gauge, histogram, without_created
from proxy.ops.metricsmerge import encode

FRESH = 4096  # durations that wait to be sorted into their buckets, where nobody scrapes

Look = Callable[[], Iterable[Living]]


class Metrics:
    """
    The observer that counts, and the registry that shows the counts.

    listeners: those whose series exist from the start, so that rate() sees their first event
    """

    def __init__(
        self, listeners: Iterable[Listener], *, version: str, tls_engine: str, tls_engine_version: str
    ) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        self._connections = counter("connections_total", registry)
        self._handshakes = counter("handshakes_total", registry)
        self._rejected = counter("rejected_total", registry)
        self._closed = counter("closed_total", registry)
        self._look: Look = tuple
        self._bytes = _Bytes()
        registry.register(self._bytes)
        self._reloads = counter("reloads_total", registry)
        self._handshake_s = histogram("handshake_seconds", registry)
        self._connect_s = histogram("upstream_connect_seconds", registry)
        self._connection_s = histogram("connection_seconds", registry)
        self._detection_s = histogram("detection_seconds", registry)
        self._active = gauge("connections_active", registry)
        self._handshakes_active = gauge("handshakes_active", registry).labels()
        self._saturated = counter("saturated_total", registry)
        self._half_closed = gauge("half_closed_connections", registry).labels()
        self._not_after = gauge("certificate_not_after_timestamp_seconds", registry)
        self._plaintext_active = gauge("plaintext_active", registry)
        self._last_plaintext = gauge("last_plaintext_timestamp_seconds", registry)
        self._serving_since = gauge("serving_since_timestamp_seconds", registry).labels()
        self._listener_info = gauge("listener_info", registry)
        self._generation = gauge("trust_generation", registry).labels()
        self._last_reload = gauge("last_reload_timestamp_seconds", registry).labels()
        self._dropped = _DroppedLines()
        registry.register(self._dropped)
        counter("worker_restarts_total", registry)  # the supervisor's to count; here so that the series exists
        gauge("build_info", registry).labels(version, tls_engine, tls_engine_version).set(1)
        for result in (ReloadResult.PUBLISHED, ReloadResult.UNCHANGED):
            self._reloads.labels(result.value, Reason.RELOADED.value)
        # By type and not with isinstance: the structs have an ABC for a metaclass, whose "no" costs as much as a count.
        self.handlers: dict[type, Callable[[Any], None]] = {
            Detected: self._detected,
            Saturated: self._saturated_one,
            HandshakeEnded: self._handshake_ended,
            Dialed: self._dialed,
            Relaying: self._relaying,
            Closed: self._closed_one,
            Reloaded: self._reloaded,
        }
        self._at = _ByListener(self)
        for listener in listeners:
            self._at[listener]  # its series exist from now on

    def emit(self, event: Event) -> None:
        """Take one fact; never raises, never waits."""
        if handler := self.handlers.get(type(event)):
            handler(event)

    def _detected(self, event: Detected) -> None:
        self._at[event.listener].detection_s.observe(event.seconds)

    def _saturated_one(self, event: Saturated) -> None:
        self._saturated.labels(event.listener.direction.value, event.listener.name).value += 1

    def _handshake_ended(self, event: HandshakeEnded) -> None:
        at = self._at[event.listener]
        at.handshake_s.observe(event.seconds)
        if event.tls is not None:
            at.count_handshake(event.tls.version, event.tls.group, event.tls.resumed)

    def _dialed(self, event: Dialed) -> None:
        self._at[event.listener].connect_s.observe(event.seconds)

    def _relaying(self, event: Relaying) -> None:
        self._at[event.listener].connections[event.security].value += 1

    def _closed_one(self, event: Closed) -> None:
        at = self._at[event.listener]
        at.connection_s.observe(event.duration_s)
        if len(at.connection_s.fresh) > FRESH:
            at.tidy()
        at.count_closed(event.reason)
        at.closed_bytes[0] += event.bytes_received
        at.closed_bytes[1] += event.bytes_sent
        if event.security is Security.PLAINTEXT:
            at.last_plaintext.set(max(at.last_plaintext.value, event.start_time + event.duration_s))

    def _reloaded(self, event: Reloaded) -> None:
        self._reloads.labels(event.result.value, event.reason.value).inc()

    def watch(self, look: Look) -> None:
        """Ask `look`, at each scrape, for the open connections."""
        self._look = look

    def watch_log(self, dropped: Callable[[], int]) -> None:
        """Show, at each scrape, how many log lines were dropped."""
        self._dropped.provider = dropped

    def set_identity(self, *, generation: int, leaf: float, chain: float, bundle: float, published_at: float) -> None:
        """
        Show what was published: a new trust generation.

        leaf, chain, bundle: earliest notAfter of our leaf, of the chain with it, of all roots; seconds since the epoch
        published_at:        now, in seconds since the epoch
        """
        for kind, not_after in (("leaf", leaf), ("chain", chain), ("bundle", bundle)):
            self._not_after.labels(kind).set(not_after)
        self._generation.set(generation)
        self._last_reload.set(published_at)
        if self._serving_since.value == 0:
            self._serving_since.set(published_at)

    def set_listeners(self, config: Config) -> None:
        """Show the mode of each inbound listener, and where each listener listens."""
        self._listener_info.forget()
        for listener, mode, listen in modes(config):
            words = (listener.direction.value, listener.name, mode.value if mode is not None else "", str(listen))
            self._listener_info.labels(*words).set(1)

    def collect(self) -> Iterator[Metric]:
        """Yield every family as it stands; prometheus_client's Collector."""
        self._look_at_the_living()
        return without_created(self._registry.collect())

    def _look_at_the_living(self) -> None:
        for at in self._at.values():
            at.active.value = at.plaintext_active.value = 0
        self._handshakes_active.value = self._half_closed.value = 0
        self._bytes.open = {}
        for living in self._look():
            at = self._at[living.listener]
            at.active.value += 1
            at.plaintext_active.value += living.security is Security.PLAINTEXT
            self._handshakes_active.value += living.is_shaking_hands
            self._half_closed.value += living.is_half_closed
            counts = self._bytes.open.setdefault(living.listener, [0, 0])
            counts[0] += living.bytes_received
            counts[1] += living.bytes_sent

    def expose(self, accept: str) -> tuple[str, bytes]:
        """Render for a scraper: (content type, body), OpenMetrics where `accept` asks for it."""
        return expose(self, accept)

    def snapshot(self) -> bytes:
        """Pack everything for the supervisor, which merges its workers (ops/metricsmerge.py)."""
        return encode(self.collect())


class _ByListener(dict[Listener, "_AtListener"]):
    """The children by listener; those of a new one are made when it is met first."""

    def __init__(self, metrics: Metrics) -> None:
        super().__init__()
        self._metrics = metrics

    def __missing__(self, listener: Listener) -> "_AtListener":
        at = self[listener] = _AtListener(self._metrics, listener)
        return at


class _AtListener:
    """The children of one listener: every label is known, nothing is looked up by text on the connection's path."""

    def __init__(self, metrics: Metrics, listener: Listener) -> None:
        labels = (listener.direction.value, listener.name)
        self._labels = labels
        self._metrics = metrics
        self.active = metrics._active.labels(*labels)
        self.plaintext_active = metrics._plaintext_active.labels(*labels)
        self.last_plaintext = metrics._last_plaintext.labels(*labels)
        self.handshake_s = metrics._handshake_s.labels(*labels)
        self.connect_s = metrics._connect_s.labels(*labels)
        self.connection_s = metrics._connection_s.labels(*labels)
        self.detection_s = metrics._detection_s.labels(*labels)
        self.connections = {word: metrics._connections.labels(*labels, word.value) for word in Security}
        self.closed_bytes = metrics._bytes.closed.setdefault(listener, [0, 0])
        self._handshakes: dict[tuple[str | None, str | None, bool], Number] = {}
        self._ends: dict[Reason, tuple[Number, ...]] = {}
        self._learn(Reason.COMPLETED)

    def count_handshake(self, version: str | None, group: str | None, resumed: bool) -> None:
        key = (version, group, resumed)
        handshakes = self._handshakes.get(key)
        if handshakes is None:
            words = (version or "unknown", group or "unknown", "true" if resumed else "false")
            handshakes = self._handshakes[key] = self._metrics._handshakes.labels(*self._labels, *words)
        handshakes.value += 1

    def count_closed(self, reason: Reason) -> None:
        for end in self._ends.get(reason) or self._learn(reason):
            end.value += 1

    def tidy(self) -> None:
        for durations in (self.handshake_s, self.connect_s, self.connection_s, self.detection_s):
            durations.tidy()

    def _learn(self, reason: Reason) -> tuple[Number, ...]:
        """Choose the counters of one end: a refusal counts twice, as an end and as a refusal."""
        ends: tuple[Number, ...] = (self._metrics._closed.labels(*self._labels, reason.value),)
        if EXPLANATIONS[reason].kind is Kind.REJECTED:
            ends = (*ends, self._metrics._rejected.labels(*self._labels, reason.value))
        self._ends[reason] = ends
        return ends


class _Bytes:
    """The collector of bytes_total: closed connections by their final counts, open ones as they were found."""

    def __init__(self) -> None:
        self.open: dict[Listener, list[int]] = {}
        self.closed: dict[Listener, list[int]] = {}
        self._shown: dict[Listener, list[int]] = {}

    def collect(self) -> Iterator[Metric]:
        totals = {listener: list(counts) for listener, counts in self.closed.items()}
        for listener, (received, sent) in self.open.items():
            counts = totals.setdefault(listener, [0, 0])
            counts[0] += received
            counts[1] += sent
        family = counter_family("bytes_total")
        for listener, counts in totals.items():
            shown = self._shown[listener] = [
                max(a, b) for a, b in zip(counts, self._shown.get(listener, counts), strict=True)
            ]
            for flow, value in zip((Flow.RECEIVED, Flow.SENT), shown, strict=True):
                family.add_metric([listener.direction.value, listener.name, flow.value], value)
        yield family


class _DroppedLines:
    """The collector of log_lines_dropped_total."""

    def __init__(self) -> None:
        self.provider: Callable[[], int] = int

    def collect(self) -> Iterator[Metric]:
        family = counter_family("log_lines_dropped_total")
        family.add_metric([], self.provider())
        yield family
