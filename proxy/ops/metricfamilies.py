"""
Everything that is exported at /metrics: names, labels, meanings, buckets, and how it is rendered.

One table. The instruments (ops/metrics.py), the merging of workers (ops/metricsmerge.py), docs/metrics.md and the tests
read it; the names are the contract's. The text forms, Prometheus' and OpenMetrics', are prometheus_client's.
"""

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple, Protocol, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from proxy.ops.instruments import Distributions, Numbers

PREFIX = "mtls_sidecar_"

# A handshake takes half a millisecond of CPU on a quiet machine and `timeouts.handshake_s` (10 s) at worst.
_HANDSHAKE_S = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_CONNECT_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_CONNECTION_S = (0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
_DETECTION_S = (0.0001, 0.0005, 0.001, 0.005, 0.025, 0.1, 0.3, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0)


class Type(StrEnum):
    """What kind of number a family is, in Prometheus' words."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Across(StrEnum):
    """
    How the values of several workers become one: what each did is summed, what all share is the highest.

    The first and the last time of something outlive the worker that saw it, as counters do.
    """

    SUM = "sum"
    MAX = "max"
    FIRST = "first"
    LAST = "last"


class Family(NamedTuple):
    """One metric family, as it is exported and documented."""

    name: str  # without PREFIX; a counter's ends in _total
    type: Type
    labels: tuple[str, ...]
    meaning: str
    buckets: tuple[float, ...] = ()  # upper bounds in seconds, histograms only
    across: Across = Across.SUM


_AT = ("direction", "listener")
_I = TypeVar("_I", Numbers, Distributions)

FAMILIES = (
    Family(
        "connections_total",
        Type.COUNTER,
        (*_AT, "security"),
        "Connections that were let in and relayed; security is mutual_tls, plaintext or app_tls.",
    ),
    Family(
        "handshakes_total",
        Type.COUNTER,
        (*_AT, "tls_version", "group", "resumed"),
        "TLS handshakes that succeeded; group is `unknown` where the engine does not tell it.",
    ),
    Family("rejected_total", Type.COUNTER, (*_AT, "reason"), "Connections that were refused; also in closed_total."),
    Family("closed_total", Type.COUNTER, (*_AT, "reason"), "Connections that are over, refused ones included."),
    Family(
        "bytes_total",
        Type.COUNTER,
        (*_AT, "flow"),
        "Plaintext bytes received from and sent to the downstream, open connections included.",
    ),
    Family(
        "reloads_total",
        Type.COUNTER,
        ("result", "reason"),
        "Attempts to read identity or configuration anew; result is published, unchanged or failed.",
    ),
    Family("handshake_seconds", Type.HISTOGRAM, _AT, "Duration of TLS handshakes, failed ones included.", _HANDSHAKE_S),
    Family(
        "upstream_connect_seconds",
        Type.HISTOGRAM,
        _AT,
        "Time to connect to the upstream: name look-up and every address tried.",
        _CONNECT_S,
    ),
    Family(
        "connection_seconds", Type.HISTOGRAM, _AT, "Whole life of connections, refused ones included.", _CONNECTION_S
    ),
    Family(
        "detection_seconds",
        Type.HISTOGRAM,
        _AT,
        "From the accept until the first bytes (or the silence) of a client were judged.",
        _DETECTION_S,
    ),
    Family("connections_active", Type.GAUGE, _AT, "Connections that are open, from the accept to the close."),
    Family("handshakes_active", Type.GAUGE, (), "TLS handshakes that are running."),
    Family(
        "saturated_total",
        Type.COUNTER,
        _AT,
        "Times that `limits.handshakes` was found reached while clients waited; counted at most every 10 s.",
    ),
    Family("half_closed_connections", Type.GAUGE, (), "Connections of which one side has finished sending."),
    Family(
        "certificate_not_after_timestamp_seconds",
        Type.GAUGE,
        ("kind",),
        "Earliest notAfter in force: of our leaf, of the chain we send, of the roots in the trust bundles (kind "
        "leaf, chain, bundle).",
        across=Across.MAX,
    ),
    Family("trust_generation", Type.GAUGE, (), "Number of the trust generation in force.", across=Across.MAX),
    Family(
        "last_reload_timestamp_seconds",
        Type.GAUGE,
        (),
        "When something was last published: identity or configuration.",
        across=Across.MAX,
    ),
    Family(
        "log_lines_dropped_total",
        Type.COUNTER,
        (),
        "Log lines lost because the reader of stderr did not take them at once.",
    ),
    Family(
        "worker_restarts_total",
        Type.COUNTER,
        (),
        "Worker processes that ended by themselves and were started again; with one worker there is none.",
    ),
    Family(
        "plaintext_active",
        Type.GAUGE,
        _AT,
        "Open connections that are relayed in plaintext.",
    ),
    Family(
        "last_plaintext_timestamp_seconds",
        Type.GAUGE,
        _AT,
        "When a connection in plaintext last ended, let in or failed; 0 while there was none. Open ones are in "
        "plaintext_active, those that STRICT refused in rejected_total.",
        across=Across.LAST,
    ),
    Family(
        "serving_since_timestamp_seconds",
        Type.GAUGE,
        (),
        "When this sidecar first listened: what the counters know begins here; 0 while it has not.",
        across=Across.FIRST,
    ),
    Family(
        "listener_info",
        Type.GAUGE,
        (*_AT, "mode", "listen"),
        "Always 1; the labels say how an inbound listener is configured now (STRICT, PERMISSIVE or DISABLE), and where "
        "each one listens.",
        across=Across.MAX,
    ),
    Family(
        "build_info",
        Type.GAUGE,
        ("version", "tls_engine", "tls_engine_version"),
        "Always 1; the labels say which proxy on which TLS engine.",
        across=Across.MAX,
    ),
)
BY_NAME = {family.name: family for family in FAMILIES}


class Collector(Protocol):
    """What can be rendered: a registry, or several workers merged."""

    def collect(self) -> Iterable[Metric]:
        """Yield every family as it stands."""
        ...


def counter(name: str, registry: CollectorRegistry) -> Numbers:
    """Make the instrument of a counter of FAMILIES."""
    family = BY_NAME[name]
    return _registered(Numbers(CounterMetricFamily, PREFIX + name, family.meaning, family.labels), registry)


def gauge(name: str, registry: CollectorRegistry) -> Numbers:
    """Make the instrument of a gauge of FAMILIES."""
    family = BY_NAME[name]
    return _registered(Numbers(GaugeMetricFamily, PREFIX + name, family.meaning, family.labels), registry)


def histogram(name: str, registry: CollectorRegistry) -> Distributions:
    """Make the instrument of a histogram of FAMILIES."""
    family = BY_NAME[name]
    return _registered(Distributions(PREFIX + name, family.meaning, family.labels, family.buckets), registry)


def _registered(instrument: _I, registry: CollectorRegistry) -> _I:
    registry.register(instrument)
    return instrument


def counter_family(name: str) -> CounterMetricFamily:
    """Make an empty counter family of FAMILIES, for a value that is only known when it is asked for."""
    family = BY_NAME[name]
    return CounterMetricFamily(PREFIX + name, family.meaning, labels=family.labels)


def without_created(families: Iterable[Metric]) -> Iterator[Metric]:
    """Leave out the `_created` series: one more series for each child, and nobody reads them."""
    for family in families:
        family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
        yield family


def expose(collector: Collector, accept: str) -> tuple[str, bytes]:
    """
    Render for a scraper.

    accept:  its Accept header; OpenMetrics 1.0 where it names that, else Prometheus' text form
    Returns: (content type, body)
    """
    # The library would echo any version that the header asks for; it gets one of two fixed words instead.
    wanted = "application/openmetrics-text; version=1.0.0" if wants_open_metrics(accept) else ""
    encode, content_type = choose_encoder(wanted)
    return content_type, encode(collector)


def wants_open_metrics(accept: str) -> bool:
    """Whether an Accept header names OpenMetrics."""
    return "application/openmetrics-text" in {part.partition(";")[0].strip().lower() for part in accept.split(",")}
