"""
`mtls-sidecar demo`: the whole story end to end, with real processes, sockets and files, and nothing else installed.

Exit status: 0 only if every step held; 1 otherwise, and the steps that did not hold say what was seen instead.

Whatever happens, it ends: each wait has a deadline, no act begins after BUDGET_S, and the children are killed on every
way out, Ctrl-C and SIGTERM included; where it is killed itself, by its keeper.
"""

import argparse
import contextlib
import io
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from proxy.cli.childprocess import NotShown, terminated_like_interrupted
from proxy.cli.demo_report import Report
from proxy.lab.keeper import Keeper

BUDGET_S = 90.0  # far beyond the 10 s that it takes: a machine may be slow, but a demo must not be endless

EXAMPLES = """\
examples:
  mtls-sidecar demo
  mtls-sidecar demo --keep story          keep configurations, certificates and logs, to look at them
  mtls-sidecar demo --json | jq '.steps[] | select(.held | not)'

exit status: 0 if every step held, 1 if not
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--json", action="store_true", help="print the steps as one JSON document at the end")
    parser.add_argument(
        "--keep", metavar="DIR", type=Path, help="keep everything in this folder, which must be new or empty"
    )


def run(args: argparse.Namespace) -> int:
    """Play the demo. Returns: the exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a word that this terminal cannot show must not end the demo
    report = Report(as_json=args.json)
    try:
        with (
            _folder(args.keep) as folder,
            contextlib.closing(Keeper(None if args.keep else folder)) as keeper,
            terminated_like_interrupted(),
        ):
            _play(folder, keeper, report)
    except BrokenPipeError:
        raise  # whoever read our output has seen enough: cli/main.py knows what to do
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        advice = "name a new or empty folder that is yours with --keep DIR" if args.keep else "set TMPDIR to another"
        print(f"mtls-sidecar demo: cannot have its files: {error.strerror or error}{place}; {advice}", file=sys.stderr)
        return 1
    report.finish(str(args.keep) if args.keep else None)
    return 0 if report.all_held else 1


def _play(folder: Path, keeper: Keeper, report: Report) -> None:
    from proxy.cli.demo_acts import ACTS  # here, so that --help needs neither OpenSSL nor YAML
    from proxy.cli.demo_world import World

    report.say("app A -> sidecar A -> mutual TLS -> sidecar B -> app B, on this machine, in processes of their own.")
    deadline = time.monotonic() + BUDGET_S
    world = World(folder, keeper)
    try:
        for act in ACTS:
            report.begin(act.title)
            if time.monotonic() > deadline:
                report.show("this act", False, differed=f"more than {BUDGET_S:g} s have passed")
                continue
            try:
                act.play(world, report)
            except NotShown as why:
                report.show("this act goes on to its end", False, differed=str(why))
                if act.is_vital:
                    return
    finally:
        world.close()


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """Where the files go. Raises: OSError, also when `keep` holds something."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="mtls-sidecar-demo-", ignore_cleanup_errors=True) as name:
            yield Path(name)
        return
    keep.mkdir(parents=True, exist_ok=True, mode=0o700)
    if any(keep.iterdir()):
        raise FileExistsError(0, "the folder is not empty", str(keep))
    yield keep
