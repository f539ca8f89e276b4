"""The options of `bench handshake`, and which of them need or exclude each other."""

import argparse

from proxy.cli.bench_fleet import add_fleet, fault_of_fleet
from proxy.cli.bench_options import add_measuring, positive_span_s, rates, span_s, spans_s, tcp_address, whole
from proxy.lab.findmax import Slo, parse_slo
from proxy.lab.matrix import Matrix, parse_matrix
from proxy.lab.plan import MAX_REQUEST_BYTES, Arrivals

_ROUNDS, _SECONDS, _KNEE_SECONDS, _WARM_UP_S = 6, 1.2, 3.0, 0.3
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


class Usage(Exception):  # noqa: N818  # what was typed does not fit together
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
    group.add_argument(
        "--max-open",
        type=whole(1, 1_000_000),
        default=10_000,
        metavar="N",
        help="connections of an open loop at once (10000); arrivals beyond it wait, and their wait counts as latency",
    )
    group.add_argument("--find-max", action="store_true", help="search for the highest rate that keeps --slo")
    group.add_argument("--slo", metavar="p99=20ms", help="p50 to p99.99 or max, with its limit")
    group.add_argument(
        "--timeout", type=positive_span_s, default=10.0, metavar="S", help="for one connection to be accepted (10)"
    )
    group.add_argument(
        "--warm-up", type=span_s, default=_WARM_UP_S, metavar="S", help=f"before each measurement ({_WARM_UP_S:g})"
    )


def check(args: argparse.Namespace) -> tuple[Matrix, Slo | None]:
    """
    What argparse cannot: options that need or exclude each other.

    Raises: Usage, MatrixFault, SloFault
    """
    own = args.target is None
    words = list(args.matrix or [])
    if args.concurrency is not None:
        words.append(f"concurrency={args.concurrency}")
    for name in ("ca", "cert", "key", "server_name", "pid", "cgroup", "send", "alpn"):
        if own and getattr(args, name) is not None:
            raise Usage(f"--{name.replace('_', '-')} is for a server of yours: name it with --target HOST:PORT")
    if own and args.server_id:
        raise Usage("--server-id is for a server of yours: name it with --target HOST:PORT")
    if not own and args.ca is None:
        raise Usage("--target needs --ca FILE, the CA that issued the server's certificate: it is verified always")
    if (args.cert is None) != (args.key is None):
        raise Usage("--cert and --key go together")
    if args.server_name is not None and args.server_id:
        raise Usage("--server-name and --server-id are two ways to say who the server is: give one")
    if args.pid and args.cgroup:
        raise Usage("--pid and --cgroup are two ways to find the server's CPU: give one")
    if args.find_max != (args.slo is not None):
        raise Usage("--find-max and --slo go together: --find-max --slo p99=20ms")
    if args.find_max and args.rate:
        raise Usage("--find-max chooses the rates itself: leave --rate out")
    if args.rate and any(word.startswith("concurrency=") for word in words):
        raise Usage("in an open loop (--rate) arrivals are fixed in advance, whatever is in flight: no concurrency")
    if fault := fault_of_fleet(args):
        raise Usage(fault)
    return parse_matrix(words, target=not own, has_certificate=own or args.cert is not None), (
        parse_slo(args.slo) if args.slo else None
    )


def seconds_of(args: argparse.Namespace) -> float:
    """How long one measurement lasts: longer where the knee is searched, for queues take time to grow."""
    seconds: float = args.seconds or (_KNEE_SECONDS if args.find_max else _SECONDS)
    return seconds


def request_bytes(text: str) -> bytes:
    """What is to be sent, with the escapes of a shell user. Raises: Usage"""
    try:
        data = text.encode("latin-1", "backslashreplace").decode("unicode_escape").encode("latin-1")
    except (UnicodeDecodeError, UnicodeEncodeError):
        raise Usage("--send holds an escape that is not one of \\r, \\n, \\t, \\\\ and \\xNN") from None
    if len(data) > MAX_REQUEST_BYTES:
        raise Usage(f"--send takes at most {MAX_REQUEST_BYTES} bytes")
    return data


def _protocols(text: str) -> tuple[str, ...]:
    """Read names for ALPN. Source: RFC 7301 3.1 (1 to 255 bytes each)"""
    names = tuple(text.split(","))
    if not all(name.isascii() and name.isprintable() and 1 <= len(name) <= 255 for name in names) or len(text) > 4096:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of protocols: write e.g. h2,http/1.1")
    return names
