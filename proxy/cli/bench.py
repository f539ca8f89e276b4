"""
`mtls-sidecar bench`: the handshake laboratory. One table of subcommands, each a module that is imported when asked for.

A module of a subcommand has `add_arguments(parser)` and `run(args) -> int`, as a command of cli/main.py has. Most need
the extra packages of `pip install 'mtls-sidecar[bench]'`, and say so where they are missing.
"""

import argparse
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from proxy.cli.childprocess import terminated_like_interrupted

EXTRA = "bench"
_EXTRA_MODULES = ("hdrh", "jinja2", "matplotlib", "psutil", "tqdm")


class Subcommand(NamedTuple):
    """Where a subcommand lives, and its line in --help."""

    module: str
    help: str


SUBCOMMANDS = {
    "handshake": Subcommand(
        "proxy.cli.bench_handshake", "what a mutual handshake costs: by version, key, group, full and resumed"
    ),
    "relay": Subcommand(
        "proxy.cli.bench_relay", "what relaying costs: requests, bulk and memory, with and without TLS"
    ),
    "compare": Subcommand("proxy.cli.bench_compare", "this proxy beside others, set up alike, in one run"),
    "report": Subcommand("proxy.cli.bench_report", "pages and plots of results; two results compared, as a CI gate"),
    "merge": Subcommand("proxy.cli.bench_merge", "the results of many generators as one"),
}


class _LazyParser(argparse.ArgumentParser):
    """The parser of a subcommand: its options are added when it is the one that was asked for."""

    module: str | None = None

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """As argparse's, with the options of the subcommand's module."""
        if self.module is not None:
            try:
                module = importlib.import_module(self.module)
            except ModuleNotFoundError as missing:
                if (missing.name or "").partition(".")[0] not in _EXTRA_MODULES:
                    raise
                self.exit(1, f"{self.prog}: needs {missing.name}: pip install 'mtls-sidecar[{EXTRA}]'\n")
            self.module = None
            module.add_arguments(self)
            self.set_defaults(run_subcommand=module.run)
        return super().parse_known_args(args, namespace)


def available() -> dict[str, Subcommand]:
    """The subcommands whose module is there, in the order of the table."""
    return {name: each for name, each in SUBCOMMANDS.items() if importlib.util.find_spec(each.module)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands."""
    parser.epilog = f"`{parser.prog} SUBCOMMAND --help` shows options and examples."
    subparsers = parser.add_subparsers(
        dest="subcommand", metavar="SUBCOMMAND", title="subcommands", parser_class=_LazyParser
    )
    for name, each in available().items():
        subparsers.add_parser(name, help=each.help, description=each.help, allow_abbrev=False).module = each.module
    parser.set_defaults(run_subcommand=None, print_help=parser.print_help)


def run(args: argparse.Namespace) -> int:
    """Run the subcommand; returns its exit status, 2 when none was named."""
    if args.run_subcommand is None:
        args.print_help(sys.stderr)
        return 2
    with terminated_like_interrupted():  # a run that is stopped leaves no server behind
        status: int = args.run_subcommand(args)
    return status
