"""How each shape of figure is drawn on a canvas of matplotlib, wide or narrow; lab/plots.py makes files of it."""

import math
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from proxy.lab.figure import Figure, Panel, Series, Shape
from proxy.lab.measures import Unit
from proxy.lab.words import amount, change, scale, spread

# Okabe and Ito's colours, which colour-blind readers tell apart.
INK, MUTED, RULE = "#1f2328", "#59636e", "#d1d9e0"
HUES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a6f00", "#6e7781")

_LIGHT = 0.42  # opacity of a resumed handshake's bar
_MOST_POINTS = 160  # of a line: more is not to be seen
_NINES = (0.0, 0.25, 0.5, 0.9, 0.99, 0.999, 0.9999)


class Width(Enum):
    """How wide a picture is: inches and points of its text."""

    WIDE = (8.4, 9.5)
    NARROW = (3.7, 9.0)

    @property
    def inches(self) -> float:
        """The width of the whole picture."""
        return self.value[0]

    @property
    def is_narrow(self) -> bool:
        """Whether labels stand above their bars instead of beside them."""
        return self is Width.NARROW


def draw(canvas: Canvas, figure: Figure, width: Width) -> None:
    """Draw the figure, without its title, and give the canvas the height that it needs."""
    _DRAW[figure.shape](canvas, figure, width)


def _bars(canvas: Canvas, figure: Figure, width: Width) -> None:
    """Horizontal bars under the heading of their panel, each with its interval and its figure."""
    axes = _rows(canvas, width, sum(len(panel.series) + bool(panel.title) for panel in figure.panels))
    most = max(series.points[0][1].high for panel in figure.panels for series in panel.series) or 1.0
    at = 0.0
    for panel in figure.panels:
        if panel.title:
            _heading(axes, at, panel.title)
            at += 1
        for series in panel.series:
            _bar(axes, at, series, figure.unit, width, scale(most, figure.unit)[0])
            at += 1
    _value_axis(axes, most, 1.42 if width.is_narrow else 1.2, figure, width)


def _bar(axes: Axes, at: float, series: Series, unit: Unit, width: Width, factor: float) -> None:
    estimate = series.points[0][1]
    value, low, high = (number / factor for number in (estimate.value, estimate.low, estimate.high))
    thick = 0.4 if width.is_narrow else 0.62
    axes.barh(at, value, thick, color=HUES[series.hue], alpha=_LIGHT if series.light else 1.0)
    if estimate.coverage and estimate.relative >= 0.0005:
        axes.errorbar(value, at, xerr=[[value - low], [high - value]], color=INK, linewidth=1.1, capsize=2.5)
    words = f"{amount(estimate.value, unit)} {spread(estimate)}".rstrip()
    axes.annotate(words, (high, at), (5, 0), textcoords="offset points", va="center")
    _row_label(axes, at, series.label, width)


def _gap(canvas: Canvas, figure: Figure, width: Width) -> None:
    """A line from full, filled, to resumed, hollow."""
    (panel,) = figure.panels
    axes = _rows(canvas, width, len(panel.series))
    most = max(point.high for series in panel.series for _, point in series.points)
    factor, _ = scale(most, figure.unit)
    for at, series in enumerate(panel.series):
        full, resumed = (point.value / factor for _, point in series.points)
        colour = HUES[series.hue]
        axes.plot([full, resumed], [at, at], color=colour, linewidth=2.2, alpha=_LIGHT, zorder=2)
        axes.plot(full, at, "o", color=colour, markersize=8, zorder=3)
        axes.plot(resumed, at, "o", color=colour, markersize=8, markerfacecolor="none", markeredgewidth=2, zorder=3)
        words = change(resumed / full) if full else ""
        axes.annotate(words, (max(full, resumed), at), (9, 0), textcoords="offset points", va="center", color=MUTED)
        _row_label(axes, at, series.label, width)
    _value_axis(axes, most, 1.28 if width.is_narrow else 1.15, figure, width)
    marks = [
        Line2D([], [], color=MUTED, marker="o", linestyle="", markersize=7, label="full"),
        Line2D([], [], color=MUTED, marker="o", linestyle="", markersize=7, markerfacecolor="none", label="resumed"),
    ]
    canvas.legend(handles=marks, loc="outside upper left", ncols=2)


