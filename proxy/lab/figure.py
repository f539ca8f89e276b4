"""A figure as a value: its words, its numbers, and the shape in which lab/plots.py draws it."""

from dataclasses import dataclass
from enum import StrEnum

from proxy.lab.measures import Unit
from proxy.lab.stats import Estimate


class Shape(StrEnum):
    """How a figure is drawn."""

    BARS = "bars"
    DISTRIBUTION = "distribution"
    LINES = "lines"
    GAP = "gap"
    CHANGES = "changes"


@dataclass(frozen=True, slots=True)
class Series:
    """
    Points of one colour. x: in the unit of the figure's axis; y: an estimate whose interval is drawn if it has one.

    hue: index of the colour; light: drawn lighter or dashed, which is how resumed handshakes look
    """

    label: str
    hue: int
    light: bool
    points: tuple[tuple[float, Estimate], ...]


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes, with a title where there are several."""

    title: str
    series: tuple[Series, ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """
    One figure. key: a file name; unit: of the values, x_unit: of the other axis where it is one of numbers.

    alt:   what the picture says, for who does not see it
    table: headers and rows with the same numbers
    """

    key: str
    title: str
    shape: Shape
    alt: str
    unit: Unit
    x_title: str
    x_unit: Unit
    panels: tuple[Panel, ...]
    headers: tuple[str, ...]
    table: tuple[tuple[str, ...], ...]

    @property
    def left_out(self) -> int:
        """How many rows of the table are not drawn, because nobody could tell so many apart."""
        return len(self.table) - sum(len(panel.series) for panel in self.panels)
