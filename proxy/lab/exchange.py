"""
One connection of a generator, from its (intended) start to its end: connect, handshake, ask, accepted, finish.

The end of our side of the handshake is not success. Accepted is what the server alone can say: the first byte of its
answer; where nothing is asked, its session ticket (or first byte) in TLS 1.3, and in TLS 1.2 its Finished, which it
sends after it has judged the client. An orderly end follows (RFC 8446 6.1): close_notify, then the server's end is
waited for, so that closing is paid for inside the measurement and no port of this machine stays in TIME_WAIT.
"""

import errno
import socket
from enum import Enum

from proxy.core.reasons import Reason, Rejected
from proxy.lab.plan import Plan
from proxy.tls.loadclient import LoadConnection, Want

_READ_BYTES = 4096


class State(Enum):
    """Where a connection is on its way."""

    SHAKING = "shaking"
    ASKED = "asked"
    ACCEPTED = "accepted"
    FINISHING = "finishing"
    OVER = "over"


class Exchange:
    """A connection on its way; `advance` goes as far as it goes without waiting."""

    __slots__ = ("connection", "fd", "intended_s", "plan", "priming", "state", "want")

    def __init__(self, plan: Plan, connection: LoadConnection, intended_s: float, *, priming: bool) -> None:
        self.plan = plan
        self.connection = connection
        self.fd = connection.sock.fileno()
        self.intended_s = intended_s
        self.priming = priming  # a full handshake that only makes a session
        self.state = State.SHAKING
        self.want = Want.WRITE

    def advance(self) -> State:
        """Go on. Raises: Rejected until the server has accepted; after that every end is an end."""
        if self.state is State.SHAKING:
            self._shake()
        if self.state is State.ASKED:
            self._listen()
        elif self.state is State.FINISHING and self._has_ended():
            self.state = State.OVER
        return self.state

    def finish(self) -> None:
        """Say that no more will come, where that was not said yet, and wait for the server's end."""
        if not self._says_farewell:
            self.connection.finish()
        self.state = State.FINISHING

    @property
    def _says_farewell(self) -> bool:
        plan = self.plan
        return plan.farewell and not plan.request and plan.offer.version == "1.3"

    def why_late(self) -> Rejected:
        """What it means that the server has not accepted in time."""
        if self.state is State.ASKED:
            if not self.plan.request:
                return Rejected(
                    Reason.HANDSHAKE_TIMEOUT,
                    "the client was done, but neither a session ticket nor a byte came: nothing says that the server "
                    "has accepted it. Where the server sends no tickets, let the client ask for a byte (--send)",
                )
            return Rejected(Reason.UPSTREAM_TIMEOUT, "no byte came back for what was sent after the handshake")
        if self.want is Want.WRITE:
            return Rejected(Reason.UPSTREAM_TIMEOUT, "the server did not accept the TCP connection")
        return Rejected(Reason.HANDSHAKE_TIMEOUT, "the server did not go on with the handshake")

    def _shake(self) -> None:
        connection = self.connection
        self.want = connection.handshake()
        if self.want is not Want.NOTHING:
            return
        self.want = Want.READ
        self.state = State.ASKED
        if self.plan.request:
            connection.write(self.plan.request)
        elif self.plan.offer.version == "1.2":
            self.state = State.ACCEPTED
        elif self._says_farewell:
            connection.finish()

    def _listen(self) -> None:
        connection = self.connection
        answer = connection.read(_READ_BYTES)
        if answer or (not self.plan.request and connection.ticket_has_come()):
            self.state = State.ACCEPTED
        elif answer == b"":
            raise Rejected(Reason.UPSTREAM_REJECTED_US, "the server ended the connection before it had sent anything")

    def _has_ended(self) -> bool:
        try:
            while (answer := self.connection.read(_READ_BYTES)) is not None:
                if not answer:
                    return True
        except Rejected:
            return True  # it has accepted before: how it ends is its own affair
        return False


def begin_connecting(family: socket.AddressFamily, address: tuple[str, int]) -> socket.socket:
    """
    A non-blocking socket that is on its way to a numeric address.

    Raises: OSError when this machine lacks something (descriptors, ports); what the other side does is seen later
    """
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        error = sock.connect_ex(address)
        if error in (errno.EADDRNOTAVAIL, errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM):
            raise OSError(error, "no local port is free")
    except BaseException:
        sock.close()
        raise
    return sock
