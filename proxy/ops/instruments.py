"""
Counters, gauges and histograms that cost a connection next to nothing, shown through prometheus_client.

prometheus_client's own instruments take a lock, ask whether they may be observed, and walk a histogram's buckets one
by one: 25 us for the dozen facts of a connection, a tenth of what a resumed TLS 1.2 handshake costs in all. One loop on
one thread does all the counting here, so a number is an attribute, and a histogram's values are kept as they came and
sorted into its buckets, by bisection, when somebody asks. Everything that is seen from outside (families, both text
forms) stays the library's.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.utils import floatToGoString


class Number:
    """One series of a counter or a gauge."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def inc(self, amount: float = 1) -> None:
        """Add to it."""
        self.value += amount

    def set(self, value: float) -> None:
        """Make it this (gauges only)."""
        self.value = value


class Distribution:
    """
    One series of a histogram.

    To observe a value is to append it to `fresh`, and nothing else. Values are sorted into buckets when they are asked
    for; `tidy` is for who observes, to be called now and then.
    """

    __slots__ = ("_bounds", "_counts", "fresh", "observe", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)  # how many values fell into each bucket, the last one without a bound
        self.fresh: list[float] = []
        self.observe = self.fresh.append
        self.total = 0.0

    def tidy(self) -> None:
        """Sort what is fresh into the buckets; a bound belongs to the bucket that it closes (`le`)."""
        for value in self.fresh:
            self._counts[bisect_left(self._bounds, value)] += 1
        self.total += sum(self.fresh)
        self.fresh.clear()

    def buckets(self) -> list[tuple[str, float]]:
        """The cumulative counts by upper bound, as the text forms have them."""
        self.tidy()
        rows, so_far = [], 0
        for bound, count in zip((*self._bounds, float("inf")), self._counts, strict=True):
            so_far += count
            rows.append((str(floatToGoString(bound)), float(so_far)))  # type: ignore[no-untyped-call]
        return rows


class _Series:
    """What the instruments of all kinds have: the words of their family."""

    def __init__(self, name: str, meaning: str, labels: tuple[str, ...]) -> None:
        self._name, self._meaning, self._labels = name, meaning, labels

    def describe(self) -> Iterable[Metric]:
        """What a registry asks to find names used twice."""
        return [Metric(self._name, self._meaning, "unknown")]


class Numbers(_Series):
    """The instrument of a counter or a gauge; one without labels has its single series from the start."""

    def __init__(
        self,
        kind: type[CounterMetricFamily] | type[GaugeMetricFamily],
        name: str,
        meaning: str,
        labels: tuple[str, ...],
    ) -> None:
        super().__init__(name, meaning, labels)
        self._kind = kind
        self._children: dict[tuple[str, ...], Number] = {} if self._labels else {(): Number()}

    def labels(self, *values: str) -> Number:
        """The series with these label values, at zero when it is new; none for a family without labels."""
        return self._children.get(values) or self._children.setdefault(values, Number())

    def forget(self) -> None:
        """Drop every series: what they said is no longer so (gauges only)."""
        self._children.clear()

    def collect(self) -> Iterator[Metric]:
        """Show every series as it stands."""
        family = self._kind(self._name, self._meaning, labels=self._labels)
        for values, child in self._children.items():
            family.add_metric(list(values), child.value)
        yield family


class Distributions(_Series):
    """The instrument of a histogram."""

    def __init__(self, name: str, meaning: str, labels: tuple[str, ...], bounds: tuple[float, ...]) -> None:
        super().__init__(name, meaning, labels)
        self._bounds = bounds
        self._children: dict[tuple[str, ...], Distribution] = {}

    def labels(self, *values: str) -> Distribution:
        """The series with these label values, empty when it is new."""
        return self._children.get(values) or self._children.setdefault(values, Distribution(self._bounds))

    def collect(self) -> Iterator[Metric]:
        """Show every series as it stands."""
        family = HistogramMetricFamily(self._name, self._meaning, labels=self._labels)
        for values, child in self._children.items():
            family.add_metric(list(values), child.buckets(), child.total)
        yield family
