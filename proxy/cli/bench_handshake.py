"""`mtls-sidecar bench handshake`: what a mutual handshake costs, on a sidecar that it starts or on any TLS server."""

import argparse
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from proxy import __version__
from proxy.cli.bench_fleet import add_fleet, fault_of_fleet, turns_of
from proxy.cli.bench_options import (
    add_measuring,
    configuration,
    now_text,
    positive_span_s,
    rates,
    span_s,
    spans_s,
    tcp_address,
    whole,
)
from proxy.cli.bench_progress import Progress
from proxy.cli.bench_table import print_result
from proxy.core.clockwords import rfc3339
from proxy.lab.environment import environment
from proxy.lab.findmax import Slo, SloFault, parse_slo
from proxy.lab.fleet import FleetFault
from proxy.lab.generator import Generators, LoadFault
from proxy.lab.handshakes import Asked, Target, engine_of, sidecar_contenders, target_contenders
from proxy.lab.knee import search
from proxy.lab.matrix import Matrix, MatrixFault, parse_matrix
from proxy.lab.meaning import notes
from proxy.lab.plan import MAX_REQUEST_BYTES, Arrivals
from proxy.lab.results import Certificate, Kind, Maximum, Result, Row, write
from proxy.lab.rounds import Contender, measure_rounds
from proxy.lab.servercpu import CgroupCpu, ProcessCpu, ServerCpu, Waiting
from proxy.lab.testbed import Testbed, split_cores
from proxy.lab.turns import Turns
from proxy.ops.printable import printable
from proxy.tls.loadcontext import Credentials

_PROGRAM = "mtls-sidecar bench handshake"
_ROUNDS, _SECONDS, _KNEE_SECONDS, _WARM_UP_S = 6, 1.2, 3.0, 0.3
_AROUND_S = 0.2  # what a measurement takes beside its seconds: sessions, both readings of the CPU
_EXAMPLES = """\
Without options: TLS 1.2 and 1.3, ECDSA P-256 and RSA-2048, full and resumed, against a sidecar of its own, in under two
minutes. A handshake counts only when the server has accepted the client; failures are counted by Reason and are in no
latency; the server is verified always. docs/benchmarking.md explains every figure.

axes of --matrix, each with its default (and what else it takes):
  version=1.2,1.3          key=p256,rsa2048 (p384 rsa3072 rsa4096 ed25519)     mode=full,resumed
  group=x25519 (p256 p384 x25519mlkem768 ... any)       cipher=aes128 (aes256 chacha20 any, or a suite's name)
  client=cert (none)       chain=1 (certificates that each end sends)          concurrency=16 (clients in flight)
  engine=auto (openssl, boringssl where it is built)

examples:
  mtls-sidecar bench handshake
  mtls-sidecar bench handshake --json before.json
  mtls-sidecar bench handshake --matrix version=1.3 key=p256 group=x25519,x25519mlkem768 mode=full
  mtls-sidecar bench handshake --rtt 0,1ms,20ms,80ms --matrix key=p256
  mtls-sidecar bench handshake --target db.example:5433 --ca ca.pem --cert me.pem --key me.key --server-name db.example
  mtls-sidecar bench handshake --target 10.0.0.7:15006 --ca ca.crt --cert tls.crt --key tls.key \\
      --server-id 'spiffe://example.org/**' --pid 4711
  mtls-sidecar bench handshake --rate 100:1000:100 --arrivals poisson --matrix version=1.3 key=p256 mode=full
  mtls-sidecar bench handshake --find-max --slo p99=20ms --matrix version=1.3 key=p256 mode=full,resumed
"""


