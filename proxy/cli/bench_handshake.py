"""`mtls-sidecar bench handshake`: what a mutual handshake costs, on a sidecar that it starts or on any TLS server."""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from proxy import __version__
from proxy.cli.bench_fleet import turns_of
from proxy.cli.bench_handshake_options import Usage, add_arguments, check, request_bytes, seconds_of
from proxy.cli.bench_options import can_write, configuration, not_written, now_text, typed_command
from proxy.cli.bench_progress import Progress
from proxy.cli.bench_table import print_result
from proxy.core.clockwords import rfc3339
from proxy.lab.delayline import DelayLines
from proxy.lab.environment import environment
from proxy.lab.findmax import Slo, SloFault
from proxy.lab.fleet import FleetFault
from proxy.lab.generator import Generators, LoadFault
from proxy.lab.handshakes import Asked, Target, engine_of, plan_of, sidecar_contenders, target_contenders
from proxy.lab.knee import search
from proxy.lab.matrix import Matrix, MatrixFault
from proxy.lab.meaning import notes, of_python
from proxy.lab.observe import sends_tickets_last
from proxy.lab.plan import Arrivals
from proxy.lab.results import Certificate, Kind, Maximum, Result, Row, write
from proxy.lab.rounds import Contender, measure_rounds
from proxy.lab.servercpu import CgroupCpu, ProcessCpu, ServerCpu, Waiting
from proxy.lab.testbed import Testbed, split_cores
from proxy.lab.turns import Turns
from proxy.ops.printable import printable
from proxy.tls.loadcontext import Credentials

_PROGRAM = "mtls-sidecar bench handshake"
__all__ = ["add_arguments", "run"]

_AROUND_S = 0.2  # what a measurement takes beside its seconds: sessions, both readings of the CPU


def run(args: argparse.Namespace) -> int:
    """Measure; returns 0, 1 when something could not be measured or written, 2 for options that do not fit together."""
    try:
        matrix, slo = check(args)
        if args.meet is None and not can_write(_PROGRAM, args.json):  # a folder to meet in is made by those that meet
            return 1
        result = _measure(args, matrix, slo)
    except (Usage, MatrixFault, SloFault) as fault:
        print(f"{_PROGRAM}: {printable(str(fault))}", file=sys.stderr)
        return 2
    except (LoadFault, FleetFault) as fault:
        print(f"{_PROGRAM}: {_sentence(str(fault))}", file=sys.stderr)
        return 1
    if not any(row.rounds for row in result.rows):
        for why in dict.fromkeys(row.fault for row in result.rows):
            print(f"{_PROGRAM}: {_sentence(why or 'nothing was measured')}", file=sys.stderr)
        return 1
    written = _write(args.json, result)  # first: what takes the table (head, less) may leave early
    print_result(result)
    return 0 if written and not any(row.fault for row in result.rows) else 1


def _write(file: str | None, result: Result) -> bool:
    """Write the result where that was asked for; returns whether all is well."""
    if file is None:
        return True
    try:
        write(file, result)
    except OSError as error:
        return not_written(_PROGRAM, file, error)
    return True


def _measure(args: argparse.Namespace, matrix: Matrix, slo: Slo | None) -> Result:
    started_at = now_text()
    asked = Asked(
        seconds=seconds_of(args),
        warm_up_s=args.warm_up,
        timeout_s=args.timeout,
        rates=args.rate,
        arrivals=Arrivals(args.arrivals),
        rtts_s=args.rtt,
        seed=args.seed,
        max_open=args.max_open,
    )
    cores = split_cores()
    certificates: tuple[Certificate, ...] = ()
    said = list(matrix.left_out)
    with ExitStack() as stack:
        lines = stack.enter_context(DelayLines(cores.load if args.target is None else None))
        if args.target is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="mtls-sidecar-bench-"))
            bed = stack.enter_context(Testbed(Path(folder), cores))
            contenders, certificates = sidecar_contenders(matrix.cells, asked, bed, lines)
            said += [cores.note] if cores.note else []
        else:
            target, more = _settled(_target(args), matrix, asked)
            said += more
            contenders = target_contenders(matrix.cells, asked, target, lines)
        pinned = cores.load if args.target is None else None
        bar = stack.enter_context(_bar(args, contenders, asked, slo))
        generators = stack.enter_context(Generators(args.processes, pinned, args.fleet, waiting=bar.tick))
        maxima: list[Maximum] = []
        waiting = Waiting(contender.server for contender in contenders if args.target is None)
        if slo is not None:
            rows, maxima, more = _find_all(contenders, generators, slo, bar)
            said += more
        else:

            def timetable() -> Turns | None:
                nonlocal started_at
                turns = turns_of(args, asked.seconds)
                started_at = started_at if turns is None else rfc3339(turns.start_at)
                return turns

            rows = _rounds(args, contenders, generators, timetable, bar)
        waited = waiting.share()
        said += lines.notes()
        if args.target is not None and not target.request and not target.farewell:
            said += _of_tickets(rows)
    engines = {engine_of(cell) for cell in matrix.cells} if args.target is None else {"openssl"}
    where = environment(", ".join(sorted(engines)))
    said += of_python(where) if args.target is None else []
    return Result(
        kind=Kind.HANDSHAKE,
        started_at=started_at,
        environment=where,
        seed=args.seed,
        command=typed_command(sys.argv[1:]),
        rows=tuple(rows),
        configuration=configuration(args),
        certificates=certificates,
        sides={side: _words(args, side, engines) for side in dict.fromkeys(row.scenario.side for row in rows)},
        target=_address(args.target) if args.target else None,
        maxima=tuple(maxima),
        notes=(*notes(rows, waited), *said),
    )