def _changes(canvas: Canvas, figure: Figure, width: Width) -> None:
    """Each row's change with its interval, around the line of no change."""
    (panel,) = figure.panels
    axes = _rows(canvas, width, len(panel.series))
    ends = [end - 1 for series in panel.series for _, point in series.points for end in (point.low, point.high)]
    room = max(0.02, *map(abs, ends)) * 1.08
    axes.axvline(0, color=MUTED, linewidth=0.8)
    for at, series in enumerate(panel.series):
        factor = series.points[0][1]
        colour = HUES[-1] if series.light else HUES[series.hue]
        axes.plot([factor.low - 1, factor.high - 1], [at, at], color=colour, linewidth=2.2, solid_capstyle="round")
        axes.plot(factor.value - 1, at, "o", color=colour, markersize=7)
        place, words = (1.0, at), change(factor.value)
        axes.annotate(words, place, (0, 0), ("axes fraction", "data"), "offset points", ha="right", va="center")
        _row_label(axes, at, series.label, width)
    axes.set_xlim(-room, room * (1.7 if width.is_narrow else 1.4))
    axes.xaxis.set_major_locator(MaxNLocator(5, symmetric=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:+g} %" if value else "0"))
    axes.set_xlabel("change, with its interval")


def _distribution(canvas: Canvas, figure: Figure, width: Width) -> None:
    """Cumulative shares over a logarithmic axis of time; the upper end is stretched, for tails are what hurts."""
    everywhere = [x for panel in figure.panels for series in panel.series for x, _ in series.points]
    decades = math.log10(max(everywhere) / min(everywhere))
    subs = (1.0, 2.0, 5.0) if decades < 1.2 else (1.0, 3.0) if decades < 2.4 else (1.0,)

    def one(axes: Axes, panel: Panel) -> None:
        for series in panel.series:
            xs, ys = _thin([(x, _nines(point.value)) for x, point in series.points])
            axes.plot(xs, ys, drawstyle="steps-post", label=series.label, **_line(series))
        axes.set_xscale("log")
        axes.set_xlim(min(everywhere) * 0.9, max(everywhere) * 1.15)
        axes.set_ylim(0, _nines(1.0) * 1.01)
        axes.yaxis.set_major_locator(FixedLocator([_nines(share) for share in _NINES]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda _, at: f"{_NINES[at or 0] * 100:g} %"))
        axes.xaxis.set_major_locator(LogLocator(subs=subs))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: amount(value, Unit.SECONDS)))

    _grid_of_panels(canvas, figure, width, one)
    canvas.supylabel("share at most" if width.is_narrow else "share that took at most", color=MUTED, fontsize="medium")


def _lines(canvas: Canvas, figure: Figure, width: Width) -> None:
    """Values over a quantity that was varied."""
    everything = [point for panel in figure.panels for series in panel.series for point in series.points]
    most, most_x = max(point.high for _, point in everything), max(x for x, _ in everything)
    (factor, name), (x_factor, x_name) = scale(most, figure.unit), scale(most_x, figure.x_unit)

    def one(axes: Axes, panel: Panel) -> None:
        for series in panel.series:
            values = [point for _, point in series.points]
            axes.errorbar(
                [x / x_factor for x, _ in series.points],
                [one.value / factor for one in values],
                yerr=[
                    [(one.value - one.low) / factor for one in values],
                    [(one.high - one.value) / factor for one in values],
                ],
                marker="o",
                markersize=5,
                capsize=2.5,
                **_line(series),
            )
        axes.set_ylim(0, most / factor * 1.08)
        axes.set_xlim(0, most_x / x_factor * 1.05)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_formatter(_formatter(name))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(_formatter(x_name))
        axes.set_xlabel(figure.x_title)

    _grid_of_panels(canvas, figure, width, one)