class _Usage(Exception):  # noqa: N818  # what was typed does not fit together
    """str() is the sentence."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = _EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--matrix", nargs="+", action="extend", metavar="AXIS=VALUES", help="what is compared")
    parser.add_argument("--concurrency", metavar="N,N", help="short for --matrix concurrency=N,N")
    parser.add_argument(
        "--rtt", type=spans_s, default=(0.0,), metavar="SPANS", help="network round trips to add: 1ms,20ms,80ms"
    )
    _add_target(parser)
    _add_load(parser)
    add_fleet(parser)
    add_measuring(parser, rounds=_ROUNDS, seconds=_SECONDS)
    parser.set_defaults(seconds=None)


def _add_target(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("a server of yours instead of a sidecar of its own")
    group.add_argument("--target", type=tcp_address, metavar="HOST:PORT", help="anything that speaks TLS at once")
    group.add_argument("--ca", metavar="FILE", help="PEM of the CA that issued the server's certificate")
    group.add_argument("--cert", metavar="FILE", help="PEM of the client's certificate, then its intermediates")
    group.add_argument("--key", metavar="FILE", help="PEM of the client's key")
    group.add_argument(
        "--server-name", metavar="NAME", help="the name that its certificate must hold (default: the target's host)"
    )
    group.add_argument(
        "--server-id",
        action="append",
        default=[],
        metavar="PATTERN",
        help="instead of a name: the SPIFFE ID that it must have, e.g. 'spiffe://example.org/**'; may be repeated",
    )
    group.add_argument("--pid", type=whole(1, 2**22), action="append", metavar="N", help="the server's process")
    group.add_argument("--cgroup", metavar="PATH", help="or its cgroup: adds the server's CPU to the table")
    group.add_argument(
        "--alpn", type=_protocols, metavar="NAME,NAME", help="application protocols to offer, e.g. h2,http/1.1"
    )
    group.add_argument(
        "--send",
        metavar="TEXT",
        help="sent after the handshake; the first byte back is then the success, not the ticket (\\r \\n \\xNN work)",
    )


def _add_load(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the load; without these, a closed loop of `concurrency` clients")
    group.add_argument(
        "--rate",
        type=rates,
        default=(),
        metavar="R",
        help="open loop: arrivals a second, fixed in advance, latency from the intended start. A list, or FROM:TO:STEP",
    )
    group.add_argument(
        "--arrivals", choices=[each.value for each in Arrivals], default="constant", help="their spacing"
    )
    group.add_argument("--find-max", action="store_true", help="search for the highest rate that keeps --slo")
    group.add_argument("--slo", metavar="p99=20ms", help="p50 to p99.99 or max, with its limit")
    group.add_argument(
        "--timeout", type=positive_span_s, default=10.0, metavar="S", help="for one connection to be accepted (10)"
    )
    group.add_argument(
        "--warm-up", type=span_s, default=_WARM_UP_S, metavar="S", help=f"before each measurement ({_WARM_UP_S:g})"
    )


def run(args: argparse.Namespace) -> int:
    """Measure; returns 0, 1 when something could not be measured or written, 2 for options that do not fit together."""
    try:
        matrix, slo = _check(args)
        result = _measure(args, matrix, slo)
    except (_Usage, MatrixFault, SloFault) as fault:
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
        why = error.strerror or str(error)
        print(f"{_PROGRAM}: {printable(file)} cannot be written: {why}", file=sys.stderr)
        return False
    return True


def _check(args: argparse.Namespace) -> tuple[Matrix, Slo | None]:
    """What argparse cannot: options that need or exclude each other."""
    own = args.target is None
    words = list(args.matrix or [])
    if args.concurrency is not None:
        words.append(f"concurrency={args.concurrency}")
    for name in ("ca", "cert", "key", "server_name", "pid", "cgroup", "send", "alpn"):
        if own and getattr(args, name) is not None:
            raise _Usage(f"--{name.replace('_', '-')} is for a server of yours: name it with --target HOST:PORT")
    if own and args.server_id:
        raise _Usage("--server-id is for a server of yours: name it with --target HOST:PORT")
    if not own and args.ca is None:
        raise _Usage("--target needs --ca FILE, the CA that issued the server's certificate: it is verified always")
    if (args.cert is None) != (args.key is None):
        raise _Usage("--cert and --key go together")
    if args.server_name is not None and args.server_id:
        raise _Usage("--server-name and --server-id are two ways to say who the server is: give one")
    if args.pid and args.cgroup:
        raise _Usage("--pid and --cgroup are two ways to find the server's CPU: give one")
    if args.find_max != (args.slo is not None):
        raise _Usage("--find-max and --slo go together: --find-max --slo p99=20ms")
    if args.find_max and args.rate:
        raise _Usage("--find-max chooses the rates itself: leave --rate out")
    if args.rate and any(word.startswith("concurrency=") for word in words):
        raise _Usage("in an open loop (--rate) arrivals are fixed in advance, whatever is in flight: no concurrency")
    if fault := fault_of_fleet(args):
        raise _Usage(fault)
    return parse_matrix(words, target=not own, has_certificate=own or args.cert is not None), (
        parse_slo(args.slo) if args.slo else None
    )


def _measure(args: argparse.Namespace, matrix: Matrix, slo: Slo | None) -> Result:
    started_at = now_text()
    asked = Asked(
        seconds=args.seconds or (_KNEE_SECONDS if slo else _SECONDS),
        warm_up_s=args.warm_up,
        timeout_s=args.timeout,
        rates=args.rate,
        arrivals=Arrivals(args.arrivals),
        rtts_s=args.rtt,
        seed=args.seed,
    )
    cores = split_cores()
    certificates: tuple[Certificate, ...] = ()
    said = list(matrix.left_out)
    with ExitStack() as stack:
        if args.target is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="mtls-sidecar-bench-"))
            bed = stack.enter_context(Testbed(Path(folder), cores))
            contenders, certificates = sidecar_contenders(matrix.cells, asked, bed, stack)
            said += [cores.note] if cores.note else []
        else:
            contenders = target_contenders(matrix.cells, asked, _target(args), stack)
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
    engines = {engine_of(cell) for cell in matrix.cells} if args.target is None else {"openssl"}
    return Result(
        kind=Kind.HANDSHAKE,
        started_at=started_at,
        environment=environment(", ".join(sorted(engines))),
        seed=args.seed,
        command=shlex.join(["mtls-sidecar", *sys.argv[1:]])[:4096],
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
        request=_bytes(args.send or ""),
        alpn=args.alpn or (),
    )


def _protocols(text: str) -> tuple[str, ...]:
    """Read names for ALPN. Source: RFC 7301 3.1 (1 to 255 bytes each)"""
    names = tuple(text.split(","))
    if not all(name.isascii() and name.isprintable() and 1 <= len(name) <= 255 for name in names) or len(text) > 4096:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of protocols: write e.g. h2,http/1.1")
    return names


def _bytes(text: str) -> bytes:
    """What is to be sent, with the escapes of a shell user. Raises: _Usage"""
    try:
        data = text.encode("latin-1", "backslashreplace").decode("unicode_escape").encode("latin-1")
    except (UnicodeDecodeError, UnicodeEncodeError):
        raise _Usage("--send holds an escape that is not one of \\r, \\n, \\t, \\\\ and \\xNN") from None
    if len(data) > MAX_REQUEST_BYTES:
        raise _Usage(f"--send takes at most {MAX_REQUEST_BYTES} bytes")
    return data


def _address(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _sentence(text: str) -> str:
    return printable(text if text.endswith(".") else f"{text}.")
