"""
`mtls-sidecar webhook`: the injection as a mutating admission webhook over HTTPS.

It logs to stderr as `run` does, one line a review, and reads its certificate again whenever the files change or SIGHUP
comes. Exit status: 0 after SIGTERM; 1 where it cannot listen; 2 where an option or the certificate is bad.
"""

import argparse
import asyncio
import logging
import os
import socket
import sys
from typing import TYPE_CHECKING

from proxy.cli.inject import add_setting_arguments, settings_of
from proxy.core.addresses import AddressFault, parse_endpoint
from proxy.core.config import LogFormat, LogLevel, TcpAddress
from proxy.ops.eventloop import attend_signals, loop_factory, report_bugs
from proxy.ops.log import Log, configure

if TYPE_CHECKING:
    from proxy.pod.webhookserver import ServerCertificate

EXIT_GOOD = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
PROGRAM = "mtls-sidecar webhook"

_EXAMPLES = """\
examples:
  mtls-sidecar webhook --cert /run/tls/tls.crt --key /run/tls/tls.key \\
      --identity csi-driver-spiffe --trust-domain example.org

The API server posts to https://SERVICE.NAMESPACE.svc/inject; which Pods it asks about is decided by the selectors of
the MutatingWebhookConfiguration. The settings are defaults; annotations of a Pod win. docs/injection.md explains.

exit status: 0 after SIGTERM; 1 it cannot listen; 2 a wrong option or a bad certificate
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EXAMPLES
    parser.usage = f"{PROGRAM} --cert FILE --key FILE [OPTIONS] [SETTINGS]"
    parser.add_argument("--cert", metavar="FILE", required=True, help="PEM of the server's certificate and its chain")
    parser.add_argument("--key", metavar="FILE", required=True, help="PEM of its private key")
    parser.add_argument("--client-ca", metavar="FILE", default="", help="require client certificates of this CA")
    parser.add_argument(
        "--listen", metavar="HOST:PORT", type=_address, default="0.0.0.0:8443", help="default 0.0.0.0:8443"
    )
    parser.add_argument(
        "--on-refusal",
        choices=("deny", "warn"),
        default="deny",
        help="a Pod that cannot be injected: deny it (default), or admit it without a sidecar and warn",
    )
    parser.add_argument(
        "--drain-delay",
        metavar="SECONDS",
        type=_seconds,
        default=5.0,
        help="after SIGTERM: not ready, but still serving, for this long; default 5",
    )
    parser.add_argument("--log-level", choices=list(LogLevel), default=LogLevel.INFO, type=LogLevel)
    parser.add_argument("--log-format", choices=list(LogFormat), default=LogFormat.JSON, type=LogFormat)
    add_setting_arguments(parser)


def _address(text: str) -> TcpAddress:
    try:
        address = parse_endpoint(text)
    except AddressFault as fault:
        raise argparse.ArgumentTypeError(f"{text!r}: {fault}") from None
    if not isinstance(address, TcpAddress):
        raise argparse.ArgumentTypeError(f"{text!r}: write HOST:PORT")
    return address


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r}: write a number of seconds from 0 to 3600")
    return seconds


def run(args: argparse.Namespace) -> int:
    """Serve; returns the exit status."""
    try:
        from proxy.pod import webhookserver
    except ModuleNotFoundError as missing:
        print(f"{PROGRAM}: {missing.name} is not installed: pip install 'mtls-sidecar[kubernetes]'", file=sys.stderr)
        return EXIT_USAGE
    try:
        certificate = webhookserver.ServerCertificate(
            webhookserver.CertificateFiles(args.cert, args.key, args.client_ca)
        )
    except webhookserver.CertificateFault as fault:
        print(f"{PROGRAM}: {fault}", file=sys.stderr)
        return EXIT_USAGE
    try:
        sock = _listen(args.listen)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        print(f"{PROGRAM}: cannot listen on {args.listen}: {why}", file=sys.stderr)
        return EXIT_FAILED
    log = configure(args.log_level, args.log_format, sys.stderr)
    try:
        with asyncio.Runner(loop_factory=loop_factory("uvloop")) as runner:
            runner.run(_serve(args, certificate, sock, log))
    finally:
        sock.close()
        log.close()
    return EXIT_GOOD


def _listen(address: TcpAddress) -> socket.socket:
    family, *_ = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    both = address.host == "::" and socket.has_dualstack_ipv6()
    return socket.create_server((address.host, address.port), family=family, backlog=128, dualstack_ipv6=both)


async def _serve(args: argparse.Namespace, certificate: "ServerCertificate", sock: socket.socket, log: Log) -> None:
    from proxy.pod.admission import OnRefusal
    from proxy.pod.webhook import Webhook
    from proxy.pod.webhookserver import WebhookServer

    report_bugs(log)
    _forward_logging(log)
    webhook = Webhook(settings_of(args), OnRefusal(args.on_refusal), log)
    server = WebhookServer(webhook, certificate, sock, log)
    attend_signals(
        leave=lambda: server.leave(args.drain_delay),
        leave_at_once=lambda: os._exit(EXIT_FAILED),
        look=server.look,
    )
    host, port = sock.getsockname()[:2]
    log.info("listening", address=str(TcpAddress(host, port)), path="/inject")
    await server.run()
    log.info("drained")


class _Forward(logging.Handler):
    """What a library says by `logging`, as lines of the log."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.warning("notice", detail=f"{record.name}: {record.getMessage()}")


def _forward_logging(log: Log) -> None:
    logging.getLogger("uvicorn").addHandler(_Forward(log))