def _grid_of_panels(canvas: Canvas, figure: Figure, width: Width, one: Callable[[Axes, Panel], None]) -> None:
    """Panels in one column on a phone, else in two; one legend above all of them."""
    columns = 1 if width.is_narrow or len(figure.panels) == 1 else 2
    lines = -(-len(figure.panels) // columns)
    names: dict[str, Series] = {series.label: series for panel in figure.panels for series in panel.series}
    across = 2 if width.is_narrow else 4
    canvas.set_size_inches(
        width.inches, lines * (2.5 if width.is_narrow else 2.9) + 0.22 * -(-len(names) // across) + 0.4
    )
    grid = canvas.subplots(lines, columns, squeeze=False, sharey=True)
    flat = list(grid.flat)
    for axes, panel in zip(flat, figure.panels, strict=False):
        one(axes, panel)
        if panel.title:
            axes.set_title(panel.title, loc="left", fontsize="medium", fontweight="bold")
    for axes in flat[len(figure.panels) :]:
        axes.set_visible(False)
    handles = [Line2D([], [], label=label, **_line(series)) for label, series in names.items()]
    canvas.legend(handles=handles, loc="outside upper left", ncols=across)


def _rows(canvas: Canvas, width: Width, count: int) -> Axes:
    """Axes for so many horizontal rows, the first on top."""
    canvas.set_size_inches(width.inches, 0.8 + count * (0.46 if width.is_narrow else 0.34))
    axes: Axes = canvas.subplots()
    axes.set_ylim(count - 0.45, -0.7 if width.is_narrow else -0.5)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.set_yticks([], [])
    return axes


def _row_label(axes: Axes, at: float, text: str, width: Width) -> None:
    """Beside the row where there is room, else above it."""
    if width.is_narrow:
        axes.annotate(text, (0, at - 0.26), (0, 0), ("axes fraction", "data"), textcoords="offset points", va="bottom")
    else:
        axes.set_yticks([*axes.get_yticks(), at], [*[tick.get_text() for tick in axes.get_yticklabels()], text])
        axes.tick_params(axis="y", length=0)


def _heading(axes: Axes, at: float, text: str) -> None:
    axes.annotate(
        text, (0, at), (0, -2), ("axes fraction", "data"), textcoords="offset points", va="center", fontweight="bold"
    )


def _line(series: Series) -> dict[str, Any]:
    return {"color": HUES[series.hue], "linestyle": (0, (4, 1.6)) if series.light else "-", "linewidth": 1.9}


def _value_axis(axes: Axes, most: float, room: float, figure: Figure, width: Width) -> None:
    """The lower axis, from 0 to `room` times the longest bar, in the unit of its end."""
    factor, name = scale(most, figure.unit)
    axes.set_xlim(0, most / factor * room)
    axes.xaxis.set_major_locator(MaxNLocator(4 if width.is_narrow else 6))
    axes.xaxis.set_major_formatter(_formatter(name))
    axes.set_xlabel(figure.x_title)


def _formatter(unit: str) -> FuncFormatter:
    """A tick with its unit; nothing is nothing in every unit."""
    space = "" if unit in ("", "/s") else " "
    return FuncFormatter(lambda value, _: f"{value:,g}{space}{unit}" if value else "0")


def _nines(share: float) -> float:
    """Even up to the median; from there on each nine (90 %, 99 %, 99.9 %) takes the same room, up to 99.99 %."""
    if share <= 0.5:
        return share * 2
    return 1 - math.log10(2 * max(1e-4, 1 - share))


def _thin(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Leave out the points that no eye would miss, never the ends."""
    step = 4.0 / _MOST_POINTS
    kept = [points[0]]
    for point in points[1:-1]:
        if point[1] - kept[-1][1] >= step:
            kept.append(point)
    kept.append(points[-1])
    return [kept[0][0], *(x for x, _ in kept)], [0.0, *(y for _, y in kept)]


_DRAW: dict[Shape, Callable[[Canvas, Figure, Width], None]] = {
    Shape.BARS: _bars,
    Shape.GAP: _gap,
    Shape.CHANGES: _changes,
    Shape.DISTRIBUTION: _distribution,
    Shape.LINES: _lines,
}
