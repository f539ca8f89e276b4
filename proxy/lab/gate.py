"""
The expressions of `bench report --fail-if`: when a result is not good enough for a pipeline to go on.

    MEASURE [FIELD=VALUE, ...] OPERATOR LIMIT

    cpu_per_handshake > +10%              a change: 10 % more than in the file before, and more than noise
    handshakes_per_s < -5%                a change: 5 % less
    p99 > +2ms                            a change by an amount
    p99[version=1.3, mode=full] > 20ms    a figure: more than 20 ms in those rows
    failure_share > 0.1%                  a figure

A sign means a change against the first of two files; without one the figure itself is meant. A gate fails closed: what
was not measured, or is in one of the files only, fails it. Noise opens it: a change beyond the limit that the rounds
cannot tell from noise passes, and is said. With too few rounds to know, the change alone decides.

The grammar has no parentheses, no `and`, no arithmetic: several gates are several options.
"""

import math
import re
from dataclasses import dataclass
from enum import StrEnum

from proxy.lab.difference import Change, Difference
from proxy.lab.measures import BY_KEY, Measure, Unit
from proxy.lab.results import Result, Row, Scenario
from proxy.lab.stats import Verdict
from proxy.lab.words import amount, labels, number

LONGEST = 200  # characters of an expression

_SHAPE = re.compile(
    r"""\s*(?P<measure>[A-Za-z0-9_]+)
        \s*(?:\[(?P<filters>[^\[\]]*)\])?
        \s*(?P<operator>[<>]=?)
        \s*(?P<sign>[+-]?)\s*(?P<number>\d{1,12}(?:\.\d{1,9})?)
        \s*(?P<unit>[A-Za-zµ%/]{0,5})\s*""",
    re.VERBOSE | re.ASCII,
)
_UNITS: dict[Unit, dict[str, float]] = {
    Unit.SECONDS: {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6},
    Unit.PER_SECOND: {"/s": 1.0, "": 1.0},
    Unit.BYTES: {"B": 1.0, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30},
    Unit.BYTES_PER_SECOND: {"kB/s": 1e3, "MB/s": 1e6, "GB/s": 1e9},
    Unit.SHARE: {"%": 0.01},
    Unit.NUMBER: {"": 1.0},
}
_FIELDS = ("side", "workload", "security", "version", "key", "mode", "group", "cipher")


class Limit(StrEnum):
    """What the limit of a gate is a limit of."""

    FIGURE = "figure"
    AMOUNT = "change by an amount"
    FACTOR = "change in percent"


class Outcome(StrEnum):
    """What a gate says of one row."""

    PASSED = "passed"
    NOISE = "passed: within noise"
    FAILED = "failed"
    UNKNOWN = "failed: not measured"


@dataclass(frozen=True, slots=True)
class Gate:
    """One expression, read. value: in the measure's unit, or a factor's distance from 1; filters: field and value."""

    text: str
    measure: Measure
    filters: tuple[tuple[str, str], ...]
    operator: str
    limit: Limit
    value: float

    def applies(self, scenario: Scenario) -> bool:
        """Whether a row of this scenario is judged."""
        return all(str(getattr(scenario, field)).lower() == value.lower() for field, value in self.filters)

    def is_beyond(self, value: float) -> bool:
        """Whether a figure, or a change of one, is what the gate is to fail on."""
        if self.operator.startswith(">"):
            return value >= self.value if self.operator == ">=" else value > self.value
        return value <= self.value if self.operator == "<=" else value < self.value


@dataclass(frozen=True, slots=True)
class Finding:
    """What a gate found; sentence: for a person, about one row."""

    gate: Gate
    outcome: Outcome
    sentence: str

    @property
    def fails(self) -> bool:
        """Whether the pipeline has to stop."""
        return self.outcome in (Outcome.FAILED, Outcome.UNKNOWN)


class BadGate(Exception):  # noqa: N818  # the operator's words, not an error of ours
    """An expression is none; str() is a sentence that says what would be one."""


