"""
What is this client about to speak? Found out by looking without taking (MSG_PEEK), before OpenSSL sees the socket.

Nothing is consumed, so nothing has to be pushed back: what is peeked here is read again by OpenSSL, or relayed whole.
The price is that an unread byte keeps the descriptor readable, and a client that sends one byte would spin the loop.
The kernel is told not to wake us before enough bytes are there (SO_RCVLOWAT, set to what the parser says is certain to
be needed). Unix sockets ignore that mark in poll; for them, and for a stream that ended early, there is a pause that
grows.
"""

import asyncio
import select
import socket
from typing import NamedTuple

from proxy.core.clienthello import MAX_HELLO_BYTES, ClientHello, NeedMore, Plaintext, begins_client_hello, detect
from proxy.core.config import Mode
from proxy.core.reasons import Reason, Rejected
from proxy.net.readiness import Readiness

CERTAINLY_TLS_BYTES = 6  # a record header and the type of its first message: what has these is no silence any more
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.01, 0.2


class Opening(NamedTuple):
    """A ClientHello that has begun on a STRICT port, where its contents decide nothing. data: what was peeked of it."""

    data: bytes


async def look(
    readiness: Readiness,
    sock: socket.SocketType,
    mode: Mode,
    *,
    silence_until: float | None,
    deadline: float | None,
) -> ClientHello | Opening | Plaintext:
    """
    Wait until the first bytes of a client tell what it speaks.

    silence_until: PERMISSIVE: loop time at which a client that has said nothing (or too little to be TLS) is taken for
                   plaintext; None in STRICT
    deadline:      loop time for a whole ClientHello; None for no end
    Raises: Rejected(PLAINTEXT_REFUSED | NOT_TLS | HELLO_TOO_LONG | HANDSHAKE_TIMEOUT | CLIENT_LEFT)
    """
    seen, need, pause_s, marked = b"", NeedMore(1), FIRST_PAUSE_S, False
    try:
        while True:
            data = _peek(sock)
            if mode is Mode.STRICT and data is not None and begins_client_hello(data):
                return Opening(data)
            if data is not None and len(data) > len(seen):
                verdict = detect(data, plaintext_allowed=mode is Mode.PERMISSIVE, last=need)
                if not isinstance(verdict, NeedMore):
                    return verdict
                seen, need, pause_s = data, verdict, FIRST_PAUSE_S
            elif data is not None:
                if not data or _has_ended(sock):
                    return _left(seen, mode)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            if need.at_least > 1:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, need.at_least)
                marked = True
            silent = silence_until is not None and len(seen) < CERTAINLY_TLS_BYTES
            try:
                await readiness.readable(sock.fileno(), silence_until if silent else deadline)
            except TimeoutError:
                if silent:
                    return Plaintext("the client said nothing" if not seen else "the client said too little to be TLS")
                raise Rejected(
                    Reason.HANDSHAKE_TIMEOUT, f"{len(seen)} bytes of a ClientHello had come when time was over"
                ) from None
    finally:
        if marked:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)


def _peek(sock: socket.SocketType) -> bytes | None:
    """All that is there, up to the longest hello; b"" at the end of the stream; None when nothing is there yet."""
    try:
        return sock.recv(MAX_HELLO_BYTES, socket.MSG_PEEK)
    except BlockingIOError:
        return None
    except OSError as error:
        raise Rejected(Reason.CLIENT_LEFT, f"the client left before it said anything ({error.strerror})") from None


def _has_ended(sock: socket.SocketType) -> bool:
    """Whether no more bytes will come behind those that lie unread, which `recv` cannot tell."""
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLRDHUP)
    return bool(poll.poll(0))


def _left(seen: bytes, mode: Mode) -> Plaintext:
    if seen and mode is Mode.PERMISSIVE:
        return Plaintext("the client ended its stream before it was a ClientHello")
    raise Rejected(Reason.CLIENT_LEFT, f"the client ended its stream after {len(seen)} bytes, in mid-hello")
