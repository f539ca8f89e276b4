"""`mtls-sidecar bench merge`: the results of many generators as one document, counts and histograms added exactly."""

import argparse
import sys
from pathlib import Path

from proxy.cli.bench_options import whole
from proxy.lab.merge import Unmergeable, merge
from proxy.lab.results import BadResult, Result, read, write
from proxy.ops.printable import printable

_EXAMPLES = """\
Adds up what generators measured that loaded one target at the same time: counts, bytes and latency histograms, bucket
by bucket. Files that do not fit together (another command, another target, starts far apart, one run twice) are
refused. A folder stands for every .json file in it; --expect makes sure that no generator is missing.

examples:
  mtls-sidecar bench merge a.json b.json c.json -o all.json
  mtls-sidecar bench merge /results/run-1 --expect 4 -o /results/all.json
  mtls-sidecar bench report all.json --html all.html
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = _EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("results", nargs="+", metavar="RESULT.json", help="what `bench ... --json` wrote, or a folder")
    parser.add_argument(
        "--expect", type=whole(1, 10_000), metavar="N", help="refuse unless so many generators are there"
    )
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="where the sum goes")


def run(args: argparse.Namespace) -> int:
    """Merge; returns 0, 1 where the sum cannot be written, 2 for files that cannot be read or do not fit together."""
    try:
        paths = _files(args.results, args.output)
        total = merge([read(path) for path in paths], paths)
        if args.expect is not None and len(total.merged_from) != args.expect:
            raise Unmergeable(
                f"{args.expect} generators are expected, and {len(total.merged_from)} are there: a sum without one "
                "would pass for the whole. Did all of them finish?"
            )
    except (BadResult, Unmergeable) as refusal:
        print(f"mtls-sidecar bench merge: {printable(str(refusal))}", file=sys.stderr)
        return 2
    try:
        write(args.output, total)
    except BadResult as refusal:  # sums beyond what the format holds
        print(f"mtls-sidecar bench merge: {printable(str(refusal))}", file=sys.stderr)
        return 2
    except OSError as error:
        why = error.strerror or str(error)
        print(f"mtls-sidecar bench merge: {printable(args.output)} cannot be written: {why}", file=sys.stderr)
        return 1
    print(f"{printable(args.output)}: {_words(total)}")
    return 0


def _files(given: list[str], output: str) -> list[str]:
    """The files that were named, and those of the folders; never the one that is to be written. Raises: BadResult"""
    files: list[str] = []
    for path in given:
        inside = sorted(Path(path).glob("*.json")) if Path(path).is_dir() else [Path(path)]
        files += [str(file) for file in inside if not _is_same(file, output)]
    if not files:
        raise BadResult(f"{', '.join(given)}: there is no .json file to add up")
    return files


def _is_same(file: Path, output: str) -> bool:
    return file.absolute() == Path(output).absolute()


def _words(total: Result) -> str:
    rounds = [round_ for row in total.rows for round_ in row.rounds]
    counts = {
        "generators": len(total.merged_from),
        "rows": len(total.rows),
        "successes": sum(round_.count for round_ in rounds),
        "failures": sum(sum(round_.failures.values()) for round_ in rounds),
    }
    if faulty := sum(row.fault is not None for row in total.rows):
        counts["rows that are not whole"] = faulty
    return ", ".join(f"{name}: {count:,}" for name, count in counts.items())