def parse(text: str) -> Gate:
    """
    Read an expression.

    Raises: BadGate
    """
    match = _SHAPE.fullmatch(text) if len(text) <= LONGEST else None
    if match is None:
        raise BadGate(
            f"{text[:LONGEST]!r} is no gate: write a measure, < or >, and a limit, "
            "such as 'cpu_per_handshake > +10%' or 'p99 > 20ms'"
        )
    measure = BY_KEY.get(match["measure"])
    if measure is None:
        raise BadGate(f"{match['measure']!r} is no measure; these are: {', '.join(BY_KEY)}")
    limit, factor = _limit(measure, match["sign"], match["unit"], text)
    value = float(match["number"]) * factor * (-1 if match["sign"] == "-" else 1)
    return Gate(text.strip(), measure, _filters(match["filters"] or ""), match["operator"], limit, value)


def judge(gate: Gate, result: Result, difference: Difference | None) -> list[Finding]:
    """
    Judge every row that the gate applies to.

    result:     whose figures count; with a difference, the second document
    difference: what a change is judged by; None where there is one document only
    Raises:     BadGate where a change is asked for and nothing to compare with is given
    """
    if gate.limit is Limit.FIGURE:
        named = zip(labels([row.scenario for row in result.rows]), result.rows, strict=True)
        findings = [_judge_figure(gate, label, row) for label, row in named if _concerns(gate, row.scenario)]
    elif difference is None:
        raise BadGate(f"{gate.text!r} asks for a change: give two files, the one before and the one after")
    else:
        changes = difference.changes([gate.measure])
        findings = [_judge_change(gate, change) for change in changes if _concerns(gate, change.row.scenario)]
        findings += [
            Finding(gate, Outcome.UNKNOWN, f"{label}: the second file does not have this row")
            for label, row in difference.missing
            if _concerns(gate, row.scenario)
        ]
    return findings or [Finding(gate, Outcome.UNKNOWN, "no row has this measure")]


def _concerns(gate: Gate, scenario: Scenario) -> bool:
    return scenario.workload in gate.measure.workloads and gate.applies(scenario)


def _judge_figure(gate: Gate, label: str, row: Row) -> Finding:
    figure = gate.measure.figure(row)
    if figure is None or row.fault is not None:
        return Finding(gate, Outcome.UNKNOWN, f"{label}: {row.fault or 'not measured'}")
    outcome = Outcome.FAILED if gate.is_beyond(figure.value) else Outcome.PASSED
    return Finding(gate, outcome, f"{label}: {amount(figure.value, gate.measure.unit)}")


def _judge_change(gate: Gate, change: Change) -> Finding:
    before, after = change.before, change.after
    if before is None or after is None or change.fault is not None:
        fault = change.fault or f"not measured {'before' if before is None else 'after'}"
        return Finding(gate, Outcome.UNKNOWN, f"{change.label}: {fault}")
    moved = after.value - before.value
    if gate.limit is Limit.FACTOR:
        moved = moved / before.value if before.value else math.copysign(math.inf, moved) if moved else 0.0
    words = f"{amount(before.value, gate.measure.unit)} before, {amount(after.value, gate.measure.unit)} after"
    if before.value and gate.limit is Limit.FACTOR:
        words += f" ({number(abs(moved) * 100)} % {'more' if moved >= 0 else 'less'})"
    if not gate.is_beyond(moved):
        outcome = Outcome.PASSED
    else:
        outcome = Outcome.NOISE if change.verdict is Verdict.NOISE else Outcome.FAILED
    return Finding(gate, outcome, f"{change.label}: {words}")


def _limit(measure: Measure, sign: str, unit: str, text: str) -> tuple[Limit, float]:
    """What is limited, and the factor from the number as it was written."""
    if unit == "%" and measure.unit is not Unit.SHARE:
        if not sign:
            raise BadGate(f"{text!r}: a percentage is of a change, so it needs a sign: +10% or -10%")
        return Limit.FACTOR, 0.01
    units = _UNITS[measure.unit]
    if unit not in units:
        known = ", ".join(name for name in units if name) or "a bare number"
        raise BadGate(f"{text!r}: {measure.key} is in {known}; or write a change, with its sign, in %")
    return (Limit.AMOUNT if sign else Limit.FIGURE), units[unit]


def _filters(text: str) -> tuple[tuple[str, str], ...]:
    filters = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        field, equals, value = (piece.strip() for piece in part.partition("="))
        if field not in _FIELDS or not equals or not value:
            raise BadGate(f"[{text}] chooses no rows: write [FIELD=VALUE, ...] with the fields {', '.join(_FIELDS)}")
        filters.append((field, value))
    return tuple(filters)
