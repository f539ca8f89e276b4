"""
What a report draws, as data: each figure knows its title, what it says in words (the alternative text), and its numbers
as a table. lab/plots.py turns them into pictures and decides nothing.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from proxy.lab.contrasts import by_rate, by_rtt, contrasts, cost_measure, nearest
from proxy.lab.difference import Difference
from proxy.lab.figure import Figure, Panel, Series, Shape
from proxy.lab.latencies import Latencies
from proxy.lab.measures import BY_KEY, Measure, Unit
from proxy.lab.panels import MOST_LINES, hue_field, hues_of, panels_of
from proxy.lab.results import Mode, Result, Row, Workload, latencies
from proxy.lab.stats import Estimate
from proxy.lab.words import amount, change, labels, spread

MOST_BARS = 40  # five proxies, two engines and the floor, in two versions, full and resumed, are 32
_MOST_SAID = 12
_BARS = (
    "cpu_per_handshake",
    "handshakes_per_s",
    "cpu_per_request",
    "requests_per_s",
    "throughput",
    "cpu_per_gb",
    "memory_per_connection",
)


def figures(result: Result, difference: Difference | None = None) -> list[Figure]:
    """Every figure that the document has data for, what changed first."""
    made: list[Figure | None] = []
    if difference is not None:
        made += [
            _changes(difference, measure) for measure in difference.measures() if measure.key in (*_BARS, "p50", "p99")
        ]
    for workload in Workload:
        rows = [row for row in result.rows if row.scenario.workload is workload and row.rounds]
        if not rows:
            continue
        near = nearest(rows)
        made += [_bars(near, BY_KEY[key], result.rows) for key in _BARS]
        cost = cost_measure(near)
        made += [_gap(near, cost, result.rows) if cost else None, _distribution(near, result.rows)]
        made += [_lines(by_rtt(rows), _RTT, result.rows), _lines(by_rate(rows), _RATE, result.rows)]
    return [one for one in made if one is not None]


def _bars(rows: Sequence[Row], measure: Measure, among: Sequence[Row]) -> Figure | None:
    having = [row for row in rows if measure.figure(row) is not None]
    if not having:
        return None
    panels = tuple(
        Panel(
            title,
            tuple(Series(label, hue, light, ((0.0, _sure(measure.figure(row))),)) for label, hue, light, row in bars),
        )
        for title, bars in panels_of(having[:MOST_BARS], among, most=MOST_BARS)
    )
    workload = having[0].scenario.workload
    named = list(zip(labels([row.scenario for row in having]), having, strict=True))
    found = [(label, _sure(measure.figure(row))) for label, row in named]
    return Figure(
        key=_key(measure, having[0]),
        title=f"{measure.title[0].upper()}{measure.title[1:]}"
        + (f", {workload}" if len(measure.workloads) > 1 else ""),
        shape=Shape.BARS,
        alt=_alt(
            f"Bars of {measure.title}", (f"{label} {amount(figure.value, measure.unit)}" for label, figure in found)
        ),
        unit=measure.unit,
        x_title=measure.title,
        x_unit=measure.unit,
        panels=panels,
        headers=("", measure.title, "interval"),
        table=tuple((label, amount(figure.value, measure.unit), spread(figure)) for label, figure in found),
    )


def _distribution(rows: Sequence[Row], among: Sequence[Row]) -> Figure | None:
    """The share of handshakes that took at most so long, of all rounds together."""
    having = [(row, held) for row in rows if (held := _all_latencies(row)) is not None]
    if not having:
        return None
    by_row = {id(row): held for row, held in having}
    kept = [row for row, _ in having]
    panels = tuple(
        Panel(
            title,
            tuple(Series(label, hue, light, _cdf(by_row[id(row)])) for label, hue, light, row in lines[:MOST_LINES]),
        )
        for title, lines in panels_of(kept, among)
    )
    percents = (50.0, 90.0, 99.0, 99.9, 100.0)
    named = list(zip(labels([row.scenario for row in kept]), kept, strict=True))
    table = tuple(
        (label, *(amount(by_row[id(row)].percentile(percent), Unit.SECONDS) for percent in percents))
        for label, row in named
    )
    workload = rows[0].scenario.workload
    return Figure(
        key=f"latency_{workload}",
        title=f"Latency of a {workload}",
        shape=Shape.DISTRIBUTION,
        alt=_alt("Cumulative distribution of latencies", (f"{row[0]}: median {row[1]}, p99 {row[3]}" for row in table)),
        unit=Unit.SHARE,
        x_title="latency",
        x_unit=Unit.SECONDS,
        panels=panels,
        headers=("", "p50", "p90", "p99", "p99.9", "max"),
        table=table,
    )


def _all_latencies(row: Row) -> Latencies | None:
    held = [one for round_ in row.rounds if (one := latencies(round_)) is not None]
    total = Latencies.sum(held) if held else None
    return total if total is not None and total.count else None


def _cdf(held: Latencies) -> tuple[tuple[float, Estimate], ...]:
    points, seen = [], 0
    for seconds, count in held.buckets():
        seen += count
        share = seen / held.count
        points.append((seconds, Estimate(share, share, share, 0.0)))
    return tuple(points)


def _gap(rows: Sequence[Row], measure: Measure, among: Sequence[Row]) -> Figure | None:
    """Full and resumed side by side, joined by a line."""
    pairs = contrasts(rows, "mode", measure, Mode.FULL)[:MOST_BARS]
    if not pairs:
        return None
    hues = hues_of(among, field := hue_field(rows))
    names = labels([one.base.scenario for one in pairs], ("mode",))
    series = tuple(
        Series(name, hues[getattr(one.base.scenario, field)], False, ((0.0, one.base_figure), (1.0, one.other_figure)))
        for name, one in zip(names, pairs, strict=True)
    )
    table = tuple(
        (
            name,
            amount(one.base_figure.value, measure.unit),
            amount(one.other_figure.value, measure.unit),
            change(one.factor.value),
        )
        for name, one in zip(names, pairs, strict=True)
    )
    return Figure(
        key="full_and_resumed",
        title=f"Full and resumed: {measure.title}",
        shape=Shape.GAP,
        alt=_alt(
            "What resumption saves",
            (f"{name}: full {full}, resumed {resumed}, {by}" for name, full, resumed, by in table),
        ),
        unit=measure.unit,
        x_title=measure.title,
        x_unit=measure.unit,
        panels=(Panel("", series),),
        headers=("", "full", "resumed", "change"),
        table=table,
    )


class _Varied(NamedTuple):
    """A quantity that a figure has along its lower axis: a field of the scenario, and the measure that is drawn."""

    field: str
    unit: Unit
    measure: str
    title: str
    axis: str


_RTT = _Varied("rtt_s", Unit.SECONDS, "p50", "Latency by network round trip", "network round trip added")
_RATE = _Varied("rate", Unit.PER_SECOND, "p99", "Latency p99 by rate offered", "rate offered")


def _lines(groups: Sequence[Sequence[Row]], varied: _Varied, among: Sequence[Row]) -> Figure | None:
    """Each group as a line over what varies in it; only where there is something to join."""
    measure, field = BY_KEY[varied.measure], varied.field
    groups = [group for group in groups if sum(measure.figure(row) is not None for row in group) > 1]
    if not groups:
        return None
    firsts = [group[0] for group in groups]
    following = {id(group[0]): group for group in groups}
    panels = tuple(
        Panel(
            heading,
            tuple(
                Series(label, hue, light, _points(following[id(row)], measure, field))
                for label, hue, light, row in lines[:MOST_LINES]
            ),
        )
        for heading, lines in panels_of(firsts, among, (field,))
    )
    xs = sorted({getattr(row.scenario, field) for group in groups for row in group})
    names = labels([row.scenario for row in firsts], (field,))
    table = []
    for name, group in zip(names, groups, strict=True):
        at = {getattr(row.scenario, field): measure.figure(row) for row in group}
        table.append((name, *(amount(figure.value if (figure := at.get(x)) else None, measure.unit) for x in xs)))
    return Figure(
        key=f"{_key(measure, firsts[0])}_by_{field.removesuffix('_s')}",
        title=varied.title,
        shape=Shape.LINES,
        alt=_alt(
            varied.title,
            (
                f"{row[0]}: from {row[1]} at {amount(xs[0], varied.unit)} to {row[-1]} at {amount(xs[-1], varied.unit)}"
                for row in table
            ),
        ),
        unit=measure.unit,
        x_title=varied.axis,
        x_unit=varied.unit,
        panels=panels,
        headers=("", *(amount(x, varied.unit) for x in xs)),
        table=tuple(table),
    )


def _points(group: Sequence[Row], measure: Measure, field: str) -> tuple[tuple[float, Estimate], ...]:
    return tuple((getattr(row.scenario, field), figure) for row in group if (figure := measure.figure(row)) is not None)


def _changes(difference: Difference, measure: Measure) -> Figure | None:
    """How much each row changed, with the interval; one measure a figure."""
    found = [(one, one.factor) for one in difference.changes([measure]) if one.factor is not None][:MOST_BARS]
    if not found:
        return None
    series = tuple(
        Series(one.label, 1 if one.is_worse else 0, not (one.is_worse or one.is_better), ((0.0, factor),))
        for one, factor in found
    )
    table = tuple(
        (one.label, change(factor.value), f"{change(factor.low)} to {change(factor.high)}", one.verdict.value)
        for one, factor in found
    )
    return Figure(
        key=f"change_{measure.key}",
        title=f"Change of {measure.title}",
        shape=Shape.CHANGES,
        alt=_alt(f"Change of {measure.title}", (f"{row[0]} {row[1]}, {row[3]}" for row in table)),
        unit=Unit.SHARE,
        x_title="change",
        x_unit=Unit.SHARE,
        panels=(Panel("", series),),
        headers=("", "change", "interval", "verdict"),
        table=table,
    )


def _alt(title: str, items: Iterable[str]) -> str:
    """What a picture says, in as many words as somebody wants to hear."""
    said = list(items)
    more = f"; and {len(said) - _MOST_SAID} more, in the table" if len(said) > _MOST_SAID else ""
    return f"{title}: {'; '.join(said[:_MOST_SAID])}{more}"


def _key(measure: Measure, row: Row) -> str:
    """A name that no other figure has: with the workload where several have the measure."""
    return measure.key if len(measure.workloads) == 1 else f"{measure.key}_{row.scenario.workload}"


def _sure(figure: Estimate | None) -> Estimate:
    assert figure is not None
    return figure
