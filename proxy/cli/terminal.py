"""Colour for people: only on a terminal, and never where NO_COLOR says so (no-color.org). Nothing depends on it."""

import os
from enum import Enum
from typing import TextIO


class Colour(Enum):
    """What a word means, as an SGR parameter."""

    GOOD = "32"
    WARNING = "33"
    BAD = "31"
    STRONG = "1"


def paint(text: str, colour: Colour, stream: TextIO) -> str:
    """Wrap text in a colour if `stream` is a terminal that wants one."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty():
        return text
    return f"\x1b[{colour.value}m{text}\x1b[0m"
