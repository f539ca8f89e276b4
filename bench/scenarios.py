"""
The scenarios of the handshake laboratory whose results are kept in bench/results: what to type to have them again.

usage: python -m bench.scenarios quick | full [--only NAME,NAME] [--out FOLDER]

`quick` is the CI smoke: every command once, short, in about three minutes; its figures mean little. `full` takes about
half an hour. Each scenario leaves NAME.json in the folder, for `mtls-sidecar bench report`.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple


class Scenario(NamedTuple):
    """One command of the laboratory. quick, full: what is added to it for a run of that length"""

    command: tuple[str, ...]
    quick: tuple[str, ...]
    full: tuple[str, ...]


LONG = ("--rounds", "7", "--seconds", "2")
SCENARIOS = {
    "handshake": Scenario(("handshake",), ("--rounds", "2", "--seconds", "0.3"), LONG),
    "post-quantum": Scenario(
        ("handshake", "--matrix", "version=1.3", "key=p256", "group=x25519,x25519mlkem768", "mode=full,resumed"),
        ("--rounds", "2", "--seconds", "0.3"),
        LONG,
    ),
    "rtt": Scenario(
        ("handshake", "--rtt", "1ms,20ms,80ms", "--matrix", "key=p256"), ("--rounds", "1", "--seconds", "0.5"), LONG
    ),
    "relay": Scenario(("relay",), ("--rounds", "1", "--seconds", "0.2"), (*LONG, "--bulk", "1024", "--idle", "1000")),
    "compare": Scenario(
        ("compare",), ("--rounds", "1", "--seconds", "0.2"), (*LONG, "--bulk", "1024", "--idle", "1000")
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
    parser.add_argument("--out", type=Path, help="where NAME.json is left (default: a folder that is removed)")
    options = parser.parse_args(arguments)
    names = options.only.split(",")
    if unknown := set(names) - SCENARIOS.keys():
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    with tempfile.TemporaryDirectory(prefix="mtls-sidecar-scenarios-") as temporary:
        out = options.out or Path(temporary)
        out.mkdir(parents=True, exist_ok=True)
        failed = []
        for name in names:
            print(f"\n== {name}: {' '.join(argv(name, options.length, out)[3:])}", flush=True)
            if subprocess.run(argv(name, options.length, out), check=False).returncode:
                failed.append(name)
    if failed:
        print(f"\nbench: not whole: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
