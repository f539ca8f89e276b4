"""
The bare engine: the least a Python relay can do around OpenSSL on the file descriptor.

usage: python -m bench.yardsticks.bare_engine LISTEN UPSTREAM CERT KEY CA 1.2|1.3|any [tickets]

It ends mutual TLS and relays plaintext to UPSTREAM. It checks no identity, knows no policy, sets no deadline, keeps no
half-closed stream, and writes neither log nor metric. What the sidecar costs beyond this program is the sidecar's own.

How it works: a non-blocking socket is handed to OpenSSL, uvloop says when it is readable, and one scratch buffer
serves every connection. A read goes on until OpenSSL wants more or the scratch is nearly full; the write is tried at
once; what the other side did not take is copied aside and stops the reading side until it is gone.
"""

import asyncio
import socket
import sys
from dataclasses import dataclass, field
from typing import Any

import uvloop
from OpenSSL import SSL

SCRATCH_BYTES = 262_144
READ_BOUND_BYTES = SCRATCH_BYTES - 16_384  # one TLS record always still fits, so none is left half-read inside OpenSSL
ACCEPTS_PER_WAKEUP = 64
RELEASE_BUFFERS = 0x10  # SSL_MODE_RELEASE_BUFFERS: an idle connection keeps no record buffers (57 -> 33 KiB)
ERROR_WANT_READ = 2
ERROR_WANT_WRITE = 3
GROUPS = b"X25519:P-256"  # P-256 stands here for the certificates: TLS 1.2 reads this list for those too
SUITES_1_2 = b"ECDHE-ECDSA-AES128-GCM-SHA256"
SUITES_1_3 = b"TLS_AES_128_GCM_SHA256"

lib: Any = SSL._lib  # type: ignore[attr-defined]  # the binding is untyped and not public; a yardstick may
ffi: Any = SSL._ffi  # type: ignore[attr-defined]
ssl_read, ssl_write, ssl_get_error = lib.SSL_read, lib.SSL_write, lib.SSL_get_error


