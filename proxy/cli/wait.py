"""
`mtls-sidecar wait`: wait until a URL answers with 200, as the postStart hook of a classic sidecar does with /ready.

Kubelet starts the containers of a Pod in their order and waits for each one's hook, so this holds the application until
the sidecar serves. It is plain HTTP, without redirects, and meant for loopback.
"""

import argparse
import http.client
import sys
import time
from urllib.parse import urlsplit

from proxy.cli.arguments import duration_s

EXIT_GOOD = 0
EXIT_FAILED = 1
DEFAULT_URL = "http://127.0.0.1:15021/ready"
ATTEMPT_S = 2.0
PAUSE_S = 0.1

_EXAMPLES = f"""\
examples:
  mtls-sidecar wait                                         # for {DEFAULT_URL}, 60 s
  mtls-sidecar wait --timeout 5 http://127.0.0.1:15000/ready

exit status: 0 it answered with 200; 1 it did not in time, and the last answer is on stderr; 2 a wrong argument
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EXAMPLES
    parser.add_argument("url", nargs="?", default=DEFAULT_URL, type=_url, help=f"default {DEFAULT_URL}")
    parser.add_argument("--timeout", metavar="DURATION", type=duration_s, default=60, help="default 60s")


def _url(text: str) -> str:
    parts = urlsplit(text)
    try:
        good = parts.scheme == "http" and bool(parts.hostname) and (parts.port or 80) > 0 and text.isprintable()
    except ValueError:
        good = False
    if not good or " " in text:
        raise argparse.ArgumentTypeError(f"{text!r} is no URL to wait for: write http://HOST:PORT/PATH")
    return text


def run(args: argparse.Namespace) -> int:
    """Wait; returns the exit status."""
    give_up_at = time.monotonic() + args.timeout
    while True:
        why = _ask(args.url, min(ATTEMPT_S, max(0.05, give_up_at - time.monotonic())))
        if not why:
            return EXIT_GOOD
        if time.monotonic() + PAUSE_S >= give_up_at:
            print(f"mtls-sidecar wait: not ready within {args.timeout} s: {args.url}: {why}", file=sys.stderr)
            return EXIT_FAILED
        time.sleep(PAUSE_S)


def _ask(url: str, within_s: float) -> str:
    """Why the URL does not answer with 200; empty where it does."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=within_s)
    try:
        connection.request("GET", f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}")
        answer = connection.getresponse()
        body = answer.read(400).decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return getattr(error, "strerror", None) or str(error) or type(error).__name__
    finally:
        connection.close()
    return "" if answer.status == http.HTTPStatus.OK else f"{answer.status} {body}"
