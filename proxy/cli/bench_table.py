"""The table of `bench handshake` on a terminal, as wide as that is, and the sentences below it. Colour only there."""

import sys
from collections.abc import Sequence

from proxy.cli.terminal import Colour, columns, paint
from proxy.lab.fitting import grid, wrapped
from proxy.lab.measures import BY_KEY, MEASURES, Measure
from proxy.lab.results import Result, Row
from proxy.lab.summary import summary
from proxy.lab.words import UNKNOWN, amount, labels, shared, spread
from proxy.ops.printable import printable

_COLUMNS = {
    "handshakes_per_s": "per second",
    "cpu_per_handshake": "server CPU",
    "client_cpu_per_handshake": "client CPU",
    "p50": "p50",
    "p90": "p90",
    "p99": "p99",
    "max": "max",
    "bytes_per_handshake": "bytes",
    "round_trips": "round trips",
    "failure_share": "failed",
}
_WITH_INTERVAL = ("handshakes_per_s", "cpu_per_handshake")
_ONLY_IF_ANY = ("failure_share",)
_LEFT_OUT_FIRST = ("p90", "client_cpu_per_handshake", "max", "bytes_per_handshake", "p50")  # where it is too narrow


def print_result(result: Result) -> None:
    """Print the table and what it means."""
    rows = [row for row in result.rows if row.rounds]
    width = columns(sys.stdout)
    if rows:
        print(f"\n{wrapped(f'{shared(result.rows)}; per handshake, medians of {_rounds(rows)}', width)}\n")
        print(_fitting_table(rows, width))
    faulty = [row for row in result.rows if row.fault]
    if rows or not faulty:
        print(f"\n{paint('What it means', Colour.STRONG, sys.stdout)}")
    for sentence in summary(result):
        print(wrapped(f"  {printable(sentence)}", width))


def _rounds(rows: Sequence[Row]) -> str:
    most = max(len(row.rounds) for row in rows)
    return f"{most} interleaved rounds" if most > 1 else "one round"


def _fitting_table(rows: Sequence[Row], width: int | None) -> str:
    """The table without as many of the lesser columns as it takes; what was left out is said."""
    shown = [measure for measure in MEASURES if measure.key in _COLUMNS and _is_shown(measure, rows)]
    left_out: list[str] = []
    for key in _LEFT_OUT_FIRST:
        if width is None or max(map(len, _table(rows, shown, None).splitlines())) <= width:
            break
        left_out.append(_COLUMNS[key])
        shown = [measure for measure in shown if measure.key != key]
    table = _table(rows, shown, width)
    if not left_out:
        return table
    more = f"(a wider terminal also has {', '.join(left_out)})"
    return f"{table}\n{wrapped(more, width)}"


def _table(rows: Sequence[Row], shown: Sequence[Measure], width: int | None) -> str:
    table = [
        [label, *(_cell(measure, row) for measure in shown)]
        for label, row in zip(labels([row.scenario for row in rows]), rows, strict=True)
    ]
    return grid(["", *(_COLUMNS[measure.key] for measure in shown)], table, width)


def _is_shown(measure: Measure, rows: Sequence[Row]) -> bool:
    return measure.key not in _ONLY_IF_ANY or any(any(measure.values(row)) for row in rows)


def _cell(measure: Measure, row: Row) -> str:
    figure = measure.figure(row)
    if figure is None:
        return "unknown" if measure is BY_KEY["cpu_per_handshake"] else UNKNOWN
    text = amount(figure.value, measure.unit)
    if measure.key == "bytes_per_handshake":
        text = f"{figure.value:,.0f}"
    return f"{text} {spread(figure)}".rstrip() if measure.key in _WITH_INTERVAL else text
