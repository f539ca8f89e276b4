"""`mtls-sidecar bench relay`: what relaying costs, in plaintext, over TLS and over mutual TLS."""

import argparse
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tqdm import tqdm

from proxy.cli.bench_options import add_measuring, can_write, configuration, now_text, typed_command
from proxy.cli.bench_sideoptions import add_amounts, add_measure, add_sides, chosen_engines, conclude, scale_of
from proxy.cli.bench_sides import Beside, Column, Table, print_sides
from proxy.lab.comparison import CONNECTIONS
from proxy.lab.contest import contest, steps
from proxy.lab.environment import environment
from proxy.lab.generator import Generators, LoadFault
from proxy.lab.meaning import disturbance, of_python
from proxy.lab.relaycosts import DIRECT, DISABLED, MEASURED, line_up, meaning
from proxy.lab.results import Kind, Result
from proxy.lab.servercpu import ProcessCpu, Waiting
from proxy.lab.sides import allow_descriptors
from proxy.lab.streams import StreamClient
from proxy.lab.testbed import Testbed, split_cores
from proxy.lab.workloads import Bench
from proxy.ops.printable import printable

_PROGRAM = "mtls-sidecar bench relay"
_ROUNDS, _SECONDS, _BULK_MIB, _IDLE = 3, 0.4, 64, 300
_EXAMPLES = """\
The same bytes to the same kind of app: without a proxy, through the sidecar in DISABLE (plaintext) and in STRICT
(mutual TLS), through two sidecars as between two apps of a mesh, and through the ordinary asyncio relay with TLS, which
stands in for what the sidecar has no mode for. Without options it takes under two minutes; for figures to publish:
--rounds 7 --seconds 2. docs/benchmarking.md explains every figure.

examples:
  mtls-sidecar bench relay
  mtls-sidecar bench relay --rounds 7 --seconds 2 --json relay.json && mtls-sidecar bench report relay.json
  mtls-sidecar bench relay --engine openssl --tls 1.2 --idle 2000
"""

TABLES = (
    Table(
        "Latency (medians, and what is added to that of a direct connection) and throughput, as the client sees them",
        (
            Column("new connection", "new connection", "p50", Beside.ADDED),
            Column("1 KiB request", "request, one connection", "p50", Beside.ADDED),
            Column("p99", "request, one connection", "p99", Beside.NOTHING),
            Column(f"requests ({CONNECTIONS} open)", "requests", "requests_per_s", Beside.NOTHING),
            Column("to the app", "upload", "throughput", Beside.NOTHING),
            Column("from the app", "download", "throughput", Beside.NOTHING),
        ),
        DIRECT,
    ),
    Table(
        "The price: CPU of the proxy's own processes, and memory (PSS); ratios to plaintext through the sidecar",
        (
            Column("new connection", "new connections", "cpu_per_handshake"),
            Column(f"1 KiB request ({CONNECTIONS} open)", "requests", "cpu_per_request"),
            Column("GB to the app", "upload", "cpu_per_gb"),
            Column("GB from the app", "download", "cpu_per_gb"),
            Column("idle connection", "idle connections", "memory_per_connection"),
        ),
        DISABLED,
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = _EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_sides(parser)
    parser.add_argument("--tls", choices=["1.2", "1.3"], default="1.3", help="version of TLS (default: %(default)s)")
    add_measure(parser, MEASURED)
    add_amounts(parser, bulk_mib=_BULK_MIB, idle=_IDLE)
    add_measuring(parser, rounds=_ROUNDS, seconds=_SECONDS)


def run(args: argparse.Namespace) -> int:
    """Measure; returns 0, 1 when something could not be measured or a file not be written."""
    if not can_write(_PROGRAM, args.json):
        return 1
    try:
        result, failed = _measure(args)
    except LoadFault as fault:
        print(f"{_PROGRAM}: {printable(str(fault))}", file=sys.stderr)
        return 1
    status = conclude(_PROGRAM, result, args.json, failed)  # first: what takes the tables (head, less) may leave early
    print_sides(result, [table._replace(caption=f"{table.caption}; TLS {args.tls}") for table in TABLES])
    return status


def _measure(args: argparse.Namespace) -> tuple[Result, list[str]]:
    """The result, and a sentence for each side that is here and yet was not measured."""
    started_at, cores = now_text(), split_cores()
    engines = chosen_engines(args)
    allow_descriptors(args.idle)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="mtls-sidecar-bench-"))
        bar = stack.enter_context(tqdm(desc="starting", unit="step", disable=None, leave=False))
        bed = stack.enter_context(Testbed(Path(folder), cores))
        bench = Bench(
            client=stack.enter_context(StreamClient(cores.load)),
            generators=stack.enter_context(Generators(1, cores.load)),
            scale=scale_of(args),
            key=args.key,
            version=args.tls,
        )
        field = line_up(bed, bench, engines, args.measure, stack, bar.set_description_str)
        bar.reset(total=steps(field.entries, args.rounds))

        def progress(step: str) -> None:
            bar.set_description_str(step)
            bar.update()

        waiting = Waiting([ProcessCpu(field.ours)])
        rows = contest(field.entries, rounds=args.rounds, seed=args.seed, progress=progress)
        disturbed = disturbance(waiting.share())
    where = environment(engines[0])
    said = [*meaning(rows), *disturbed, *of_python(where), *field.failed, *field.notes]
    result = Result(
        kind=Kind.RELAY,
        started_at=started_at,
        environment=where,
        seed=args.seed,
        command=typed_command(sys.argv[1:]),
        rows=tuple(rows),
        configuration=configuration(args),
        certificates=bed.identities(args.key).certificates,
        sides=field.words,
        notes=(*said, *([cores.note] if cores.note else [])),
    )
    return result, field.failed
