"""usage: python -m bench quick | full (see --help and bench/README.md)"""

import argparse
import contextlib
import datetime
import json
import os
import random
import ssl
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import report
from bench.fleet import Fleet
from bench.measures import targets
from bench.runner import SCALES, Results, run_memory, run_rounds, start_sides
from proxy.lab.keeper import Keeper

SIDES = ("bare", "bare_no_tickets", "ordinary", "product", "outbound")
MEMORY_SIDES = ("bare", "ordinary", "product")


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the sidecar beside its yardsticks.")
    parser.add_argument("scale", choices=SCALES, help="quick: 3 short rounds, under 2 minutes; full: 5 long ones")
    parser.add_argument(
        "--sides", default=",".join(SIDES), help="which of %(default)s; outbound needs bare and product"
    )
    parser.add_argument("--engine", default="openssl", help="of the product (default: %(default)s, as the bare engine)")
    parser.add_argument("--no-memory", action="store_true", help="leave the second part out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number and the machine's facts there")
    parser.add_argument("--seed", type=int, help="of the order in which the sides take turns")
    parser.add_argument("--check", action="store_true", help="exit 1 if a target is missed by more than 15 %%")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave the logs of all processes there")
    return parser.parse_args(arguments)


def say(line: str) -> None:
    """Progress, apart from the tables."""
    print(line, file=sys.stderr, flush=True)


def measure(options: argparse.Namespace, folder: Path, keeper: Keeper, seed: int) -> Results:
    """Both parts of a run."""
    scale, results, names = SCALES[options.scale], Results(), options.sides.split(",")
    if unknown := set(names) - set(SIDES):
        raise SystemExit(f"bench: no such side: {', '.join(sorted(unknown))}; there are {', '.join(SIDES)}")
    with Fleet(folder, keeper, apps=len(SIDES), engine=options.engine) as fleet:
        sides = start_sides(fleet, names, results)
        run_rounds(fleet, sides, scale, seed, results, say)
    settled = sorted(f"TLS {each.version} {each.cipher} {each.group or ''}".strip() for each in results.settled)
    say("negotiated: " + "; ".join(settled))
    if not options.no_memory:
        broken = {side for measure, side in results.failures if measure == "start"}
        with Fleet(folder, keeper, apps=1, engine=options.engine) as fleet:
            wanted = [name for name in MEMORY_SIDES if name in names and name not in broken]
            run_memory(fleet, wanted, scale.memory_rounds, results, say)
    return results


def main(arguments: list[str]) -> int:
    """Measure, print, and say 1 only when asked to check."""
    options = parse(arguments)
    seed = options.seed if options.seed is not None else random.randrange(1_000_000)
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    facts: dict[str, Any] = {
        "started": started,
        "scale": options.scale,
        "seed": seed,
        "engine": options.engine,
        **report.machine(),
    }
    with (
        tempfile.TemporaryDirectory(prefix="mtls-sidecar-bench-") as temporary,
        contextlib.closing(Keeper(Path(temporary))) as keeper,
    ):
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        results = measure(options, folder, keeper, seed)
    facts["load_average_after"] = os.getloadavg()
    bounds = targets(ssl.OPENSSL_VERSION_INFO)
    print(
        f"{facts['cpu']}, {facts['usable_cores']} cores, Linux {facts['kernel']}, Python {facts['python']}, seed {seed}"
    )
    print(
        f"bare: {facts['openssl']['pyopenssl']}; product: engine {options.engine}; "
        f"ordinary: {facts['openssl']['stdlib']}"
    )
    print(f"load average {facts['load_average'][0]:.2f} before, {facts['load_average_after'][0]:.2f} after\n")
    print(report.inbound_table(results.numbers, bounds), end="\n\n")
    if "outbound" in options.sides.split(","):
        print(report.other_paths_table(results.numbers), end="\n\n")
    if not options.no_memory:
        print(report.memory_table(results.numbers, bounds), end="\n\n")
    print(report.failures_text(results.failures))
    if options.json:
        document = report.document(results.numbers, results.failures, bounds, facts)
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    faults = report.missed(results.numbers, bounds, results.failures)
    if options.check and faults:
        say("bench: " + "; ".join(faults))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
