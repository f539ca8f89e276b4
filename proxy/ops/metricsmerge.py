"""
One set of metrics from several worker processes.

Each worker packs its families into a snapshot; the supervisor merges the latest of each. Counters, histograms and
gauges of what a worker holds are summed. What all workers share (the trust generation, timestamps, the build) is the
highest of them. A worker that died leaves its last counters and histograms behind, so that totals never go backwards
and rate() sees no reset, and the first and last times of what it saw; its other gauges go with it. What it counted
after its last snapshot is lost.
"""

import operator
from collections.abc import Callable, Iterable, Iterator

import msgspec
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

from proxy.ops.metricfamilies import BY_NAME, PREFIX, Across, Type, expose

MAX_SNAPSHOT_BYTES = 64 * 1024 * 1024  # about a thousand listeners; a worker that sends more is broken

_OUTLIVE = (Across.FIRST, Across.LAST)

_Labels = tuple[tuple[str, str], ...]


def _first(one: float, other: float) -> float:
    """The earlier of two times, of which 0 is none."""
    return min(one, other) or max(one, other)


_COMBINE: dict[Across, Callable[[float, float], float]] = {
    Across.SUM: operator.add,
    Across.MAX: max,
    Across.FIRST: _first,
    Across.LAST: max,
}


class _Family(msgspec.Struct, array_like=True, frozen=True):
    """One family as it travels. name: without the `_total` of a counter, as prometheus_client keeps it."""

    name: str
    type: str
    help: str
    samples: list[tuple[str, dict[str, str], float]]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[_Family])


def encode(families: Iterable[Metric]) -> bytes:
    """Pack families into a snapshot."""
    return _encoder.encode(
        [
            _Family(
                family.name,
                family.type,
                family.documentation,
                [(it.name, it.labels, it.value) for it in family.samples],
            )
            for family in families
        ]
    )


class MergedMetrics:
    """The supervisor's view: the latest snapshot of each living worker, and what the dead left behind."""

    def __init__(self) -> None:
        self._latest: dict[int, list[_Family]] = {}
        self._retired = _Sums()

    def update(self, worker: int, snapshot: bytes) -> None:
        """
        Replace what is known of a worker.

        worker: what names it while it lives, e.g. its process id
        Raises: ValueError for what is not a snapshot; what was known before stays
        """
        if len(snapshot) > MAX_SNAPSHOT_BYTES:
            raise ValueError(f"a snapshot of {len(snapshot)} bytes is longer than {MAX_SNAPSHOT_BYTES}")
        try:
            self._latest[worker] = _decoder.decode(snapshot)
        except msgspec.MsgspecError as error:
            raise ValueError(f"not a snapshot of metrics: {error}") from None

    def retire(self, worker: int) -> None:
        """Keep the totals of a worker that is gone, and forget its gauges."""
        for family in self._latest.pop(worker, ()):
            if family.type != Type.GAUGE or _across(family) in _OUTLIVE:
                self._retired.add(family)

    def collect(self) -> Iterator[Metric]:
        """Yield the merged families; prometheus_client's Collector."""
        sums = _Sums()
        sums.take(self._retired)
        for families in self._latest.values():
            for family in families:
                sums.add(family)
        return sums.collect()

    def expose(self, accept: str) -> tuple[str, bytes]:
        """Render for a scraper: (content type, body)."""
        return expose(self, accept)


class _Sums:
    """Families being added up: for each its head, and a value for each sample name and label set."""

    def __init__(self) -> None:
        self._families: dict[str, tuple[_Family, dict[tuple[str, _Labels], float]]] = {}

    def add(self, family: _Family) -> None:
        _, values = self._families.setdefault(family.name, (family, {}))
        combine = _COMBINE[_across(family)]
        for name, labels, value in family.samples:
            key = (name, tuple(labels.items()))
            before = values.get(key)
            values[key] = value if before is None else combine(before, value)

    def take(self, other: "_Sums") -> None:
        for name, (family, values) in other._families.items():
            self._families[name] = (family, dict(values))

    def collect(self) -> Iterator[Metric]:
        for family, values in self._families.values():
            metric = Metric(family.name, family.help, family.type)
            metric.samples = [Sample(name, dict(labels), value) for (name, labels), value in values.items()]
            yield metric


def _across(family: _Family) -> Across:
    name = family.name.removeprefix(PREFIX)
    known = BY_NAME.get(name) or BY_NAME.get(f"{name}_total")
    return known.across if known else Across.SUM
