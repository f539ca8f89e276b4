"""
A report as data: what a page, a Markdown comment and a terminal show, in this order. Who renders it decides nothing.

    verdict of the gates -> summary in sentences -> what changed -> figures -> every number -> how to have it again
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from proxy.lab.difference import Difference
from proxy.lab.figure import Figure
from proxy.lab.figures import figures
from proxy.lab.gate import Finding, Outcome
from proxy.lab.measures import Measure, measures_of
from proxy.lab.results import Environment, Kind, Result, Row, Workload
from proxy.lab.stats import Verdict
from proxy.lab.summary import comparison, summary
from proxy.lab.words import UNKNOWN, amount, change, labels, python_words, shared, spread

_TITLES = {
    Kind.HANDSHAKE: "What a TLS handshake costs",
    Kind.RELAY: "What relaying costs",
    Kind.COMPARE: "Proxies side by side",
}
_TABLES = {
    Workload.HANDSHAKE: "Handshakes",
    Workload.REQUEST: "Requests and responses",
    Workload.UPLOAD: "Bulk from client to server",
    Workload.DOWNLOAD: "Bulk from server to client",
    Workload.IDLE: "Idle connections",
}


class Tone(StrEnum):
    """What a cell means, beside its words: never colour alone."""

    PLAIN = ""
    GOOD = "good"
    BAD = "bad"
    MUTED = "muted"


@dataclass(frozen=True, slots=True)
class Cell:
    """A figure, and beside it an interval or a change."""

    text: str
    note: str = ""
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True)
class Table:
    """caption: what all rows have in common; rows: a label and its cells, one for each header."""

    title: str
    caption: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that is shown. facts: (name, value) of what a repetition needs."""

    title: str
    subtitle: str
    findings: tuple[Finding, ...]
    changed: tuple[str, ...]
    cautions: tuple[str, ...]
    summary: tuple[str, ...]
    changes: Table | None
    tables: tuple[Table, ...]
    facts: tuple[tuple[str, str], ...]
    command: str
    figures: tuple[Figure, ...] = field(repr=False)

    @property
    def fails(self) -> bool:
        """Whether a gate does."""
        return any(finding.fails for finding in self.findings)

    @property
    def verdict(self) -> str:
        """What the gates say, in a heading; empty where there is none."""
        if not self.findings:
            return ""
        return "The gate fails" if self.fails else "The gate passes"

    @property
    def gates(self) -> tuple[tuple[str, tuple[Finding, ...]], ...]:
        """A sentence for each gate, and the findings that are worth a line: what failed, or what noise let through."""
        by_gate: dict[str, list[Finding]] = {}
        for finding in self.findings:
            by_gate.setdefault(finding.gate.text, []).append(finding)
        return tuple(
            (
                f"{text}: fails in {sum(one.fails for one in found)} of {len(found)} rows",
                tuple(one for one in found if one.outcome is not Outcome.PASSED),
            )
            for text, found in by_gate.items()
        )


def report(result: Result, difference: Difference | None = None, findings: Sequence[Finding] = ()) -> Report:
    """
    Put a report together.

    result:     what is reported; with a difference, the second document
    difference: against an earlier one
    """
    return Report(
        title=_TITLES[result.kind] + (": before and after" if difference else ""),
        subtitle=_subtitle(result, difference),
        findings=tuple(findings),
        changed=tuple(comparison(difference)) if difference else (),
        cautions=difference.cautions if difference else (),
        summary=tuple(summary(result)),
        changes=_changes(difference) if difference else None,
        tables=tuple(_tables(result)),
        facts=tuple(_facts(result)),
        command=result.command,
        figures=tuple(figures(result, difference)),
    )


def _subtitle(result: Result, difference: Difference | None) -> str:
    where = f"{result.environment.cpu_model}, {result.environment.openssl}"
    if difference is None:
        return f"{result.started_at}, {where}"
    return f"{difference.before.started_at} against {result.started_at}, {where}"


