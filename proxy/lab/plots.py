"""
Figures as pictures, by matplotlib, without a screen: PNG and SVG files, and SVG to stand inside a page.

The colours are Okabe and Ito's, which colour-blind readers tell apart. Inside a page they are CSS variables, so that
one picture serves light and dark. Each figure is drawn in two widths, for a phone would shrink a wide one beyond
reading. Text stays text, in the reader's own font; and nothing in a label is ever read as markup or mathematics.
"""

import io
import logging
import re
import warnings
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas
from matplotlib.font_manager import FontProperties

from proxy.lab.drawing import HUES, INK, MUTED, RULE, Width, draw
from proxy.lab.figure import Figure

VARIABLES = {INK: "--ink", MUTED: "--muted", RULE: "--rule"} | {hue: f"--hue{at}" for at, hue in enumerate(HUES)}

_STYLE: Any = {  # matplotlib's own type of it is the list of every key
    "font.family": ["DejaVu Sans"],
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.color": RULE,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "svg.fonttype": "none",
}


def save(figure: Figure, folder: Path) -> list[Path]:
    """Write FOLDER/KEY.png and KEY.svg; Raises: OSError."""
    paths = []
    for suffix in ("png", "svg"):
        path = folder / f"{figure.key}.{suffix}"
        path.write_bytes(_render(figure, Width.WIDE, suffix, title=True))
        paths.append(path)
    return paths


def inline(figure: Figure, width: Width) -> str:
    """The picture as an <svg> element for a page that has set the variables; hidden from who hears the page."""
    text = _render(figure, width, "svg", title=False).decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<title>.*?</title>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"| version="1.1"', "", text)
    prefix = f"{figure.key}-{width.name.lower()}-"
    text = re.sub(r'(\bid="|\burl\(#|href="#)', lambda match: match[0] + prefix, text)
    text = re.sub(r'<svg width="[^"]*" height="[^"]*"|<svg height="[^"]*" width="[^"]*"', "<svg", text, count=1)
    text = re.sub(r"<[^<>]*>", _compact, re.sub(r">\s+<", "><", text))
    text = text.replace("'DejaVu Sans'", "system-ui, sans-serif").replace('"DejaVu Sans"', "system-ui, sans-serif")
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return text.replace("<svg", f'<svg class="{width.name.lower()}" aria-hidden="true" focusable="false"', 1).strip()


def _compact(tag: re.Match[str]) -> str:
    """A tag without line breaks, its coordinates to a hundredth of a point: a fifth less, and nobody sees it."""
    words = " ".join(tag[0].split())
    return re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), words)


def _render(figure: Figure, width: Width, suffix: str, *, title: bool) -> bytes:
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells about its font cache on stderr
    style: Any = {**_STYLE, "font.size": width.value[1], "svg.hashsalt": f"{figure.key} {width.name}"}
    with mpl.rc_context(style):
        canvas = Canvas(figsize=(width.inches, 1), layout="constrained")
        draw(canvas, figure, width)
        if title:
            _title(canvas, figure.title)
        out = io.BytesIO()
        metadata = {"Date": None} if suffix == "svg" else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a letter that the font lacks is a box in a PNG, and no more
            canvas.savefig(out, format=suffix, dpi=160, metadata=metadata, transparent=suffix == "svg")
    return out.getvalue()


def _title(canvas: Canvas, text: str) -> None:
    """Above everything; as the legend's own title where there is one, or the two would lie on each other."""
    if not canvas.legends:
        canvas.suptitle(text, x=0.01, ha="left", fontweight="bold")
        return
    (legend,) = canvas.legends
    legend.set_title(text, prop=FontProperties(weight="bold", size="large"))
    legend.set_alignment("left")
