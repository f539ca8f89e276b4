"""
Kinds of numbers, and true or false: durations, rates, caps, the number of workers.

A number is read from the text of the file, not from YAML's idea of it, so that `010`, `1_000` and `1:30`, which YAML
1.1 and 1.2 read differently, are faults instead of surprises. Every number is finite and bounded, because it ends up in
a timer or a queue that has bounds of its own.
"""

import re

from proxy.core.configkinds import ScalarKind, Wrong
from proxy.core.configyaml import Scalar, ScalarType, describe
from proxy.core.spiffe import quote

MAX_SECONDS = 315_360_000  # ten years: every clock and timer downstream holds it, and no operator means more
MAX_COUNT = 1_000_000_000
MAX_PORT = 65535

_INTEGER = re.compile(r"0|[1-9][0-9]*")
_NUMBER = re.compile(r"(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+")
_NEGATIVE = re.compile(r"-[0-9.]+")
_EXPONENT = re.compile(r"[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+")
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(ms|s|sec|m|min|h|d)")
_UNIT_SECONDS = {"ms": 0.001, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


def seconds_kind(*, most: int = MAX_SECONDS, zero: str = "0 turns it off") -> ScalarKind:
    """A duration in seconds, as a plain number."""
    words = f"a number of seconds from 0 to {most}" + (f" ({zero})" if zero else "")

    def parse(scalar: Scalar) -> float:
        duration = _DURATION.fullmatch(scalar.text)
        if duration and scalar.type is ScalarType.STRING:
            amount = float(duration[1]) * _UNIT_SECONDS[duration[2]]
            raise Wrong(f"expected {words}, got {quote(scalar.text)}; write seconds as a number: {amount:g}")
        return _parse_number(scalar, words, most)

    return ScalarKind(words, {"type": "number", "minimum": 0, "maximum": most}, parse)


def rate_kind() -> ScalarKind:
    """Events per second; fractions are allowed."""
    words = f"a number per second from 0 to {MAX_COUNT} (0 turns it off)"
    schema = {"type": "number", "minimum": 0, "maximum": MAX_COUNT}
    return ScalarKind(words, schema, lambda scalar: _parse_number(scalar, words, MAX_COUNT))


def count_kind() -> ScalarKind:
    """A cap: a whole number."""
    words = f"a whole number from 0 to {MAX_COUNT} (0 turns it off)"
    schema = {"type": "integer", "minimum": 0, "maximum": MAX_COUNT}
    return ScalarKind(words, schema, lambda scalar: _parse_integer(scalar, words, 0, MAX_COUNT))


def port_kind() -> ScalarKind:
    """A TCP port that can be dialled."""
    words = "a port from 1 to 65535"
    schema = {"type": "integer", "minimum": 1, "maximum": MAX_PORT}
    return ScalarKind(words, schema, lambda scalar: _parse_integer(scalar, words, 1, MAX_PORT))


def workers_kind(*, most: int) -> ScalarKind:
    """A number of processes, or `auto`, which is 0."""
    words = f"a whole number from 1 to {most}, or auto (one worker per usable core)"

    def parse(scalar: Scalar) -> int:
        if scalar.type is ScalarType.STRING and scalar.text == "auto":
            return 0
        return _parse_integer(scalar, words, 1, most)

    return ScalarKind(words, {"anyOf": [{"type": "integer", "minimum": 1, "maximum": most}, {"const": "auto"}]}, parse)


def boolean_kind() -> ScalarKind:
    """true or false, which every version of YAML reads alike; `yes`, `on` and their like are not."""
    words = "true or false"

    def parse(scalar: Scalar) -> bool:
        if scalar.type is ScalarType.BOOL and scalar.text.lower() in {"true", "false"}:
            return scalar.text.lower() == "true"
        word = scalar.text.lower()
        hint = "true" if word in {"yes", "on", "y", "1"} else "false" if word in {"no", "off", "n", "0"} else ""
        if word in {"true", "false"}:
            hint = f"{word}, without quotes"
        raise Wrong(f"expected {words}, got {quote(scalar.text)}" + (f"; write {hint}" if hint else ""))

    return ScalarKind(words, {"type": "boolean"}, parse)


def _parse_number(scalar: Scalar, words: str, most: int) -> float:
    _check_is_number(scalar, words)
    if not _NUMBER.fullmatch(scalar.text):
        raise Wrong(f"expected {words}, got {quote(scalar.text)}; write a plain decimal number")
    number = float(scalar.text)
    if number > most:
        raise Wrong(f"expected {words}, got {quote(scalar.text)}")
    return number


def _parse_integer(scalar: Scalar, words: str, least: int, most: int) -> int:
    _check_is_number(scalar, words)
    if not _INTEGER.fullmatch(scalar.text):
        raise Wrong(f"expected {words}, got {quote(scalar.text)}; write plain decimal digits")
    # Counted before converted: Python refuses to convert thousands of digits with an error of its own.
    if len(scalar.text) > len(str(most)) or not least <= int(scalar.text) <= most:
        raise Wrong(f"expected {words}, got {quote(scalar.text)}")
    return int(scalar.text)


def _check_is_number(scalar: Scalar, words: str) -> None:
    if scalar.type in (ScalarType.INT, ScalarType.FLOAT):
        if _NEGATIVE.fullmatch(scalar.text):
            raise Wrong(f"expected {words}, got {quote(scalar.text)}; it cannot be negative")
        return
    hint = ""
    if scalar.type is ScalarType.STRING and _NUMBER.fullmatch(scalar.text):
        hint = "; remove the quotes"
    elif _EXPONENT.fullmatch(scalar.text):  # a number to YAML 1.2, text to YAML 1.1
        hint = "; write it out, without an exponent"
    raise Wrong(f"expected {words}, got {describe(scalar)}{hint}")