def _bar(args: argparse.Namespace, contenders: Sequence[Contender], asked: Asked, slo: Slo | None) -> Progress:
    if slo is not None:
        return Progress("searching", steps=None, step_s=asked.seconds)
    step_s = asked.seconds + asked.warm_up_s + _AROUND_S
    return Progress("measuring", steps=len(contenders) * args.rounds, step_s=step_s)


def _rounds(
    args: argparse.Namespace,
    contenders: Sequence[Contender],
    generators: Generators,
    timetable: Callable[[], Turns | None],
    bar: Progress,
) -> list[Row]:
    return measure_rounds(
        contenders, generators, rounds=args.rounds, seed=args.seed, progress=bar.step, timetable=timetable
    )


def _find_all(
    contenders: Sequence[Contender], generators: Generators, slo: Slo, bar: Progress
) -> tuple[list[Row], list[Maximum], list[str]]:
    """The knee of each contender: all steps as rows, the knees, and what has to be said about them."""
    found = [search(contender, generators, slo, lambda rate: bar.step(f"{rate:,.0f}/s")) for contender in contenders]
    limited = "Beyond the highest rate found, the client was the bottleneck: the server may well do more."
    rows = [row for each in found for row in each.rows]
    return rows, [each.maximum for each in found], [limited] if any(each.limited for each in found) else []


def _words(args: argparse.Namespace, side: str, engines: set[str]) -> str:
    """What a side of the rows is."""
    if args.target:
        return _address(args.target)
    own = [engine for engine in sorted(engines) if f"({engine})" in side] or sorted(engines)
    return f"mtls-sidecar {__version__}, STRICT, one worker, engine {', '.join(own)}"


def _target(args: argparse.Namespace) -> Target:
    server: ServerCpu | None = None
    if args.pid:
        server = ProcessCpu(args.pid)
    elif args.cgroup:
        server = CgroupCpu(args.cgroup)
    credentials = Credentials(
        ca=args.ca,
        cert=args.cert,
        key=args.key,
        server_ids=tuple(args.server_id),
        server_name=None if args.server_id else args.server_name or args.target[0],
    )
    return Target(
        address=args.target,
        credentials=credentials,
        server=server,
        request=request_bytes(args.send or ""),
        alpn=args.alpn or (),
    )


def _settled(target: Target, matrix: Matrix, asked: Asked) -> tuple[Target, list[str]]:
    """The target with the way in which its TLS 1.3 is seen to accept, and what has to be said about that."""
    newest = [cell for cell in matrix.cells if cell.version == "1.3"]
    if not newest or target.request or not sends_tickets_last(plan_of(newest[0], asked, target)):
        return target, []
    said = (
        "The target sends its TLS 1.3 tickets with its first bytes or its end alone (BoringSSL does, and so Envoy), so "
        "the client said its end at once there: those latencies hold the server's end too. --send measures both "
        "versions alike."
    )
    return replace(target, farewell=True), [said]


def _of_tickets(rows: Sequence[Row]) -> list[str]:
    """Why the versions are not alike where nothing is asked of the target; only where both were measured."""
    if {row.scenario.version for row in rows if row.rounds} != {"1.2", "1.3"}:
        return []
    return [
        "In TLS 1.3 the target has accepted where its ticket or first byte came, a round trip later than a client "
        "waits that sends its request at once. --send TEXT measures both versions alike."
    ]


def _address(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _sentence(text: str) -> str:
    return printable(text if text.endswith((".", "?")) else f"{text}.")
