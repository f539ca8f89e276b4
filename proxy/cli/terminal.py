"""
How wide a terminal is; and colour for people: only on a terminal, and never where NO_COLOR says so (no-color.org).
Nothing depends on it.
"""

import shutil
from enum import Enum
from typing import TextIO

from proxy.ops.printable import wants_colour


class Colour(Enum):
    """What a word means, as an SGR parameter."""

    GOOD = "32"
    WARNING = "33"
    BAD = "31"
    STRONG = "1"


def paint(text: str, colour: Colour, stream: TextIO) -> str:
    """Wrap text in a colour if `stream` is a terminal that wants one."""
    return f"\x1b[{colour.value}m{text}\x1b[0m" if wants_colour(stream) else text


def columns(stream: TextIO) -> int | None:
    """How wide the terminal is that `stream` is; None where it is none, and lines may be as long as they are."""
    return shutil.get_terminal_size().columns if stream.isatty() else None
