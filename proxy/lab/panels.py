"""
Which rows of a result stand together in a figure, and how each looks.

Colour is for what is compared first (sides, else security, else versions, else keys), a dash or a lighter bar for
resumed handshakes, and a panel for everything else.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from proxy.lab.results import Mode, Row
from proxy.lab.words import aspects

MOST_PANELS = 6
MOST_HUES = 8  # the colours that a colour-blind reader can tell apart
MOST_LINES = 2 * MOST_HUES  # each of them whole and dashed
_HUES = ("side", "security", "version", "key", "group", "cipher")


class Drawn(NamedTuple):
    """A row and how it looks."""

    label: str
    hue: int
    light: bool
    row: Row


def hue_field(rows: Iterable[Row]) -> str:
    """The aspect that colour is for."""
    kept = list(rows)
    return next((field for field in _HUES if len({getattr(row.scenario, field) for row in kept}) > 1), "version")


def hues_of(rows: Sequence[Row], field: str) -> dict[object, int]:
    """The colour of each value of that aspect, by its number."""
    values = dict.fromkeys(getattr(row.scenario, field) for row in rows)
    return {value: number % MOST_HUES for number, value in enumerate(values)}


def _grouped(rows: Sequence[Row], field: str, hidden: Iterable[str]) -> dict[str, list[Row]]:
    """The rows by what tells them apart beside the coloured field; what follows from that one tells nothing."""
    skip = {field, *hidden}
    named = [aspects(row.scenario) for row in rows]
    fields = [other for other in dict.fromkeys(other for names in named for other in names) if other not in skip]
    telling = [
        other
        for other in fields
        if len({names.get(other) for names in named}) > 1
        and len({(names.get(field), names.get(other)) for names in named}) > len({names.get(field) for names in named})
    ]
    groups: dict[str, list[Row]] = {}
    for row, names in zip(rows, named, strict=True):
        groups.setdefault(", ".join(names[other] for other in telling if other in names), []).append(row)
    return groups


def _series_label(row: Row, field: str, modes: int) -> str:
    names = aspects(row.scenario)
    words = [names.get(field, "")] + ([names["mode"]] if modes > 1 and "mode" in names and field != "mode" else [])
    return " ".join(filter(None, words)) or names["side"]


def _is_light(row: Row) -> bool:
    return row.scenario.mode is Mode.RESUMED


def panels_of(
    rows: Sequence[Row], among: Sequence[Row], hidden: tuple[str, ...] = (), most: int = MOST_PANELS
) -> list[tuple[str, list[Drawn]]]:
    """
    Panels with labelled, coloured rows; where every panel would hold one row, the rows share a single one.

    among: whose colours these are: all rows of a document, so that a side has one colour in all figures
    """
    field = hue_field(rows)
    hues, modes = hues_of(among, field), len({row.scenario.mode for row in rows})
    groups = _grouped(rows, field, ("mode", *hidden))
    if len(groups) > 1 and all(len(group) == 1 for group in groups.values()):
        alone = [(title, row) for title, (row,) in groups.items()]
        return [("", [Drawn(title, at % MOST_HUES, _is_light(row), row) for at, (title, row) in enumerate(alone)])]
    return [
        (
            title,
            [
                Drawn(_series_label(row, field, modes), hues[getattr(row.scenario, field)], _is_light(row), row)
                for row in group
            ],
        )
        for title, group in list(groups.items())[:most]
    ]
