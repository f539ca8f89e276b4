"""
Two result documents side by side: what changed, row by row and measure by measure, and whether it is more than noise.

Only like is compared with like: the same command, and rows of the same scenario. A row that only one of them has is
said and never compared. Where the machines or the libraries differ, that is said first: it may be all of the change.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from proxy.lab.measures import Better, Measure, measures_of
from proxy.lab.results import BadResult, Environment, Result, Row
from proxy.lab.stats import Estimate, Verdict, median, ratio, verdict
from proxy.lab.words import labels

_ENVIRONMENT_WORDS = {
    "package": "mtls-sidecar",
    "python": "Python",
    "kernel": "the kernel",
    "machine": "the architecture",
    "cpu_model": "the CPU",
    "cpus": "the number of CPUs",
    "engine": "the engine",
    "openssl": "OpenSSL",
    "stdlib_openssl": "the OpenSSL of Python's ssl",
}
_BUILD_WORDS = {
    "python_optimised": "profile-guided optimisation of Python",
    "python_shared": "the shared library of Python",
}
_ANSWERS = {True: "yes", False: "no"}


@dataclass(frozen=True, slots=True)
class Change:
    """
    One measure of one row in both documents; None where a document has no figure.

    factor: after / before with its interval; None where there is no ratio, or none that rounds can vouch for
    fault:  why one of the rows is not whole
    """

    label: str
    measure: Measure
    row: Row
    before: Estimate | None
    after: Estimate | None
    factor: Estimate | None
    fault: str | None

    @property
    def verdict(self) -> Verdict:
        """What the factor says; too few where there is none."""
        return Verdict.TOO_FEW if self.factor is None else verdict(self.factor)

    @property
    def is_worse(self) -> bool:
        """Whether it changed for the worse by more than noise."""
        bad = Verdict.HIGHER if self.measure.better is Better.LOWER else Verdict.LOWER
        return self.verdict is bad

    @property
    def is_better(self) -> bool:
        """Whether it changed for the better by more than noise."""
        return self.verdict in (Verdict.HIGHER, Verdict.LOWER) and not self.is_worse


@dataclass(frozen=True, slots=True)
class Difference:
    """
    Both documents and what lies between them.

    rows:     (label, before, after) of every scenario that both have
    missing:  (label, row) of what only the first has; added: of what only the second has
    cautions: sentences on what else differs
    """

    before: Result
    after: Result
    rows: tuple[tuple[str, Row, Row], ...]
    missing: tuple[tuple[str, Row], ...]
    added: tuple[tuple[str, Row], ...]
    cautions: tuple[str, ...]

    def changes(self, measures: Iterable[Measure] | None = None) -> list[Change]:
        """Every change, measure by measure. measures: default, all that both have figures for."""
        wanted = self.measures() if measures is None else measures
        return [_change(measure, *row) for measure in wanted for row in self.rows]

    def measures(self) -> list[Measure]:
        """Those that both documents have figures for, in some row."""
        in_after = measures_of(after for _, _, after in self.rows)
        return [measure for measure in measures_of(before for _, before, _ in self.rows) if measure in in_after]


def difference(before: Result, after: Result) -> Difference:
    """
    Lay two documents side by side.

    Raises: BadResult where they have nothing to compare
    """
    if before.kind is not after.kind:
        raise BadResult(
            f"these two cannot be compared: the first is of `bench {before.kind}`, the second of `bench {after.kind}`"
        )
    old, new = ({row.scenario: row for row in result.rows} for result in (before, after))
    scenarios = [*old, *(scenario for scenario in new if scenario not in old)]
    named = dict(zip(scenarios, labels(scenarios), strict=True))
    rows = tuple((named[scenario], old[scenario], new[scenario]) for scenario in old if scenario in new)
    if not rows:
        raise BadResult(
            "these two cannot be compared: no scenario is in both of them. Run the same command twice: "
            f"{before.command}"
        )
    return Difference(
        before=before,
        after=after,
        rows=rows,
        missing=tuple((named[scenario], row) for scenario, row in old.items() if scenario not in new),
        added=tuple((named[scenario], row) for scenario, row in new.items() if scenario not in old),
        cautions=(*_environment_cautions(before.environment, after.environment), *_run_cautions(before, after)),
    )


def _change(measure: Measure, label: str, before: Row, after: Row) -> Change:
    # Extremes grow with the number of handshakes: no interval of theirs says that a change is real.
    fault = after.fault or before.fault
    judged = measure.over is median and fault is None
    return Change(
        label=label,
        measure=measure,
        row=after,
        before=measure.figure(before),
        after=measure.figure(after),
        factor=ratio(measure.values(after), measure.values(before)) if judged else None,
        fault=fault,
    )


def _environment_cautions(before: Environment, after: Environment) -> list[str]:
    old, new = (msgspec.structs.asdict(environment) for environment in (before, after))
    said = [
        f"{words[0].upper()}{words[1:]} differs: {old[field]} before, {new[field]} after."
        for field, words in _ENVIRONMENT_WORDS.items()
        if old[field] != new[field]
    ]
    return said + [
        f"{words[0].upper()}{words[1:]} differs: {_ANSWERS[old[field]]} before, {_ANSWERS[new[field]]} after."
        for field, words in _BUILD_WORDS.items()
        if {old[field], new[field]} == {True, False}  # what is unknown in one of them may be the same
    ]


def _run_cautions(before: Result, after: Result) -> list[str]:
    cautions = []
    if before.started_at > after.started_at:  # RFC 3339 in UTC sorts as time does
        cautions.append(
            f"The second file was measured earlier ({after.started_at}) than the first ({before.started_at}): "
            "the order is BEFORE, then AFTER."
        )
    if before.target != after.target:
        cautions.append(
            f"The target differs: {before.target or 'started here'} before, {after.target or 'started here'} after."
        )
    options = [*before.configuration, *(option for option in after.configuration if option not in before.configuration)]
    for option in options:
        old, new = before.configuration.get(option), after.configuration.get(option)
        if old != new:
            cautions.append(f"The option {option} differs: {old} before, {new} after.")
    return cautions
