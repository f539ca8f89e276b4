"""
Rows that differ in one aspect alone, brought together: 1.3 against 1.2, resumed against full, RSA against ECDSA, one
proxy against another. From these pairs come the sentences at the top of a report and its figure of full and resumed.

Rows of one document took turns, round by round, so their ratio is judged in pairs (`stats.paired_ratio`).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import msgspec

from proxy.lab.measures import BY_KEY, Measure
from proxy.lab.results import Row, Scenario, Workload
from proxy.lab.stats import Estimate, cannot_tell, paired_ratio, ratio

# What a row's cost is, best first: the first one that was measured speaks for it.
_COSTS: dict[Workload, tuple[str, ...]] = {
    Workload.HANDSHAKE: ("cpu_per_handshake", "p50"),
    Workload.REQUEST: ("cpu_per_request", "p50"),
    Workload.UPLOAD: ("cpu_per_gb", "throughput"),
    Workload.DOWNLOAD: ("cpu_per_gb", "throughput"),
    Workload.IDLE: ("memory_per_connection",),
}
_ALONG: dict[str, tuple[str, ...]] = {"version": ("cipher",), "security": ("version", "key", "group", "cipher")}


@dataclass(frozen=True, slots=True)
class Contrast:
    """Two rows that differ in `field`, and how many times the first one's figure the other one's is."""

    field: str
    measure: Measure
    base: Row
    other: Row
    base_figure: Estimate
    other_figure: Estimate
    factor: Estimate

    @property
    def is_noise(self) -> bool:
        """Whether the rounds cannot tell the two apart."""
        return cannot_tell(self.factor)


def cost_measure(rows: Iterable[Row]) -> Measure | None:
    """The measure that speaks for the cost of these rows, all of one workload; None where nothing was measured."""
    kept = [row for row in rows if row.rounds]
    if not kept:
        return None
    keys = _COSTS[kept[0].scenario.workload]
    return next((BY_KEY[key] for key in keys if any(BY_KEY[key].values(row) for row in kept)), None)


def contrasts(rows: Sequence[Row], field: str, measure: Measure, base: object = None) -> list[Contrast]:
    """
    Every pair of rows that differ in the field alone.

    base: the value that others are compared with; default: the one of the first row that has any
    """
    values = [getattr(row.scenario, field) for row in rows if getattr(row.scenario, field) is not None]
    if not values:
        return []
    first = values[0] if base is None else base
    bases = {_without(row.scenario, field): row for row in rows if getattr(row.scenario, field) == first}
    pairs = [
        _contrast(field, measure, bases[_without(row.scenario, field)], row)
        for row in rows
        if getattr(row.scenario, field) not in (None, first) and _without(row.scenario, field) in bases
    ]
    return [pair for pair in pairs if pair is not None]


def nearest(rows: Sequence[Row]) -> list[Row]:
    """Only the rows with the least network delay, where costs are not hidden by waiting."""
    least = min((row.scenario.rtt_s for row in rows), default=0.0)
    return [row for row in rows if row.scenario.rtt_s == least]


def by_rtt(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows that differ in the round-trip time alone, ascending in it; only where there is more than one."""
    return _along(rows, "rtt_s", lambda scenario: scenario.rtt_s)


def by_rate(rows: Sequence[Row]) -> list[list[Row]]:
    """The same for the rate that was offered."""
    return _along([row for row in rows if row.scenario.rate], "rate", lambda scenario: scenario.rate or 0.0)


def _along(rows: Sequence[Row], field: str, of: Callable[[Scenario], float]) -> list[list[Row]]:
    series: dict[Scenario, list[Row]] = {}
    for row in rows:
        series.setdefault(_without(row.scenario, field), []).append(row)
    return [sorted(each, key=lambda row: of(row.scenario)) for each in series.values() if len(each) > 1]


def _without(scenario: Scenario, field: str) -> Scenario:
    """The scenario with the field, and what hangs on it, taken out."""
    blank: dict[str, object] = dict.fromkeys((field, *_ALONG.get(field, ())))
    if field == "rtt_s":
        blank = {"rtt_s": 0.0}
    elif field == "side":
        blank = {"side": ""}
    elif field == "security":
        blank |= {"security": "", "client_certificate": False, "chain_length": 0}
    return msgspec.structs.replace(scenario, **blank)


def _contrast(field: str, measure: Measure, base: Row, other: Row) -> Contrast | None:
    old, new = measure.values(base), measure.values(other)
    factor = paired_ratio(new, old) or ratio(new, old)  # in pairs where no round is missing
    first, second = measure.figure(base), measure.figure(other)
    if factor is None or first is None or second is None or base.fault or other.fault:
        return None
    return Contrast(field, measure, base, other, first, second, factor)
