"""
`mtls-sidecar bench report`: what a result says, on a terminal, as one page that works offline, as Markdown for a pull
request, as plots; two results as a comparison; and as a gate in a pipeline.
"""

import argparse
import sys
from pathlib import Path

import msgspec

from proxy.cli.terminal import Colour, columns, paint
from proxy.lab.difference import Difference, difference
from proxy.lab.gate import BadGate, Finding, Gate, judge, parse
from proxy.lab.measures import MEASURES
from proxy.lab.report import Report, report
from proxy.lab.results import BadResult, Result, Row, read
from proxy.lab.stats import Estimate
from proxy.lab.words import labels
from proxy.ops.printable import printable

PROGRAM = "mtls-sidecar bench report"

_EXAMPLES = f"""\
One file is reported; two, BEFORE and AFTER, are compared, and a change is told from noise by the rounds of both.

examples:
  mtls-sidecar bench handshake --json result.json
  mtls-sidecar bench report result.json
  mtls-sidecar bench report result.json --html report.html --plots plots/
  mtls-sidecar bench report before.json after.json --markdown >> "$GITHUB_STEP_SUMMARY"

as a gate: the exit status is 1 when one of them says so, or when what it asks for was not measured
  mtls-sidecar bench report before.json after.json --fail-if 'cpu_per_handshake > +10%'
  mtls-sidecar bench report result.json --fail-if 'p99[version=1.3] > 20ms' --fail-if 'failure_share > 0.1%'

measures:
  {"  ".join(measure.key for measure in MEASURES[:6])}
  {"  ".join(measure.key for measure in MEASURES[6:12])}
  {"  ".join(measure.key for measure in MEASURES[12:])}
"""


class _Told(Exception):  # noqa: N818  # a sentence on its way to stderr
    """What keeps the report from being made. status: of the exit."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = _EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("result", metavar="RESULT.json", help="what `bench ... --json` or `bench merge` wrote")
    parser.add_argument("other", nargs="?", metavar="AFTER.json", help="a later result: RESULT.json is the one before")
    parser.add_argument("--html", metavar="FILE", help="write one self-contained page; - prints it, and nothing else")
    parser.add_argument("--plots", metavar="DIR", help="write each figure as PNG and SVG")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--markdown", action="store_true", help="print Markdown for a pull request")
    shape.add_argument("--json", action="store_true", help="print figures, changes and gates as JSON")
    parser.add_argument(
        "--fail-if",
        action="append",
        default=[],
        metavar="'MEASURE > LIMIT'",
        help="exit 1 when it is so: +10%% is a change, 20ms a figure; may be repeated",
    )


def run(args: argparse.Namespace) -> int:
    """Report; returns 0, 1 when a gate fails or a file cannot be written, 2 for bad files and bad gates."""
    try:
        made, result, compared = _make(args)
        _write(args, made)
    except _Told as told:
        print(f"{PROGRAM}: {printable(str(told))}", file=sys.stderr)
        return told.status
    _print(args, made, result, compared)
    return 1 if made.fails else 0


def _make(args: argparse.Namespace) -> tuple[Report, Result, Difference | None]:
    try:
        gates = [parse(text) for text in args.fail_if]
        first = read(args.result)
        compared = difference(first, read(args.other)) if args.other else None
        result = compared.after if compared else first
        findings = [finding for gate in gates for finding in judge(gate, result, compared)]
    except (BadGate, BadResult) as refusal:
        raise _Told(str(refusal), 2) from refusal
    return report(result, compared, findings), result, compared


def _write(args: argparse.Namespace, made: Report) -> None:
    """Write the page and the plots; what draws is imported only now, for it takes its time."""
    try:
        if args.html and args.html != "-":
            from proxy.lab.reporthtml import html

            Path(args.html).write_text(html(made), encoding="utf-8")
            print(f"{PROGRAM}: wrote {printable(args.html)}", file=sys.stderr)
        if args.plots:
            from proxy.lab.plots import save

            folder = Path(args.plots)
            folder.mkdir(parents=True, exist_ok=True)
            count = sum(len(save(figure, folder)) for figure in made.figures)
            print(f"{PROGRAM}: wrote {count} files to {printable(args.plots)}", file=sys.stderr)
    except OSError as error:
        raise _Told(f"{error.filename or args.html or args.plots} cannot be written: {error.strerror}", 1) from error


def _print(args: argparse.Namespace, made: Report, result: Result, compared: Difference | None) -> None:
    from proxy.lab.reporttext import markdown, text

    if args.html == "-":
        from proxy.lab.reporthtml import html

        print(html(made))
    elif args.json:
        print(msgspec.json.format(msgspec.json.encode(_document(made, result, compared))).decode())
    elif args.markdown:
        print(markdown(made), end="")
    else:
        print(text(made, printable, columns(sys.stdout)), end="")
        if made.verdict:
            print(f"\n{paint(made.verdict, Colour.BAD if made.fails else Colour.GOOD, sys.stdout)}")


def _document(made: Report, result: Result, compared: Difference | None) -> dict[str, object]:
    """The report for a program: the sentences, the figures in base units, and what the gates found."""
    return {
        "title": made.title,
        "summary": made.summary,
        "changed": made.changed,
        "cautions": made.cautions,
        "rows": [
            {"row": label, "scenario": row.scenario, "fault": row.fault, "measures": _figures(row)}
            for label, row in zip(labels([row.scenario for row in result.rows]), result.rows, strict=True)
        ],
        "changes": [
            {
                "row": one.label,
                "measure": one.measure.key,
                "unit": one.measure.unit.value,
                "before": one.before,
                "after": one.after,
                "factor": one.factor,
                "verdict": one.verdict.value,
            }
            for one in (compared.changes() if compared else ())
        ],
        "gates": [_gate_document(finding.gate, finding) for finding in made.findings],
        "fails": made.fails,
    }


def _figures(row: Row) -> dict[str, Estimate]:
    return {measure.key: figure for measure in MEASURES if (figure := measure.figure(row)) is not None}


def _gate_document(gate: Gate, finding: Finding) -> dict[str, object]:
    return {"gate": gate.text, "outcome": finding.outcome.value, "fails": finding.fails, "sentence": finding.sentence}
