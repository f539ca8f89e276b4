"""
`mtls-sidecar report plaintext`: who still speaks plaintext, and whether STRICT is safe now.

Here are the arguments and the order of things; reportsources.py reads, core/strictness.py judges, reportwords.py says
it. Exit status: 0 STRICT is safe for every listener; 1 it is not, or too little is known; 2 a wrong argument, or a
source that cannot be read.
"""

import argparse
import contextlib
import ipaddress
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from proxy.cli.arguments import duration_s
from proxy.cli.reportsources import SourceFault, Taken, fetch, is_url, take, take_fetched
from proxy.core.plaintext import Evidence, Grouping, Network
from proxy.core.strictness import Verdict, judge
from proxy.ops.boundedread import read_bounded
from proxy.ops.plaintextsources import names_of
from proxy.ops.printable import printable

_EXAMPLES = """\
examples:
  mtls-sidecar report plaintext http://127.0.0.1:15000                 # the admin endpoint: sums, and who is open now
  kubectl logs --prefix --since 30h --tail -1 -l app=orders -c mtls-sidecar | mtls-sidecar report plaintext -
  mtls-sidecar report plaintext --window 7d /var/log/orders/*.log      # a job that runs once a week counts too
  mtls-sidecar report plaintext --group-by prefix --ignore 10.0.0.0/24 orders.log
  kubectl get pods -A --no-headers -o custom-columns=:.status.podIP,:.metadata.namespace,:.metadata.name >pods.txt
  mtls-sidecar report plaintext --names pods.txt orders.log

A source is http://HOST:PORT or unix:/PATH (admin: /metrics and /connections; health: /metrics), a URL of one of these
pages, a file with a JSON log or with what such a page showed, or - for standard input. Logs say who; metrics are exact
about whether.

exit status: 0 STRICT is safe for every listener; 1 it is not, or too little is known to say; 2 a wrong argument, or a
source that cannot be read (what the others say is printed all the same)
"""
ASKED_AT_ONCE = 16  # endpoints; a fleet has hundreds, and some of them are always gone
MAX_NAMES_BYTES = 32 * 1024 * 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the one report that there is."""
    subparsers = parser.add_subparsers(dest="report_command", metavar="REPORT", required=True)
    plaintext = subparsers.add_parser(
        "plaintext",
        help="who still speaks plaintext, and whether STRICT is safe now",
        description="Says who still speaks plaintext to which listener, since when, and whether STRICT is safe now.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    plaintext.add_argument("sources", metavar="SOURCE", nargs="+", help="URLs, files, or - for standard input")
    plaintext.add_argument(
        "--window",
        metavar="DURATION",
        type=duration_s,
        default="24h",
        help="how long nobody may have spoken plaintext, and how much has to have been observed; default: %(default)s",
    )
    plaintext.add_argument(
        "--group-by",
        metavar="WHAT",
        type=_grouping,
        default="address",
        help="clients are told apart by address, prefix (/24 and /64) or prefix=V4/V6; default: %(default)s",
    )
    plaintext.add_argument(
        "--ignore",
        metavar="CIDR",
        type=_network,
        action="append",
        default=[],
        help="clients whose plaintext does not matter, e.g. scanners; may be repeated",
    )
    plaintext.add_argument("--names", metavar="FILE", help="what to call addresses: lines of ADDRESS NAME")
    plaintext.add_argument("--json", action="store_true", help="one JSON document instead of text")
    plaintext.set_defaults(run_report=_plaintext)


def run(args: argparse.Namespace) -> int:
    """Run the chosen report; returns the exit status."""
    status: int = args.run_report(args)
    return status


def _plaintext(args: argparse.Namespace) -> int:
    from proxy.cli.reportwords import Findings, as_json, as_text

    now = time.time()  # noqa: TID251  a command has the clock of its caller
    evidence = Evidence(args.group_by, args.ignore)
    names, faults = _names(args.names)
    taken: list[Taken] = []
    with _progress() as advance, ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        sources = list(dict.fromkeys(args.sources))
        asked = {source: pool.submit(fetch, source, now) for source in sources if is_url(source)}
        for source in sources:
            try:
                if source in asked:
                    taken.append(take_fetched(source, asked[source].result(), evidence))
                else:
                    taken.append(take(source, evidence, now, advance))
            except SourceFault as fault:
                faults.append(f"{source}: {fault}")
    verdicts = judge(evidence, now=now, window_s=args.window)
    findings = Findings(now, args.window, verdicts, taken, faults, evidence.ignored_connections, names)
    if args.json:
        print(as_json(findings))
    elif taken:
        print(as_text(findings, sys.stdout))
    for sentence in faults:
        print(f"mtls-sidecar report: {printable(sentence)}", file=sys.stderr)
    if faults:
        return 2
    return 0 if findings.verdict is Verdict.SAFE else 1


def _names(path: str | None) -> tuple[dict[str, str], list[str]]:
    if path is None:
        return {}, []
    try:
        text = read_bounded(path, MAX_NAMES_BYTES)
    except (OSError, ValueError) as error:
        return {}, [f"--names {path}: {getattr(error, 'strerror', None) or error}"]
    if len(text) > MAX_NAMES_BYTES:
        return {}, [f"--names {path}: longer than {MAX_NAMES_BYTES} bytes"]
    return names_of(text.decode(errors="replace")), []


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int], object]]:
    """A bar on a terminal where tqdm is installed (the image has none), silence elsewhere."""
    with contextlib.ExitStack() as stack:
        advance: Callable[[int], object] = _nothing
        if sys.stderr.isatty():
            with contextlib.suppress(ImportError):
                from tqdm import tqdm

                bar = tqdm(unit="B", unit_scale=True, desc="reading", delay=1, leave=False, file=sys.stderr)
                advance = stack.enter_context(bar).update
        yield advance


def _nothing(_size: int) -> None:
    pass


def _grouping(text: str) -> Grouping:
    if text == "address":
        return Grouping()
    if text == "prefix":
        return Grouping(24, 64)
    bits: Sequence[str] = text.removeprefix("prefix=").split("/") if text.startswith("prefix=") else ()
    if len(bits) == 2 and all(part.isascii() and part.isdigit() and len(part) <= 3 for part in bits):
        v4, v6 = int(bits[0]), int(bits[1])
        if v4 <= 32 and v6 <= 128:
            return Grouping(v4, v6)
    raise argparse.ArgumentTypeError(f"{text!r} is no grouping: write address, prefix, or prefix=16/48 (IPv4/IPv6)")


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no network: {error}") from None
