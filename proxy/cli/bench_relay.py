"""`mtls-sidecar bench relay`: what relaying costs, in plaintext, over TLS and over mutual TLS."""

import argparse

from proxy.cli.bench_options import add_measuring
from proxy.cli.bench_sideoptions import add_amounts, add_measure, add_sides, chosen_engines
from proxy.cli.bench_siderun import Failed, measure_sides, run_sides
from proxy.cli.bench_sides import Beside, Column, Table
from proxy.lab.comparison import CONNECTIONS
from proxy.lab.relaycosts import DIRECT, DISABLED, MEASURED, line_up, meaning
from proxy.lab.results import Kind, Result
from proxy.lab.sides import allow_descriptors
from proxy.lab.workloads import Bench

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
    add_measuring(parser, rounds=_ROUNDS, seconds=_SECONDS, is_by_generators=False)


def run(args: argparse.Namespace) -> int:
    """Measure; returns 0, 1 when something could not be measured or a file not be written."""
    tables = [table._replace(caption=f"{table.caption}; TLS {args.tls}") for table in TABLES]
    return run_sides(_PROGRAM, args, lambda: _measure(args), lambda _result: tables)


def _measure(args: argparse.Namespace) -> tuple[Result, Failed]:
    engines = chosen_engines(args)
    allow_descriptors(args.idle)
    return measure_sides(
        args,
        Kind.RELAY,
        engines[0],
        bench=lambda client, generators, scale: Bench(
            client=client, generators=generators, scale=scale, key=args.key, version=args.tls
        ),
        line_up=lambda bed, bench, stack, say: line_up(bed, bench, engines, args.measure, stack, say),
        meaning=meaning,
    )
