"""
The knee: the highest rate of arrivals at which a server still keeps its promise. Pure: the measuring is an argument.

The rate is doubled until the promise breaks, then the step between is halved on a logarithmic scale until it is narrow.
A broken promise is tried once more, for one hiccup of a shared machine is no knee. Rates are those of an open loop, so
a server beyond its knee builds up a queue, and the latencies show it.
"""

import math
import re
from collections.abc import Callable
from typing import NamedTuple

from proxy.lab.generator import Measured

NARROW = 1.05  # the answer is within 5 % of the knee
MOST_STEPS = 24
MOST_RATE = 1_000_000.0
MOST_FAILURES = 0.001  # of all arrivals; more is a promise broken, however quick the rest was

_SLO = re.compile(r"(p[5-9][0-9](?:\.[0-9]{1,2})?|max)=([0-9]+(?:\.[0-9]+)?)(us|ms|s)")
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


class SloFault(ValueError):  # noqa: N818  # a fault of what was typed
    """The promise cannot be read; str() is a sentence that says what to write."""


class Slo(NamedTuple):
    """A promise about latency. text: as it was typed; percent: 100 for max."""

    text: str
    percent: float
    limit_s: float


class Knee(NamedTuple):
    """
    rate:     the highest that kept the promise; None: not even the first did
    steps:    every rate that was tried, with whether it kept the promise, in order
    limited:  whether the client set the pace at the rate that broke it, so that the server may well do more
    """

    rate: float | None
    steps: tuple[tuple[float, bool], ...]
    limited: bool


def parse_slo(text: str) -> Slo:
    """Read "p99=20ms" (p50 to p99.99, or max; us, ms or s). Raises: SloFault"""
    match = _SLO.fullmatch(text)
    if match is None or float(match[2]) <= 0:
        raise SloFault(f"{text!r} is no promise: write e.g. p99=20ms, p99.9=0.1s or max=500ms")
    return Slo(text, 100.0 if match[1] == "max" else float(match[1][1:]), float(match[2]) * _UNITS[match[3]])


def keeps(measured: Measured, slo: Slo) -> bool:
    """Whether a measurement kept the promise: its percentile, nearly no failure, and every arrival begun."""
    failed = sum(measured.failures.values()) + measured.not_resumed
    value = measured.latencies.percentile(slo.percent)
    if value is None or measured.shortage is not None:
        return False
    return failed <= MOST_FAILURES * (failed + measured.count) and value <= slo.limit_s


def find_max(measure: Callable[[float], Measured], slo: Slo, *, first: float = 50.0) -> Knee:
    """
    Search for the knee.

    measure: a rate in arrivals a second to what came of it
    first:   the rate to begin with; where it breaks the promise, lower ones are tried
    """
    steps: list[tuple[float, bool]] = []
    good, bad, limited = 0.0, math.inf, False
    rate = first
    while len(steps) < MOST_STEPS and bad > good * NARROW and 1.0 <= rate <= MOST_RATE:
        measured = measure(rate)
        if not (kept := keeps(measured, slo)):
            measured = measure(rate)
            kept = keeps(measured, slo)
        steps.append((rate, kept))
        if kept:
            good = rate
        else:
            bad, limited = rate, measured.client_limited
        rate = _next(good, bad)
    return Knee(good or None, tuple(steps), limited)


def _next(good: float, bad: float) -> float:
    if math.isinf(bad):
        return good * 2
    return math.sqrt(good * bad) if good else bad / 2
