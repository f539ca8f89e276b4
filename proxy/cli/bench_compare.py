"""`mtls-sidecar bench compare`: this proxy beside others, set up for the same mutual TLS, in one run."""

import argparse

from proxy.cli.bench_options import add_measuring
from proxy.cli.bench_sideoptions import add_amounts, add_measure, add_sides, among, chosen_engines
from proxy.cli.bench_siderun import Failed, measure_sides, run_sides
from proxy.cli.bench_sides import Column, Table
from proxy.lab.comparison import CONNECTIONS, MEASURED, line_up, meaning
from proxy.lab.peerconfigs import MAX_CONNECTIONS
from proxy.lab.peers import PEERS
from proxy.lab.results import Kind, Result
from proxy.lab.sides import allow_descriptors
from proxy.lab.workloads import Bench

_PROGRAM = "mtls-sidecar bench compare"
_ROUNDS, _SECONDS, _BULK_MIB, _IDLE = 3, 0.2, 64, 300
_EXAMPLES = """\
Every side requires a client certificate of the same CA, speaks TLS 1.2 and 1.3 with X25519 and AES-128-GCM, hands out
session tickets, has one worker and the same core. Before it is measured it is tried: a client without a certificate and
one of another CA must be refused. Figures are the CPU of the server's own processes; ratios are to the sidecar's first
line. Without options it takes under two minutes; for figures to publish: --rounds 7 --seconds 2. docs/benchmarking.md
explains every figure.

examples:
  mtls-sidecar bench compare
  mtls-sidecar bench compare --peers haproxy,envoy --measure handshake
  mtls-sidecar bench compare --engine openssl --key rsa-2048
  mtls-sidecar bench compare --rounds 7 --seconds 2 --json compare.json && mtls-sidecar bench report compare.json
"""

TABLES = (
    Table(
        "Handshakes: server CPU of one, its app connection and its end included",
        tuple(
            Column(f"{mode} {version}", f"{mode} handshake over TLS {version}", "cpu_per_handshake")
            for mode in ("full", "resumed")
            for version in ("1.2", "1.3")
        ),
        "",
    ),
    Table(
        "Relaying over TLS 1.3: server CPU, and memory (PSS)",
        (
            Column(f"1 KiB request ({CONNECTIONS} open)", "requests", "cpu_per_request"),
            Column("GB to the app", "upload", "cpu_per_gb"),
            Column("GB from the app", "download", "cpu_per_gb"),
            Column("idle connection", "idle connections", "memory_per_connection"),
        ),
        "",
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = _EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--peers",
        type=among("peer", tuple(PEERS)),
        default=tuple(PEERS),
        metavar="NAMES",
        help=f"which of {','.join(PEERS)} (default: all that are installed), or none",
    )
    add_sides(parser)
    parser.add_argument(
        "--no-verdict-cache",
        dest="verdict_cache",
        action="store_false",
        help="let the sidecars verify every chain anew, as the other proxies do (`tls.verdict_cache: false`)",
    )
    add_measure(parser, MEASURED)
    add_amounts(parser, bulk_mib=_BULK_MIB, idle=_IDLE)
    add_measuring(parser, rounds=_ROUNDS, seconds=_SECONDS)


def run(args: argparse.Namespace) -> int:
    """Compare; returns 0, 1 when a side could not be measured or a file not be written."""
    return run_sides(_PROGRAM, args, lambda: _measure(args), _tables)


def _tables(result: Result) -> list[Table]:
    ours = next(side for side in result.sides if side.startswith("sidecar"))
    return [table._replace(base=ours) for table in TABLES]


def _measure(args: argparse.Namespace) -> tuple[Result, Failed]:
    wanted = chosen_engines(args)
    peers = [PEERS[name] for name in args.peers]
    allow_descriptors(args.idle + MAX_CONNECTIONS)
    return measure_sides(
        args,
        Kind.COMPARE,
        wanted[0],
        bench=lambda client, generators, scale: Bench(
            client=client, generators=generators, scale=scale, key=args.key, verdict_cache=args.verdict_cache
        ),
        line_up=lambda bed, bench, stack, say: line_up(bed, bench, wanted, peers, args.measure, stack, say),
        meaning=meaning,
    )
