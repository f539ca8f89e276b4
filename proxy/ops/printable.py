"""
Text that a peer chose, made safe for a terminal; and whether a terminal is to have colour.

A server name, a detail or a path may hold newlines (a forged log line), escape sequences (a forged screen) or
direction overrides (a name that reads as another). Everything that is not printable becomes its Python escape; what is
printable stays as it is, so that an ordinary value costs one look.
"""

import json
import os
from typing import Protocol


class Stream(Protocol):
    """What may be a terminal."""

    def isatty(self) -> bool:
        """Whether it is one."""
        ...


def wants_colour(stream: Stream) -> bool:
    """Whether it is a terminal whose owner wants colour (no-color.org)."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and stream.isatty()


def printable(text: str) -> str:
    """Give `text` as one line without controls: a newline becomes the two characters `\\` and `n`."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )


def printable_json(text: bytes) -> bytes:
    """Escape what JSON may hold bare and a terminal obeys all the same: DEL, the C1 controls, direction overrides."""
    if text.isascii() and b"\x7f" not in text:
        return text  # nearly always, and then this costs nothing
    lines = text.decode().split("\n")
    return "\n".join(line if line.isprintable() else _escape_in_json(line) for line in lines).encode()


def _escape_in_json(text: str) -> str:
    # json.dumps takes DEL for printable, since it is ASCII and no C0 control.
    escapes = {letter: json.dumps(letter)[1:-1] for letter in text if not letter.isprintable()} | {"\x7f": "\\u007f"}
    return "".join(escapes.get(letter, letter) for letter in text)
