"""
From a round's sums to figures with a name and a unit: the one table of what the laboratory can say about a row.

The tables on a terminal, the report, the comparison of two files and the gate all name measures by these keys, so a
figure is the same wherever it is read. A figure of a row is the median over its rounds; `max` alone is the worst of
them. None means that it was not measured, and stays None through every sum.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from proxy.lab.latencies import Latencies
from proxy.lab.results import Round, Row, Workload
from proxy.lab.stats import Estimate, median


class Unit(StrEnum):
    """What a figure is counted in; time is seconds and memory bytes, and only words for people scale them."""

    SECONDS = "s"
    PER_SECOND = "/s"
    BYTES = "B"
    BYTES_PER_SECOND = "B/s"
    SHARE = "share"
    NUMBER = ""


class Better(StrEnum):
    """Which way is good."""

    LOWER = "lower"
    HIGHER = "higher"


def _worst(values: Sequence[float]) -> Estimate:
    """Extremes have no interval of ranks: the span of the rounds stands there, and covers nothing."""
    return Estimate(max(values), min(values), max(values), 0.0)


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure. workloads: where it makes sense; of: from a round; over: from the figures of all rounds."""

    key: str
    title: str
    unit: Unit
    better: Better
    workloads: frozenset[Workload]
    of: Callable[[Round], float | None]
    over: Callable[[Sequence[float]], Estimate] = median

    def values(self, row: Row) -> list[float]:
        """The figure of each round that has one; none at all where the measure is not for the row's workload."""
        if row.scenario.workload not in self.workloads:
            return []
        return [value for round_ in row.rounds if (value := self.of(round_)) is not None]

    def figure(self, row: Row) -> Estimate | None:
        """The row's figure with its interval; None where no round has one."""
        values = self.values(row)
        return self.over(values) if values else None


def _per(numerator: str, denominator: str, factor: float = 1.0) -> Callable[[Round], float | None]:
    """The quotient of two fields of a round; None where one is unknown or the lower one is zero."""

    def quotient(round_: Round) -> float | None:
        above, below = getattr(round_, numerator), getattr(round_, denominator)
        return None if above is None or not below else above / below * factor

    return quotient


_PERCENTS = (50.0, 90.0, 99.0, 100.0)


@lru_cache(maxsize=4096)  # a report asks for the same few hundred histograms again and again
def _percentiles(latency: str) -> dict[float, float]:
    return Latencies.decode(latency).percentiles(_PERCENTS)


def _percentile(percent: float) -> Callable[[Round], float | None]:
    def at(round_: Round) -> float | None:
        return None if round_.latency is None else _percentiles(round_.latency).get(percent)

    return at


def _wire_bytes(round_: Round) -> float | None:
    if round_.bytes_sent is None or round_.bytes_received is None or not round_.count:
        return None
    return (round_.bytes_sent + round_.bytes_received) / round_.count


def _failure_share(round_: Round) -> float | None:
    failed = sum(round_.failures.values())
    return failed / (failed + round_.count) if failed + round_.count else None


_HANDSHAKES = frozenset({Workload.HANDSHAKE})
_REQUESTS = frozenset({Workload.REQUEST})
_TIMED = _HANDSHAKES | _REQUESTS
_BULK = frozenset({Workload.UPLOAD, Workload.DOWNLOAD})
_IDLE = frozenset({Workload.IDLE})
_ALL = frozenset(Workload)
_S, _RATE, _B, _SPEED = Unit.SECONDS, Unit.PER_SECOND, Unit.BYTES, Unit.BYTES_PER_SECOND
_LOWER, _HIGHER = Better.LOWER, Better.HIGHER
_GB = 1e9

MEASURES: tuple[Measure, ...] = (
    Measure("handshakes_per_s", "handshakes per second", _RATE, _HIGHER, _HANDSHAKES, _per("count", "seconds")),
    Measure("cpu_per_handshake", "server CPU per handshake", _S, _LOWER, _HANDSHAKES, _per("server_cpu_s", "count")),
    Measure(
        "client_cpu_per_handshake", "client CPU per handshake", _S, _LOWER, _HANDSHAKES, _per("client_cpu_s", "count")
    ),
    Measure("requests_per_s", "requests per second", _RATE, _HIGHER, _REQUESTS, _per("count", "seconds")),
    Measure("cpu_per_request", "server CPU per request", _S, _LOWER, _REQUESTS, _per("server_cpu_s", "count")),
    Measure("p50", "latency p50", _S, _LOWER, _TIMED, _percentile(50)),
    Measure("p90", "latency p90", _S, _LOWER, _TIMED, _percentile(90)),
    Measure("p99", "latency p99", _S, _LOWER, _TIMED, _percentile(99)),
    Measure("max", "latency max", _S, _LOWER, _TIMED, _percentile(100), over=_worst),
    Measure("bytes_per_handshake", "bytes on the wire", _B, _LOWER, _HANDSHAKES, _wire_bytes),
    Measure("round_trips", "round trips", Unit.NUMBER, _LOWER, _HANDSHAKES, _per("round_trips", "count")),
    Measure("throughput", "throughput", _SPEED, _HIGHER, _BULK, _per("payload_bytes", "seconds")),
    Measure("cpu_per_gb", "server CPU per GB", _S, _LOWER, _BULK, _per("server_cpu_s", "payload_bytes", _GB)),
    Measure("memory_per_connection", "memory per connection", _B, _LOWER, _IDLE, _per("memory_bytes", "count")),
    Measure("failure_share", "failures", Unit.SHARE, _LOWER, _ALL, _failure_share),
)
BY_KEY: dict[str, Measure] = {measure.key: measure for measure in MEASURES}


def measures_of(rows: Iterable[Row]) -> list[Measure]:
    """Those that at least one of the rows has a figure for, in the order of the table."""
    kept = tuple(rows)
    return [measure for measure in MEASURES if any(measure.values(row) for row in kept)]
