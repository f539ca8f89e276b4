"""`mtls-sidecar bench compare`: this proxy beside others, set up for the same mutual TLS, in one run."""

import argparse
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tqdm import tqdm

from proxy.cli.bench_options import add_measuring, can_write, configuration, now_text, typed_command
from proxy.cli.bench_sideoptions import add_amounts, add_measure, add_sides, among, chosen_engines, conclude, scale_of
from proxy.cli.bench_sides import Column, Table, print_sides
from proxy.lab.comparison import CONNECTIONS, MEASURED, line_up, meaning
from proxy.lab.contest import contest, steps
from proxy.lab.environment import environment
from proxy.lab.generator import Generators, LoadFault
from proxy.lab.meaning import disturbance, of_python
from proxy.lab.peerconfigs import MAX_CONNECTIONS
from proxy.lab.peers import PEERS
from proxy.lab.results import Kind, Result
from proxy.lab.servercpu import ProcessCpu, Waiting
from proxy.lab.sides import allow_descriptors
from proxy.lab.streams import StreamClient
from proxy.lab.testbed import Testbed, split_cores
from proxy.lab.workloads import Bench
from proxy.ops.printable import printable

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
    if not can_write(_PROGRAM, args.json):
        return 1
    try:
        result, failed = _measure(args)
    except LoadFault as fault:
        print(f"{_PROGRAM}: {printable(str(fault))}", file=sys.stderr)
        return 1
    ours = next(side for side in result.sides if side.startswith("sidecar"))
    status = conclude(_PROGRAM, result, args.json, failed)  # first: what takes the tables (head, less) may leave early
    print_sides(result, [table._replace(base=ours) for table in TABLES])
    return status


def _measure(args: argparse.Namespace) -> tuple[Result, list[str]]:
    """The result, and a sentence for each side that is here and yet was not measured."""
    started_at, cores = now_text(), split_cores()
    wanted = chosen_engines(args)
    allow_descriptors(args.idle + MAX_CONNECTIONS)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="mtls-sidecar-bench-"))
        bar = stack.enter_context(tqdm(desc="starting", unit="step", disable=None, leave=False))
        bed = stack.enter_context(Testbed(Path(folder), cores))
        bench = Bench(
            client=stack.enter_context(StreamClient(cores.load)),
            generators=stack.enter_context(Generators(args.processes, cores.load)),
            scale=scale_of(args),
            key=args.key,
            verdict_cache=args.verdict_cache,
        )
        peers = [PEERS[name] for name in args.peers]
        field = line_up(bed, bench, wanted, peers, args.measure, stack, bar.set_description_str)
        bar.reset(total=steps(field.entries, args.rounds))

        def progress(step: str) -> None:
            bar.set_description_str(step)
            bar.update()

        waiting = Waiting([ProcessCpu(field.ours)])
        rows = contest(field.entries, rounds=args.rounds, seed=args.seed, progress=progress)
        disturbed = disturbance(waiting.share())
    where = environment(wanted[0])
    said = [*meaning(rows), *disturbed, *of_python(where), *field.failed, *field.notes]
    result = Result(
        kind=Kind.COMPARE,
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
