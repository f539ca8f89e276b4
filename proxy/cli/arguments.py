"""Types of command-line arguments that several commands share; each raises argparse's own error with a sentence."""

import argparse
import re

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_PART = re.compile(r"([0-9]{1,9})([smhdw])")
MAX_DURATION_S = 100 * 365 * 86400  # a century: the year in a certificate has four digits


def duration_s(text: str) -> int:
    """Parse "3600" (seconds), "30m", "1h30m", "7d" or "2w" into seconds, 1 to a century."""
    if re.fullmatch(r"[0-9]{1,12}", text):
        seconds = int(text)
    elif text and _PART.sub("", text) == "":
        seconds = sum(int(count) * _UNITS[unit] for count, unit in _PART.findall(text))
    else:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration: write seconds, or 30m, 1h30m, 7d, 2w")
    if not 1 <= seconds <= MAX_DURATION_S:
        raise argparse.ArgumentTypeError(f"{text!r} is out of range: 1 s to 100 years")
    return seconds
