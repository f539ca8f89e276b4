"""
Sentences and tables for a terminal of so many columns; for what is no terminal (width None) they stay as they are.

A table that is too wide loses nothing: first its headers and its labels are folded, and where that is not enough it
goes on below itself, with the labels again beside the further columns.
"""

import textwrap
from collections.abc import Sequence

from tabulate import tabulate

NARROWEST = 24  # of a terminal; below that nothing can be read anyhow
_HELD = "\x00"  # stands for a space at which no line is to end; what is shown has no controls
_LABEL_SHARE = 0.4  # of the width, for the labels of a table that does not fit


def wrapped(text: str, width: int | None, hanging: int = 2) -> str:
    """A sentence in as many lines as it takes, all but the first indented by `hanging` more."""
    if width is None:
        return text
    first = text[: len(text) - len(text.lstrip())]
    return textwrap.fill(
        text.lstrip(),
        max(width, NARROWEST),
        initial_indent=first,
        subsequent_indent=first + " " * hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )


def grid(headers: Sequence[str], rows: Sequence[Sequence[str]], width: int | None) -> str:
    """A table whose first column, under an empty header, holds labels, and whose others hold figures."""
    whole = _grid(headers, rows)
    if width is None or _width(whole) <= width:
        return whole
    labels = [_label(row[0], max(int(width * _LABEL_SHARE), NARROWEST // 2)) for row in rows]
    columns = [
        (_folded(header, max(len(row[at]) for row in rows) if rows else 0), [row[at] for row in rows])
        for at, header in enumerate(headers)
    ][1:]
    parts, first = list[str](), 0
    for last in range(1, len(columns) + 1):
        if last < len(columns) and _width(_part(labels, columns[first : last + 1])) <= width:
            continue
        parts.append(_part(labels, columns[first:last]))
        first = last
    return "\n\n".join(parts)


def _part(labels: Sequence[str], columns: Sequence[tuple[str, Sequence[str]]]) -> str:
    rows = [[label, *(cells[at] for _, cells in columns)] for at, label in enumerate(labels)]
    return _grid(["", *(header for header, _ in columns)], rows)


def _grid(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    aligned = ("left", *("right" for _ in headers[1:]))
    return tabulate(rows, headers, tablefmt="simple", disable_numparse=True, colalign=aligned)


def _label(text: str, width: int) -> str:
    """As _folded, with what stands between commas in one piece where that is possible, and further lines indented."""
    parts = text.split(", ")
    whole = ", ".join(part.replace(" ", _HELD) if len(part) < width - 2 else part for part in parts)
    return _folded(whole, width - 2).replace(_HELD, " ").replace("\n", "\n  ")


def _folded(text: str, width: int) -> str:
    """In lines of so many characters, where its words are no longer."""
    longest = max((len(word) for word in text.split()), default=1)
    return "\n".join(textwrap.wrap(text, max(width, longest), break_long_words=False, break_on_hyphens=False))


def _width(text: str) -> int:
    return max(map(len, text.splitlines()), default=0)
