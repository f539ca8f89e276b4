"""
Accepting: from a listening socket to connections, as fast as the worker may take them and no faster.

One callback takes what waits in the backlog, a bounded number at a time so that live connections get their turn, and
asks before each one whether there is room, since all listeners of a direction share `limits.handshakes`. While there is
none the socket is not watched at all and the kernel's backlog holds the clients; the worker calls `resume` when a place
is free.

Without a file descriptor left, `accept` fails and the socket stays readable: a loop that only retried would spin. One
descriptor is held in reserve, spent to accept and refuse the waiting client, and then the socket rests for a moment.
"""

import asyncio
import errno
import os
import socket
from collections.abc import Callable

from proxy.core.events import Listener
from proxy.net.sockets import ListeningSocket

# So many newcomers in one turn of the loop cost it as many handshakes in the next, while those who relay wait: with 32
# a flood of handshakes raised the latency of a relayed exchange to 80 ms, with 8 to 3 ms, at the same rate.
ACCEPTS_A_TURN = 8
REST_S = 0.1
# The client left while it waited, a signal came, or (Linux) a network error that concerns the new connection alone.
_TRANSIENT = frozenset(
    {
        errno.ECONNABORTED,
        errno.EINTR,
        errno.ENETDOWN,
        errno.EPROTO,
        errno.ENOPROTOOPT,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.EOPNOTSUPP,
        errno.ENETUNREACH,
    }
)  # accept(2), "Error handling"

Take = Callable[[Listener, socket.SocketType, object], None]
_NONE = -1


class Acceptor:
    """
    One listening socket at work.

    has_room: asked before each accept; after a False, `resume` is called when there is room again
    take:    called with the listener, a non-blocking connected socket and the peer's address
    starved: called when a client had to be refused for want of a descriptor
    """

    __slots__ = (
        "_has_room",
        "_kind",
        "_loop",
        "_reserve",
        "_rest",
        "_starved",
        "_take",
        "_watching",
        "listener",
        "listening",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listener: Listener,
        listening: ListeningSocket,
        has_room: Callable[[], bool],
        take: Take,
        starved: Callable[[Listener], None],
    ) -> None:
        self._loop = loop
        self._has_room = has_room
        self._take = take
        self._starved = starved
        self._watching = False
        self._rest: asyncio.TimerHandle | None = None
        self._reserve = _NONE
        self._set_aside()
        sock = listening.sock
        self._kind = int(sock.family), int(sock.type), sock.proto
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what it accepts inherits that
        self.listener = listener
        self.listening = listening

    def resume(self) -> None:
        """Watch the socket (again)."""
        if not self._watching and self._rest is None:
            self._watching = True
            self._loop.add_reader(self.listening.sock.fileno(), self._on_readable)

    def pause(self) -> None:
        """Leave what comes in the backlog."""
        if self._watching:
            self._watching = False
            self._loop.remove_reader(self.listening.sock.fileno())

    def stop(self) -> None:
        """Accept nothing any more. The socket itself stays open; it is its owner's to close."""
        self.pause()
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        self._spend()

    def _on_readable(self) -> None:
        # A SocketType is a socket without what socket.socket adds in Python (files, enums), and `_accept` is what
        # socket.accept() calls: together 150 bytecodes less a connection.
        for _ in range(ACCEPTS_A_TURN):
            if not self._has_room():
                self.pause()
                return
            try:
                fd, address = self.listening.sock._accept()  # type: ignore[attr-defined]
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _TRANSIENT:
                    continue
                self._starve()
                return
            sock = socket.SocketType(*self._kind, fd)
            sock.setblocking(False)
            self._take(self.listener, sock, address)

    def _starve(self) -> None:
        """EMFILE, ENFILE, ENOBUFS, ENOMEM: refuse one client with the reserve, then rest."""
        self._spend()
        try:
            self.listening.sock.accept()[0].close()
        except OSError:
            pass
        self._set_aside()
        self._starved(self.listener)
        self.pause()
        self._rest = self._loop.call_later(REST_S, self._wake)

    def _set_aside(self) -> None:
        try:
            self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._reserve = _NONE  # another thread (a name look-up) was quicker; tried again after the rest

    def _spend(self) -> None:
        if self._reserve != _NONE:
            os.close(self._reserve)
            self._reserve = _NONE

    def _wake(self) -> None:
        self._rest = None
        if self._reserve == _NONE:
            self._set_aside()
        self.resume()
