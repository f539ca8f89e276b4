"""
A small HTTP service that says who called it: the app behind the sidecar in `demo`, and in `dev` without --upstream.

It learns who called from the PROXY v2 header that the sidecar sends before the first byte (`proxy_protocol: v2-tls`),
as an app of a user would. Whoever connects without one is turned away, since a header is all that it believes.

It is a program of its own (`python -m proxy.cli.sampleapp`): it takes a free port on loopback, says so in one line of
JSON on stderr, and ends when its standard input does, so that it never outlives the command that started it.
"""

import http.server
import json
import os
import signal
import sys
import threading
from typing import Any

from proxy.core.clienthello import NeedMore
from proxy.core.proxyheader import Header, ProxyHeaderError, decode
from proxy.core.proxyprotocol import IpEndpoint

MODULE = "proxy.cli.sampleapp"
LISTENING = "sample app listening"
_IDLE_S = 300.0
_MAX_BODY_BYTES = 1 << 20


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._lock = threading.Lock()
        self._connections = 0

    def next_connection(self) -> int:
        with self._lock:
            self._connections += 1
            return self._connections

    def handle_error(self, *_: object) -> None:
        """A connection that broke is an everyday thing, and the sidecar's log has it."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_S
    disable_nagle_algorithm = True
    server: _Server

    def handle(self) -> None:
        """One connection: its PROXY header, then its requests."""
        try:
            self._caller = _read_header(self.rfile)
        except ProxyHeaderError:
            self.wfile.write(b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            return
        self._number = self.server.next_connection()
        super().handle()

    def _answer(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if not (length.isdecimal() and int(length) <= _MAX_BODY_BYTES) or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # a body that is not read must not be taken for the next request
        else:
            self.rfile.read(int(length))
        body = json.dumps(self._description(), indent=2).encode() + b"\n"
        self.send_response(http.HTTPStatus.OK)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815  # http.server finds them by these names

    def _description(self) -> dict[str, Any]:
        tls, source = self._caller.tls, self._caller.source
        return {
            "caller": tls.spiffe_id if tls else None,
            "address": f"{source.address}:{source.port}" if isinstance(source, IpEndpoint) else None,
            "security": "mutual_tls" if tls else "plaintext",
            "tls_version": tls.version if tls else None,
            "cipher": tls.cipher if tls else None,
            "group": tls.group if tls else None,
            "request": f"{self.command} {self.path}",
            "connection": self._number,
        }

    def version_string(self) -> str:
        return "mtls-sidecar-sample-app"

    def log_message(self, *_: object) -> None:
        """Nothing: the sidecar logs."""


def _read_header(stream: Any) -> Header:
    """Read exactly the header, nothing beyond. Raises: ProxyHeaderError."""
    data = b""
    while isinstance(header := decode(data), NeedMore):
        more = stream.read(header.at_least - len(data))
        if not more:
            raise ProxyHeaderError("the stream ended before its PROXY header did")
        data += more
    return header


def main() -> int:
    """Serve until standard input ends."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    server = _Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"event": LISTENING, "port": server.server_address[1]}), file=sys.stderr, flush=True)
    while os.read(sys.stdin.fileno(), 4096):
        pass
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