def _tables(result: Result) -> Iterable[Table]:
    for workload in Workload:
        rows = [row for row in result.rows if row.scenario.workload is workload]
        if not rows:
            continue
        measures = measures_of(rows)
        yield Table(
            title=_TABLES[workload],
            caption=shared(rows),
            headers=tuple(measure.title for measure in measures),
            rows=tuple(
                (_label(label, row), tuple(_cell(measure, row) for measure in measures))
                for label, row in zip(labels([row.scenario for row in rows]), rows, strict=True)
            ),
        )


def _label(label: str, row: Row) -> str:
    return f"{label} (not whole)" if row.fault else label


def _cell(measure: Measure, row: Row) -> Cell:
    figure = measure.figure(row)
    if figure is None:
        return Cell(UNKNOWN, tone=Tone.MUTED)
    tone = Tone.BAD if measure.key == "failure_share" and figure.value else Tone.PLAIN
    return Cell(amount(figure.value, measure.unit), spread(figure), tone)


def _changes(difference: Difference) -> Table:
    """The second document's figures with their change; a measure that no row has is left out."""
    every = [one for one in difference.changes() if one.measure.key != "max"]
    moved = {one.measure.key for one in every if one.before != one.after}
    measures = [measure for measure in difference.measures() if measure.key in moved]
    rows = []
    for label, before, after in difference.rows:
        of_row = {one.measure.key: one for one in every if one.row is after}
        cells = []
        for measure in measures:
            one = of_row[measure.key]
            if one.before is None or one.after is None:
                cells.append(Cell(UNKNOWN, tone=Tone.MUTED))
                continue
            tone = Tone.BAD if one.is_worse else Tone.GOOD if one.is_better else Tone.MUTED
            mark = {Tone.BAD: "worse", Tone.GOOD: "better"}.get(tone, "noise" if one.verdict is Verdict.NOISE else "?")
            figure = amount(one.after.value, measure.unit)
            if one.before.value == one.after.value:
                cells.append(Cell(figure, "same", Tone.MUTED))
            elif one.factor is None:
                cells.append(Cell(figure, f"was {amount(one.before.value, measure.unit)}"))
            else:
                cells.append(Cell(figure, f"{change(one.factor.value)} {mark}", tone))
        rows.append((_label(label, after if after.fault else before), tuple(cells)))
    return Table(
        title="What changed",
        caption="the figures after, and the change against before: worse or better where it is more than noise, "
        "? where too few rounds can tell; what is the same in every row is left out",
        headers=tuple(measure.title for measure in measures),
        rows=tuple(rows),
    )


def _facts(result: Result) -> Iterable[tuple[str, str]]:
    yield from _environment(result.environment)
    if result.target:
        yield "target", result.target
    yield from result.sides.items()
    for kind in result.certificates:
        length = f"chain of {kind.chain_length}, {kind.chain_bytes:,} bytes"
        yield f"{kind.whose} certificate", f"{kind.key}, {kind.signature}, {length}"
    negotiated = {row.negotiated_group for row in result.rows if row.negotiated_group}
    if negotiated:
        yield "negotiated groups", ", ".join(sorted(negotiated))
    ciphers = {row.negotiated_cipher for row in result.rows if row.negotiated_cipher}
    if ciphers:
        yield "negotiated ciphers", ", ".join(sorted(ciphers))
    yield "seed", str(result.seed)
    for option, value in result.configuration.items():
        yield f"option {option}", ", ".join(value) if isinstance(value, list) else str(value)
    if result.merged_from:
        models = sorted({source.environment.cpu_model for source in result.merged_from})
        starts = sorted(source.started_at for source in result.merged_from)
        yield "generators", f"{len(result.merged_from)}, started {starts[0]} to {starts[-1]}, on {'; '.join(models)}"


def _environment(environment: Environment) -> Iterable[tuple[str, str]]:
    yield "machine", f"{environment.cpu_model}, {environment.cpus} CPUs, {environment.machine}"
    yield "kernel", environment.kernel
    yield "mtls-sidecar", f"{environment.package}, engine {environment.engine}, {environment.openssl}"
    yield "Python", f"{environment.python}, {environment.stdlib_openssl}"
    yield "Python's build", python_words(environment)
    yield "load average at the start", f"{environment.load_average:g}"
