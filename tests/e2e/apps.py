"""
Applications and clients of a few lines: what stands behind an inbound listener, and what calls through an outbound one.

An `App` serves each connection in a thread of its own by one function over a plain blocking socket, and counts what it
accepted, so that a test can say that a refused peer never reached it.
"""

import contextlib
import socket
import threading
from collections.abc import Callable

from tests.e2e.waiting import HOST, PATIENCE_S, Address

Serve = Callable[[socket.socket], None]


def echo(sock: socket.socket) -> None:
    """Send back every byte, then end our direction when the peer has ended its own."""
    while data := sock.recv(65536):
        sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)


def saying(data: bytes) -> Serve:
    """An app that speaks first: it says this, reads until the peer's end, and leaves."""

    def serve(sock: socket.socket) -> None:
        sock.sendall(data)
        while sock.recv(65536):
            pass

    return serve


def http_hello(sock: socket.socket) -> None:
    """Answer one HTTP/1.1 request with the bytes `hello`."""
    request = b""
    while b"\r\n\r\n" not in request:
        if not (data := sock.recv(65536)):
            return
        request += data
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")


class App:
    """
    A listening application; leave the `with` block and it is gone, its connections included.

    listener: where it listens, for instance in another network namespace; by default on a free address
    """

    def __init__(self, serve: Serve, listener: socket.socket | None = None) -> None:
        self._serve = serve
        self._listener = listener or socket.create_server((HOST, 0))
        self._open: set[socket.socket] = set()
        self._serving: list[threading.Thread] = []
        self.accepted = 0
        self.address: Address = self._listener.getsockname()[:2]
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def __enter__(self) -> "App":
        return self

    def __exit__(self, *_: object) -> None:
        # By shutdown, since closing a socket does not wake the thread that waits in it. Threads are waited for, or the
        # next test in this process would see their sockets go.
        _shut(self._listener)
        self._accepting.join(PATIENCE_S)
        self._listener.close()
        for sock in list(self._open):
            _shut(sock)
        for thread in self._serving:
            thread.join(PATIENCE_S)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.accepted += 1
                self._open.add(sock)
                thread = threading.Thread(target=self._live, args=(sock,), daemon=True)
                self._serving.append(thread)
                thread.start()

    def _live(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            self._serve(sock)
        self._open.discard(sock)


def exchange(address: Address, data: bytes, *, expect: int | None = None) -> bytes:
    """
    Send `data` in plaintext while reading, and close as soon as `expect` bytes (by default as many) have come.

    Returns: what came, all the same when the peer ended or reset the connection before that
    """
    expect = len(data) if expect is None else expect
    received = b""
    # Around the connect as well: who is refused at once may be reset before connect(2) has returned.
    with (
        contextlib.suppress(ConnectionResetError, BrokenPipeError),
        socket.create_connection(address, timeout=PATIENCE_S) as sock,
    ):
        sender = threading.Thread(target=_send, args=(sock, data), daemon=True)
        sender.start()
        try:
            while len(received) < expect and (more := sock.recv(65536)):
                received += more
        finally:
            sender.join(PATIENCE_S)
    return received


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _send(sock: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):
        sock.sendall(data)
