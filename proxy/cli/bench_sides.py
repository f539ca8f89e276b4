"""The tables of `bench compare` and `bench relay`: one line a side, one column a figure, with the ratio to one side."""

import sys
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from proxy.cli.terminal import Colour, columns, paint
from proxy.lab.contest import kind_of
from proxy.lab.fitting import grid, wrapped
from proxy.lab.measures import BY_KEY, Measure
from proxy.lab.results import Result, Row
from proxy.lab.stats import cannot_tell, paired_ratio, ratio
from proxy.lab.summary import caveats
from proxy.lab.words import UNKNOWN, amount
from proxy.ops.printable import printable

_DOUBT = "~"  # before a ratio or a difference that may be none


class Beside(StrEnum):
    """What stands beside a figure."""

    RATIO = "ratio"
    ADDED = "added"
    NOTHING = "nothing"


class Column(NamedTuple):
    """kind: of `contest.kind_of`; measure: a key of lab/measures.py"""

    title: str
    kind: str
    measure: str
    beside: Beside = Beside.RATIO


class Table(NamedTuple):
    """Some columns. base: the side that the others are put in relation to"""

    caption: str
    columns: tuple[Column, ...]
    base: str


def print_sides(result: Result, tables: Sequence[Table]) -> None:
    """Print the tables that have figures, who took part, and what it means."""
    width = columns(sys.stdout)
    for table in tables:
        shown = [column for column in table.columns if any(_is_of(row, column) for row in result.rows)]
        if shown:
            print(f"\n{wrapped(printable(table.caption), width)}\n")
            text = _text(result.rows, shown, table.base, width)
            print(text)
            if _DOUBT in text:
                print(f"\n{_DOUBT} the rounds cannot tell the two apart")
    print(f"\n{paint('Who took part', Colour.STRONG, sys.stdout)}")
    for side, words in result.sides.items():
        print(wrapped(f"  {printable(side)}: {printable(words)}.", width))
    print(f"\n{paint('What it means', Colour.STRONG, sys.stdout)}")
    for sentence in caveats(result):
        print(wrapped(f"  {printable(sentence)}", width))


def _text(rows: Sequence[Row], shown: Sequence[Column], base: str, width: int | None) -> str:
    sides = dict.fromkeys(row.scenario.side for row in rows)
    found = {(row.scenario.side, kind_of(row.scenario)): row for row in rows}
    lines = []
    for side in sides:
        cells = [_cell(found.get((side, column.kind)), found.get((base, column.kind)), column) for column in shown]
        if any(cell not in ("", "unknown") for cell in cells):
            lines.append([side, *(cell or UNKNOWN for cell in cells)])
    return grid(["", *(column.title for column in shown)], lines, width)


def _is_of(row: Row, column: Column) -> bool:
    return kind_of(row.scenario) == column.kind and BY_KEY[column.measure].figure(row) is not None


def _cell(row: Row | None, base: Row | None, column: Column) -> str:
    """Empty where the side does not have such a row; "failed" where it has none that is whole."""
    if row is None:
        return ""
    measure = BY_KEY[column.measure]
    figure = measure.figure(row)
    if figure is None:
        return "failed" if row.fault else "unknown"
    text = amount(figure.value, measure.unit)
    return f"{text} {_beside(row, base, measure, column.beside)}".rstrip()


def _beside(row: Row, base: Row | None, measure: Measure, beside: Beside) -> str:
    if base is None or base is row or beside is Beside.NOTHING:
        return ""
    ours, theirs = measure.figure(row), measure.figure(base)
    if ours is None or theirs is None:
        return ""
    new, old = measure.values(row), measure.values(base)
    factor = paired_ratio(new, old) or ratio(new, old)
    # What the medians give, which people check by hand; the rounds in pairs say whether it is more than noise.
    doubt = _DOUBT if factor is not None and cannot_tell(factor) else ""
    if beside is Beside.ADDED:
        sign = "+" if ours.value >= theirs.value else "-"
        return f"{doubt}{sign}{amount(abs(ours.value - theirs.value), measure.unit)}"
    return f"{doubt}{ours.value / theirs.value:.2f}x" if factor is not None else ""
