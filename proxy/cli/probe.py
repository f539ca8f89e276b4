"""
`mtls-sidecar probe`: what `openssl s_client` shows, explained, with a verdict and the next command.

Exit status 0 says that the peer can be spoken to as asked and is who it should be; 1 says that it is not so, and why; 2
that the question could not be put. It is the one command that may finish a handshake with a peer that it does not
trust, because it is there to show what is wrong with one; it sends no application data to anybody.
"""

import argparse
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import msgspec

from proxy.cli.probe_document import ProbeDocument
from proxy.cli.probe_report import report_of
from proxy.cli.probe_settings import Settings, UsageFault, settings_of
from proxy.cli.probe_steps import Probe
from proxy.cli.probe_verdict import document_of
from proxy.core.reasons import Rejected

EXIT_GOOD = 0
EXIT_NOT_GOOD = 1
EXIT_USAGE = 2

DEFAULT_TIMEOUT_S = 5.0
MAX_TIMEOUT_S = 300.0

_EPILOG = """\
examples:
  mtls-sidecar probe payments.shop.svc:15006
  mtls-sidecar probe 10.0.3.7:15006 --cert tls.crt --key tls.key --bundle example.org=ca.crt \\
      --server-id spiffe://example.org/ns/shop/sa/payments
  mtls-sidecar probe --config sidecar.yaml --listener payments
  mtls-sidecar probe --config sidecar.yaml '[2001:db8::7]:15006' --json

It makes about 20 connections, one after the other (3 to 5 with --quick). It finishes handshakes also with a peer that
it does not trust, to show what is wrong with it, and says so in the verdict; it never sends application data.

exit status: 0 the peer can be spoken to as asked and is who it should be, 1 it is not so, 2 the question has a fault
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    parser.add_argument(
        "address",
        metavar="HOST:PORT",
        nargs="?",
        help="whom to probe; also [v6]:PORT and unix:/path; default: the upstream of the listener of --config",
    )
    identity = parser.add_argument_group("who we are and whom we trust")
    identity.add_argument("--cert", metavar="FILE", help="our SVID, leaf first; without it no certificate is presented")
    identity.add_argument("--key", metavar="FILE", help="its key")
    identity.add_argument(
        "--bundle",
        metavar="TRUSTDOMAIN=FILE",
        action="append",
        default=[],
        help="the roots of a trust domain; repeat it for more domains",
    )
    identity.add_argument("--config", metavar="FILE", help="take all of this from the configuration of a sidecar")
    identity.add_argument("--listener", metavar="NAME", help="its outbound listener, where it has several")
    expected = parser.add_argument_group("whom we expect, and what we offer")
    expected.add_argument(
        "--server-id",
        metavar="PATTERN",
        action="append",
        default=[],
        help="who may answer: a SPIFFE ID, `*` for one path segment, `**` at the end for the rest; repeatable",
    )
    expected.add_argument("--server-name", metavar="NAME", help="the SNI (default: the host name, never an IP address)")
    expected.add_argument(
        "--alpn", metavar="NAME", action="append", default=[], help="offer ALPN names, e.g. h2,http/1.1; repeatable"
    )
    how = parser.add_argument_group("how")
    how.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_timeout_s,
        default=DEFAULT_TIMEOUT_S,
        help=f"for the look-up, for each connect and for each handshake (default {DEFAULT_TIMEOUT_S:g})",
    )
    how.add_argument("--quick", action="store_true", help="leave out resumption, groups and cipher suites")
    how.add_argument("--json", action="store_true", help="print one JSON object (docs/probe.md has its fields)")
    how.add_argument("--verbose", action="store_true", help="print the chain in PEM as well")


def run(args: argparse.Namespace) -> int:
    """Probe; returns 0, 1 or 2."""
    try:
        settings = settings_of(args, datetime.now(UTC))
        document = _probe(settings, verbose=args.verbose)
    except UsageFault as fault:
        print(f"mtls-sidecar probe: {fault}", file=sys.stderr)
        return EXIT_USAGE
    except Rejected as rejected:  # what OpenSSL does not take of ours
        print(f"mtls-sidecar probe: {rejected.detail} ({rejected.reason})", file=sys.stderr)
        return EXIT_USAGE
    if args.json:
        print(msgspec.json.format(msgspec.json.encode(document)).decode())
    else:
        print(report_of(document))
    return EXIT_GOOD if document.verdict.good else EXIT_NOT_GOOD


def _probe(settings: Settings, *, verbose: bool) -> ProbeDocument:
    with _progress() as note:
        findings = Probe(settings.wish, time.monotonic, note).run()
    return document_of(settings, findings, datetime.now(UTC).timestamp(), verbose=verbose)


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """The step that is being taken, in the last line of a terminal; gone when the report comes."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda _: None
        return
    try:
        yield lambda step: print(f"\r\x1b[K{step} ...", end="", file=sys.stderr, flush=True)
    finally:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _timeout_s(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds") from None
    if not (math.isfinite(seconds) and 0 < seconds <= MAX_TIMEOUT_S):
        raise argparse.ArgumentTypeError(f"{text!r} is out of range: more than 0, at most {MAX_TIMEOUT_S:g} s")
    return seconds
