"""
`mtls-sidecar dev`: the sidecar in front of a service on this machine, certificates included, at once.

It mints a development CA and short-lived SVIDs (devstate.py), writes a real configuration beside them, runs the sidecar
on it as a child, says which curl line to try (devwords.py), and replaces the SVIDs on disk at half of their life; the
sidecar takes them up by itself, as it does in production. Without --upstream it brings a small service of its own.

Exit status: 0 drained after Ctrl-C or SIGTERM; 1 it cannot start, or the sidecar ended by itself; 2 a wrong argument.
"""

import argparse
import random
import sys
from pathlib import Path

from proxy.cli.arguments import MAX_DURATION_S, duration_s
from proxy.core.addresses import AddressFault, parse_listen, parse_upstream
from proxy.core.config import Mode, TcpAddress, UpstreamAddress
from proxy.core.reasons import Rejected
from proxy.core.spiffe import IdPattern, PatternFault, SpiffeId, parse_pattern, parse_workload_id

DEFAULT_LISTEN = TcpAddress("127.0.0.1", 8443)
DEFAULT_ADMIN = TcpAddress("127.0.0.1", 15000)
DEFAULT_STATE = Path(".mtls-sidecar-dev")
DEFAULT_ID = "spiffe://dev.local/ns/dev/sa/app"
DEFAULT_CLIENT_PATH = "/ns/dev/sa/client"
MIN_TTL_S = 4  # the sidecar looks every second, and X.509 counts in whole ones
MAX_TTL_S = MAX_DURATION_S // 10

EXAMPLES = """\
examples:
  mtls-sidecar dev                                       with a small service of its own, to look around
  mtls-sidecar dev --upstream 127.0.0.1:8000             in front of yours
  mtls-sidecar dev --upstream 127.0.0.1:8000 --mode PERMISSIVE
  mtls-sidecar dev --upstream 127.0.0.1:8000 --allow 'spiffe://dev.local/ns/shop/**' \\
                   --client-id spiffe://dev.local/ns/shop/sa/cart

The state folder is .mtls-sidecar-dev in the working directory: each project has its own CA, which the next start takes
up again. The folder is private (0700) and keeps itself out of git. `mtls-sidecar run --config STATE/sidecar.yaml`
goes on without `dev`, for as long as the SVIDs last.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--upstream", metavar="HOST:PORT", type=_upstream, help="your service (default: a small one of its own)"
    )
    parser.add_argument(
        "--listen",
        metavar="HOST:PORT",
        type=_listen,
        help=f"where the sidecar listens (default: {DEFAULT_LISTEN}, or a free port where that is taken)",
    )
    parser.add_argument(
        "--admin",
        metavar="HOST:PORT",
        type=_listen,
        help=f"the admin endpoint (default: {DEFAULT_ADMIN}, or a free port where that is taken)",
    )
    parser.add_argument(
        "--mode",
        type=_mode,
        default=Mode.STRICT,
        help="STRICT (mutual TLS), PERMISSIVE (plaintext as well) or DISABLE (bytes as they come); default: STRICT",
    )
    parser.add_argument(
        "--state", metavar="DIR", type=Path, default=DEFAULT_STATE, help="state folder (default: %(default)s)"
    )
    parser.add_argument(
        "--ttl",
        metavar="SECONDS",
        type=_ttl_s,
        default="1h",
        help="life of an SVID, also as 30m or 1h; a new one comes at half of it (default: %(default)s)",
    )
    parser.add_argument(
        "--allow",
        metavar="PATTERN",
        type=_pattern,
        nargs="+",
        action="extend",
        help="who may call, e.g. 'spiffe://dev.local/ns/*/sa/cart' (default: everybody of the trust domain)",
    )
    parser.add_argument(
        "--spiffe-id",
        metavar="ID",
        type=_spiffe_id,
        default=DEFAULT_ID,
        help="the service's SPIFFE ID; its trust domain is that of the CA (default: %(default)s)",
    )
    parser.add_argument(
        "--client-id",
        metavar="ID",
        type=_spiffe_id,
        help=f"the SPIFFE ID of the client to try it with (default: {DEFAULT_CLIENT_PATH} of the same trust domain)",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C. Returns: the exit status."""
    from proxy.cli.devserver import DevServer, Plan  # here, so that --help needs neither OpenSSL nor YAML
    from proxy.cli.devstate import DevFault, open_state

    service_id: SpiffeId = args.spiffe_id
    domain = f"spiffe://{service_id.trust_domain}"
    client_id: SpiffeId = args.client_id or parse_workload_id(domain + DEFAULT_CLIENT_PATH)
    try:
        if client_id.trust_domain != service_id.trust_domain:
            raise DevFault(f"--client-id {client_id} is not of the trust domain of --spiffe-id: write {domain}/...")
        plan = Plan(
            upstream=args.upstream,
            listen=args.listen or DEFAULT_LISTEN,
            may_move=args.listen is None,
            admin=args.admin or DEFAULT_ADMIN,
            admin_may_move=args.admin is None,
            mode=args.mode,
            service_id=service_id,
            client_id=client_id,
            allow=tuple(args.allow or [parse_pattern(f"{domain}/**")]),
            ttl_s=args.ttl,
        )
        with open_state(args.state, random.SystemRandom().uniform) as state:
            return DevServer(plan, state).run()
    except DevFault as fault:
        print(f"mtls-sidecar dev: {fault}", file=sys.stderr)
        return 1


def _upstream(text: str) -> UpstreamAddress:
    try:
        return parse_upstream(text)
    except AddressFault as fault:
        raise argparse.ArgumentTypeError(f"{text!r}: {fault}") from None


def _listen(text: str) -> TcpAddress:
    try:
        address = parse_listen(text)
    except AddressFault as fault:
        raise argparse.ArgumentTypeError(f"{text!r}: {fault}") from None
    if not isinstance(address, TcpAddress):
        raise argparse.ArgumentTypeError(
            f"{text!r}: `dev` listens on HOST:PORT; write a configuration for other sockets"
        )
    return address


def _mode(text: str) -> Mode:
    try:
        return Mode(text.upper())
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no mode: STRICT takes mutual TLS alone, PERMISSIVE plaintext as well, DISABLE relays bytes "
            "as they come"
        ) from None


def _ttl_s(text: str) -> int:
    seconds = duration_s(text)
    if not MIN_TTL_S <= seconds <= MAX_TTL_S:
        raise argparse.ArgumentTypeError(f"{text!r} is out of range: {MIN_TTL_S} s to 10 years; try 1h")
    return seconds


def _pattern(text: str) -> IdPattern:
    try:
        return parse_pattern(text)
    except PatternFault as fault:
        raise argparse.ArgumentTypeError(str(fault)) from None


def _spiffe_id(text: str) -> SpiffeId:
    try:
        return parse_workload_id(text)
    except Rejected as rejected:
        raise argparse.ArgumentTypeError(rejected.detail) from None