def server_context(cert: str, key: str, ca: str, version: str, *, tickets: bool) -> SSL.Context:
    """A context that demands a client certificate. version: "1.2", "1.3" or "any"."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    least, most = {
        "1.2": (SSL.TLS1_2_VERSION, SSL.TLS1_2_VERSION),
        "1.3": (SSL.TLS1_3_VERSION, SSL.TLS1_3_VERSION),
        "any": (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION),
    }[version]
    context.set_min_proto_version(least)
    context.set_max_proto_version(most)
    context.use_certificate_chain_file(cert)
    context.use_privatekey_file(key)
    context.load_verify_locations(ca)
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
    context.set_cipher_list(SUITES_1_2)
    lib.SSL_CTX_set_ciphersuites(context._context, SUITES_1_3)
    if lib.SSL_CTX_set1_curves_list(context._context, GROUPS) != 1:
        raise SystemExit("bare_engine: this OpenSSL does not know the groups X25519 and P-256")
    context.set_mode(RELEASE_BUFFERS)
    if tickets:
        context.set_session_id(b"bare-engine")
    else:
        context.set_options(SSL.OP_NO_TICKET)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    return context


@dataclass(slots=True)
class Engine:
    """What all relays of one listening socket share. accepted and idle_wakeups are for bench/workers.py."""

    loop: asyncio.AbstractEventLoop
    context: SSL.Context
    upstream: tuple[str, int]
    accepted: int = 0
    idle_wakeups: int = 0
    scratch: memoryview = field(default_factory=lambda: memoryview(bytearray(SCRATCH_BYTES)))

    def accept(self, listener: socket.socket) -> None:
        """Take what waits in the backlog, up to a bound."""
        for taken in range(ACCEPTS_PER_WAKEUP):
            try:
                downstream, _ = listener.accept()
            except BlockingIOError:
                self.idle_wakeups += taken == 0
                return
            downstream.setblocking(False)
            downstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.accepted += 1
            Relay(self, downstream, ffi.from_buffer(self.scratch))


class Relay:
    """One downstream connection and, after its handshake, its upstream."""

    __slots__ = ("connection", "down", "down_fd", "engine", "loop", "pending", "raw", "scratch", "ssl", "up", "up_fd")

    def __init__(self, engine: Engine, downstream: socket.socket, raw: Any) -> None:
        self.engine = engine
        self.loop = engine.loop
        self.scratch = engine.scratch
        self.raw = raw
        self.down = downstream
        self.down_fd = downstream.fileno()
        self.connection: Any = SSL.Connection(engine.context, downstream)
        self.connection.set_accept_state()
        self.ssl = self.connection._ssl
        self.up: Any = None  # a socket once the handshake is done
        self.pending = b""
        self.loop.add_reader(self.down_fd, self.handshake)

    def handshake(self) -> None:
        """Go on with the handshake; once it is done, dial and relay."""
        try:
            self.connection.do_handshake()
        except SSL.WantReadError:
            return
        except (SSL.Error, OSError):
            self.close()
            return
        self.up = up = socket.socket()
        up.setblocking(False)
        up.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.up_fd = up.fileno()
        try:
            up.connect(self.engine.upstream)
        except BlockingIOError:
            pass
        self.loop.add_reader(self.down_fd, self.read_downstream)
        self.loop.add_reader(self.up_fd, self.read_upstream)
        self.read_downstream()

    def read_downstream(self) -> None:
        """TLS in, plaintext out."""
        got, ssl, raw = 0, self.ssl, self.raw
        while got < READ_BOUND_BYTES:
            n = ssl_read(ssl, raw + got, SCRATCH_BYTES - got)
            if n <= 0:
                break
            got += n
        if got:
            try:
                sent = self.up.send(self.scratch[:got])
            except BlockingIOError:
                sent = 0
            except OSError:
                self.close()
                return
            if sent < got:
                self.pending = bytes(self.scratch[sent:got])
                self.loop.remove_reader(self.down_fd)
                self.loop.add_writer(self.up_fd, self.flush_upstream)
                return
        if n <= 0 and ssl_get_error(ssl, n) != ERROR_WANT_READ:
            lib.ERR_clear_error()
            self.close()

    def flush_upstream(self) -> None:
        """The upstream takes bytes again."""
        try:
            sent = self.up.send(self.pending)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self.pending = self.pending[sent:]
        if not self.pending:
            self.loop.remove_writer(self.up_fd)
            self.loop.add_reader(self.down_fd, self.read_downstream)
            self.read_downstream()

    def read_upstream(self) -> None:
        """Plaintext in, TLS out."""
        try:
            got = self.up.recv_into(self.scratch)
        except BlockingIOError:
            return
        except OSError:
            got = 0
        if not got:
            self.close()
            return
        sent, ssl, raw = 0, self.ssl, self.raw
        while sent < got:
            n = ssl_write(ssl, raw + sent, got - sent)
            if n <= 0:
                if ssl_get_error(ssl, n) == ERROR_WANT_WRITE:
                    self.pending = bytes(self.scratch[sent:got])
                    self.loop.remove_reader(self.up_fd)
                    self.loop.add_writer(self.down_fd, self.flush_downstream)
                    return
                lib.ERR_clear_error()
                self.close()
                return
            sent += n

    def flush_downstream(self) -> None:
        """The downstream takes bytes again."""
        pending, sent = self.pending, 0
        raw = ffi.from_buffer(pending)
        while sent < len(pending):
            n = ssl_write(self.ssl, raw + sent, len(pending) - sent)
            if n <= 0:
                if ssl_get_error(self.ssl, n) == ERROR_WANT_WRITE:
                    self.pending = pending[sent:]
                    return
                lib.ERR_clear_error()
                self.close()
                return
            sent += n
        self.loop.remove_writer(self.down_fd)
        self.loop.add_reader(self.up_fd, self.read_upstream)

    def close(self) -> None:
        """Both sides end; twice is once."""
        if self.down_fd < 0:
            return
        self.loop.remove_reader(self.down_fd)
        self.loop.remove_writer(self.down_fd)
        self.down_fd = -1
        self.down.close()
        self.connection = None
        if self.up is not None:
            self.loop.remove_reader(self.up_fd)
            self.loop.remove_writer(self.up_fd)
            self.up.close()


def listen(host: str, port: int, *, reuse_port: bool = False) -> socket.socket:
    """A non-blocking listening socket. reuse_port: further sockets may share the address (SO_REUSEPORT)."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((host, port))
    listener.listen(4096)
    listener.setblocking(False)
    return listener


def address(text: str) -> tuple[str, int]:
    """HOST:PORT as a pair."""
    host, _, port = text.rpartition(":")
    return host, int(port)


async def serve(arguments: list[str]) -> None:
    """Relay until the process ends."""
    listen_at, upstream, cert, key, ca, version, *options = arguments
    context = server_context(cert, key, ca, version, tickets="tickets" in options)
    listener = listen(*address(listen_at))
    loop = asyncio.get_running_loop()
    loop.add_reader(listener.fileno(), Engine(loop, context, address(upstream)).accept, listener)
    await asyncio.Event().wait()


if __name__ == "__main__":
    if len(sys.argv) < 7:
        raise SystemExit(__doc__)
    uvloop.run(serve(sys.argv[1:]))
