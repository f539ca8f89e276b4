"""The table of `bench handshake` on a terminal, and the sentences below it. Colour only there."""

import sys
from collections.abc import Sequence

from tabulate import tabulate

from proxy.cli.terminal import Colour, paint
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


def print_result(result: Result) -> None:
    """Print the table and what it means."""
    rows = [row for row in result.rows if row.rounds]
    if rows:
        print(f"\n{shared(result.rows)}; per handshake, medians of {_rounds(rows)}\n")
        print(_table(rows))
    faulty = [row for row in result.rows if row.fault]
    if rows or not faulty:
        print(f"\n{paint('What it means', Colour.STRONG, sys.stdout)}")
    for sentence in summary(result):
        print(f"  {printable(sentence)}")


def _rounds(rows: Sequence[Row]) -> str:
    most = max(len(row.rounds) for row in rows)
    return f"{most} interleaved rounds" if most > 1 else "one round"


def _table(rows: Sequence[Row]) -> str:
    shown = [measure for measure in MEASURES if measure.key in _COLUMNS and _is_shown(measure, rows)]
    table = [
        [label, *(_cell(measure, row) for measure in shown)]
        for label, row in zip(labels([row.scenario for row in rows]), rows, strict=True)
    ]
    headers = ["", *(_COLUMNS[measure.key] for measure in shown)]
    return tabulate(table, headers=headers, colalign=("left", *("right" for _ in shown)), disable_numparse=True)


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
