"""What a run found, as tables for people and as one JSON object for machines. Pure: values in, text out."""

import os
import platform
import ssl
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from tabulate import tabulate

from bench.measures import MEASURES, MEMORY_TITLES, SLACK, Measure, Target, Verdict, judge, medians, spread
from proxy.lab.pythonbuild import python_build

Numbers = Mapping[str, Mapping[str, list[float]]]
Failures = Mapping[tuple[str, str], str]
Bounds = Mapping[str, tuple[Target, ...]]


def ratio(figures: Mapping[str, float], side: str, yardstick: str) -> str:
    """side / yardstick as "1.17x", or nothing where one is missing."""
    if side not in figures or not figures.get(yardstick):
        return ""
    return f"{figures[side] / figures[yardstick]:.2f}x"


def figure(figures: Mapping[str, float], side: str) -> str:
    """Three significant digits are more than the noise leaves; a missing figure is empty."""
    if side not in figures:
        return ""
    value = figures[side]
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def bounds_text(bounds: Iterable[Target]) -> str:
    """All bounds of a row."""
    return ", ".join(map(str, bounds))


def inbound_table(numbers: Numbers, bounds: Bounds) -> str:
    """The inbound path: the product beside both yardsticks."""
    rows = []
    for measure in MEASURES:
        rounds = numbers.get(measure.key, {})
        figures, wanted = medians(rounds), bounds.get(measure.key, ())
        row = [measure.title, measure.unit, *(figure(figures, side) for side in ("bare", "ordinary", "product"))]
        row += [ratio(figures, "product", "bare"), ratio(figures, "product", "ordinary")]
        row += [f"{spread(rounds.get('product', [])):.0%}" if "product" in figures else ""]
        rows.append([*row, bounds_text(wanted), judge(wanted, figures, "product").value])
        if "bare_no_tickets" in figures:
            plain = ["... without tickets", measure.unit, figure(figures, "bare_no_tickets"), "", ""]
            rows.append([*plain, ratio(figures, "product", "bare_no_tickets"), "", "", "", ""])
    headers = ["inbound, server CPU", "unit", "bare", "ordinary", "product", "/bare", "/ordinary", "±", "target", ""]
    return tabulate(rows, headers, disable_numparse=True, colalign=["left", "left", *["right"] * 6, "left", "left"])


def other_paths_table(numbers: Numbers) -> str:
    """The outbound path, and two sidecars in a row; the bare engine (inbound) is there for scale only."""
    rows = []
    for measure in MEASURES:
        figures = medians(numbers.get(measure.key, {}))
        sides = [figure(figures, side) for side in ("bare", "outbound", "chain")]
        rows.append(
            [measure.title, measure.unit, *sides, ratio(figures, "outbound", "bare"), ratio(figures, "chain", "bare")]
        )
    headers = ["other paths, proxy CPU", "unit", "bare", "outbound", "two in a row", "outbound/bare", "two/bare"]
    return tabulate(rows, headers, disable_numparse=True, colalign=["left", "left", *["right"] * 5])


def memory_table(numbers: Numbers, bounds: Bounds) -> str:
    """Start and memory of each side, measured alone."""
    rows = []
    for key, title in MEMORY_TITLES.items():
        figures, wanted = medians(numbers.get(key, {})), bounds.get(key, ())
        sides = [figure(figures, side) for side in ("bare", "ordinary", "product")]
        rows.append([title, *sides, bounds_text(wanted), judge(wanted, figures, "product").value])
    headers = ["start and memory", "bare", "ordinary", "product", "target", ""]
    return tabulate(rows, headers, disable_numparse=True, colalign=["left", *["right"] * 3, "left", "left"])


def failures_text(failures: Failures) -> str:
    """One line for each row that could not be measured."""
    return "\n".join(f"not measured: {measure}, {side}: {sentence}" for (measure, side), sentence in failures.items())


def missed(numbers: Numbers, bounds: Bounds, failures: Failures) -> list[str]:
    """What --check fails on: a target missed by more than the slack, and whatever could not be judged at all."""
    faults = [f"{measure} of {side} was not measured" for measure, side in failures]
    for key, wanted in bounds.items():
        verdict = judge(wanted, medians(numbers.get(key, {})), "product", SLACK)
        if verdict is not Verdict.PASS:
            faults.append(f"{key}: {'missed by more than 15 %' if verdict is Verdict.MISS else 'no figure'}")
    return faults


def cpu_model() -> str:
    """As the kernel names it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def machine() -> dict[str, Any]:
    """Where the numbers were taken; without it no two runs can be compared."""
    return {
        "openssl": {"pyopenssl": SSL.OpenSSL_version(SSL.OPENSSL_VERSION).decode(), "stdlib": ssl.OPENSSL_VERSION},
        "python": platform.python_version(),
        "python_build": python_build()._asdict(),
        "kernel": platform.release(),
        "cpu": cpu_model(),
        "usable_cores": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg(),
    }


def document(numbers: Numbers, failures: Failures, bounds: Bounds, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON of a run: every round's number, so that others can compute what we did not."""
    units: dict[str, Measure] = {measure.key: measure for measure in MEASURES}
    return {
        **facts,
        "rows": [
            {
                "measure": key,
                "title": units[key].title if key in units else MEMORY_TITLES.get(key, key),
                "unit": units[key].unit if key in units else None,
                "rounds": {side: list(values) for side, values in rounds.items()},
                "medians": medians(rounds),
                "targets": [str(bound) for bound in bounds.get(key, ())],
                "verdict": judge(bounds.get(key, ()), medians(rounds), "product").value,
            }
            for key, rounds in numbers.items()
        ],
        "not_measured": [{"measure": measure, "side": side, "why": why} for (measure, side), why in failures.items()],
    }
