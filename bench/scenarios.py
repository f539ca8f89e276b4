"""
The scenarios of the handshake laboratory whose results are kept in bench/results: what to type to have them again.

usage: python -m bench.scenarios quick | full [--only NAME,NAME] [--out FOLDER]

`quick` is the CI smoke: every command once, short, in about three minutes; its figures mean little. `full` takes about
half an hour. With --out each scenario leaves NAME.json in the folder and its report beside it, NAME.md and NAME.html
(`mtls-sidecar bench report`), as soon as it is measured; and README.md there says what all of them are.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from bench.reference import write_overview, write_reports
from proxy.lab.results import BadResult


class Scenario(NamedTuple):
    """
    One command of the laboratory.

    about: a heading; quick, full: what is added to the command for a run of that length
    """

    about: str
    command: tuple[str, ...]
    quick: tuple[str, ...]
    full: tuple[str, ...]


LONG = ("--rounds", "7", "--seconds", "2")
SCENARIOS = {
    "handshake": Scenario(
        "TLS 1.2 and 1.3, ECDSA and RSA, full and resumed", ("handshake",), ("--rounds", "2", "--seconds", "0.3"), LONG
    ),
    "post-quantum": Scenario(
        "X25519MLKEM768 beside X25519",
        ("handshake", "--matrix", "version=1.3", "key=p256", "group=x25519,x25519mlkem768", "mode=full,resumed"),
        ("--rounds", "2", "--seconds", "0.3"),
        LONG,
    ),
    "rtt": Scenario(
        "handshakes behind 1, 20 and 80 ms of network round trip",
        ("handshake", "--rtt", "1ms,20ms,80ms", "--matrix", "key=p256"),
        ("--rounds", "1", "--seconds", "0.5"),
        LONG,
    ),
    "relay": Scenario(
        "connections, requests, bulk and memory, in plaintext, over TLS and over mutual TLS",
        ("relay",),
        ("--rounds", "1", "--seconds", "0.2"),
        (*LONG, "--bulk", "1024", "--idle", "1000"),
    ),
    "compare": Scenario(
        "the sidecar on each engine beside other proxies",
        ("compare",),
        ("--rounds", "1", "--seconds", "0.2"),
        (*LONG, "--bulk", "1024", "--idle", "1000"),
    ),
}


def argv(name: str, length: str, out: Path) -> list[str]:
    """What to run for a scenario."""
    scenario = SCENARIOS[name]
    more = scenario.quick if length == "quick" else scenario.full
    return [sys.executable, "-m", "proxy", "bench", *scenario.command, *more, "--json", str(out / f"{name}.json")]


def main(arguments: list[str]) -> int:
    """Run them in turn; 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m bench.scenarios", description="Repeat the laboratory's scenarios.")
    parser.add_argument("length", choices=["quick", "full"])
    parser.add_argument("--only", default=",".join(SCENARIOS), help="which of %(default)s")
    parser.add_argument("--out", type=Path, help="where results and reports are left (default: nowhere)")
    options = parser.parse_args(arguments)
    names = options.only.split(",")
    if unknown := set(names) - SCENARIOS.keys():
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    with tempfile.TemporaryDirectory(prefix="mtls-sidecar-scenarios-") as temporary:
        measured = Path(temporary)  # so that a run that breaks off leaves the results of the one before as they were
        if options.out:
            options.out.mkdir(parents=True, exist_ok=True)
        failed = []
        for name in names:
            words = argv(name, options.length, measured)
            print(f"\n== {name}: {' '.join(words[3:-2])}", flush=True)
            if subprocess.run(words, check=False).returncode:
                failed.append(name)
            if options.out and (measured / f"{name}.json").exists():
                failed += keep(measured / f"{name}.json", options.out)
    if failed:
        print(f"\nbench: not whole: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def keep(result: Path, folder: Path) -> list[str]:
    """Leave a result in the folder with its reports, and the overview of all; returns what is wrong with it."""
    wrong = write_reports(result, folder)
    print(f"\nbench: {wrong or f'left {result.stem} in {folder}, with its reports'}", flush=True)
    failed = [f"the reports of {result.stem}"] if wrong else []
    try:
        write_overview(folder, {name: scenario.about for name, scenario in SCENARIOS.items()})
    except BadResult as refusal:  # of another version of the format, from an earlier run
        print(f"bench: no overview: {refusal}", file=sys.stderr)
        failed.append("the overview")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
