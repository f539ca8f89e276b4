"""
`mtls-sidecar inject`: Kubernetes YAML in, the same YAML with the sidecar in every workload out.

The stream goes to stdout whole or not at all, so that `| kubectl apply -f -` never applies half of it; every reason
against it goes to stderr at once. What injection does is pod/injection.py's, how the stream survives is
pod/yamlstream.py's.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from proxy.cli.terminal import Colour, paint
from proxy.ops.boundedread import read_bounded
from proxy.ops.printable import printable
from proxy.pod.refusal import Refused
from proxy.pod.settings import PREFIX, TABLE, Row, Settings

EXIT_GOOD = 0
EXIT_REFUSED = 2
STDIN = "-"
PROGRAM = "mtls-sidecar inject"

_EXAMPLES = f"""\
examples:
  mtls-sidecar inject -f deployment.yaml --identity csi-driver-spiffe --trust-domain example.org \\
      --allow 'spiffe://example.org/ns/web/**' | kubectl apply -f -
  kubectl get deploy/orders -o yaml | mtls-sidecar inject -f - ... --explain > /dev/null    # what it would do, and why
  mtls-sidecar inject -f deployment.yaml --uninject                                         # the way back

Every option is an annotation of the Pod template too ({PREFIX}allow, ...), which wins over the option;
{PREFIX}inject: "false" leaves a workload alone. docs/injection.md explains, docs/annotations.md lists.

exit status: 0 done; 2 refused, every reason on stderr and nothing on stdout
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EXAMPLES
    parser.usage = (
        f"{PROGRAM} -f FILE [--explain] [--config-map] [--SETTING VALUE ...]\n       {PROGRAM} -f FILE --uninject"
    )
    parser.add_argument(
        "-f",
        "--filename",
        metavar="FILE",
        action="append",
        required=True,
        help="YAML or JSON of Kubernetes, - for standard input; may be repeated",
    )
    parser.add_argument("--uninject", action="store_true", help="take the sidecar away: the file as it was before")
    parser.add_argument("--explain", action="store_true", help="say on stderr what was done to each object, and why")
    parser.add_argument(
        "--config-map",
        action="store_true",
        help="put the sidecar's configuration into a ConfigMap in the stream, not into an annotation of the Pod",
    )
    add_setting_arguments(parser)


def add_setting_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the settings, one option for each row of their table."""
    group = parser.add_argument_group("settings", "defaults for every Pod; the annotation of the same name wins")
    defaults = Settings()
    for row in TABLE:
        # Suppressed where it is not given: argparse would parse a default that is text.
        options: dict[str, Any] = {"default": argparse.SUPPRESS, "type": _argument(row), "metavar": row.metavar}
        if row.metavar == "BOOL":
            options |= {"nargs": "?", "const": True}
        group.add_argument(f"--{row.name}", help=_help(row, getattr(defaults, row.field)), **options)


def settings_of(args: argparse.Namespace) -> Settings:
    """The settings that the options give."""
    given = vars(args)
    return replace(Settings(), **{row.field: given[row.field] for row in TABLE if row.field in given})


def _help(row: Row, default: object) -> str:
    words = row.meaning.replace("`", "").replace("%", "%%")
    return f"{words} Default {default}." if isinstance(default, str) and default else words


def _argument(row: Row) -> Callable[[str], object]:
    def parse(text: str) -> object:
        try:
            return row.parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None

    return parse


def run(args: argparse.Namespace) -> int:
    """Inject or uninject; returns the exit status."""
    try:
        from proxy.pod.yamlstream import MAX_STREAM_BYTES, transform
    except ModuleNotFoundError as missing:
        return _say_missing(missing)
    from proxy.pod.workloads import Task

    task = Task(None if args.uninject else settings_of(args), args.config_map)
    written: list[str] = []
    reports: list[Any] = []
    faults: list[str] = []
    for name in args.filename:
        file = "<stdin>" if name == STDIN else name
        try:
            text, told = transform(_read(name, MAX_STREAM_BYTES), task, file=file)
            written.append(text)
            reports += told
        except Refused as refused:
            faults += refused.sentences
    if faults:
        return _refuse(faults)
    if args.explain and not reports:
        print("There is nothing here that makes Pods.", file=sys.stderr)
    _explain(reports if args.explain else [report for report in reports if report.passed_over])
    sys.stdout.write("".join(_joined(written)))
    return EXIT_GOOD


def _say_missing(missing: ModuleNotFoundError) -> int:
    print(f"{PROGRAM}: {missing.name} is not installed: pip install 'mtls-sidecar[kubernetes]'", file=sys.stderr)
    return EXIT_REFUSED


def _read(name: str, most_bytes: int) -> str:
    try:
        data = sys.stdin.buffer.read(most_bytes + 1) if name == STDIN else read_bounded(name, most_bytes)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "that is not the path of a file"
        raise Refused([f"{name}: it cannot be read: {why}."]) from None
    if len(data) > most_bytes:
        raise Refused([f"{name}: it is longer than {most_bytes // 1024 // 1024} MiB."])
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused([f"{name}: it is not UTF-8, at byte {error.start}."]) from None


def _joined(texts: Sequence[str]) -> list[str]:
    """Several files as one stream: a file that does not begin with a marker gets one, and no byte order mark within."""
    parts: list[str] = []
    for text in texts:
        part = text.removeprefix("\ufeff") if parts else text
        if parts and not parts[-1].endswith("\n"):
            parts.append("\n")
        if parts and not part.startswith("---"):
            parts.append("---\n")
        parts.append(part)
    return parts


def _refuse(faults: Sequence[str]) -> int:
    for sentence in faults:
        print(f"{paint(PROGRAM, Colour.BAD, sys.stderr)}: {printable(sentence)}", file=sys.stderr)
    return EXIT_REFUSED


def _explain(reports: Sequence[Any]) -> None:
    last = ""
    for report in reports:
        if report.what != last:
            print(paint(printable(report.what), Colour.STRONG, sys.stderr), file=sys.stderr)
            last = report.what
        colour = Colour.WARNING if report.sentence.startswith("Warning:") else None
        sentence = printable(report.sentence)
        print(f"  {paint(sentence, colour, sys.stderr) if colour else sentence}", file=sys.stderr)
