"""
Bytes in and out of one socket, in the clear or through TLS. Never waits, never decides who may pass.

Theory of operation. A channel works on a non-blocking socket; whoever owns it waits for readiness (net/readiness.py)
and then asks. The two kinds have one face, so the relay does not know which it holds:

    receive(scratch)  fills the worker's one scratch buffer; 0 means "nothing now", and `end` says when nothing will
    come
    send(...)         hands bytes to the kernel; what was not taken stays with the caller; -1 when the channel is broken
    finish()          ends our direction only (FIN, or close_notify): the other side may go on sending
    close(), reset()  end the connection, in order or with a TCP reset

A reset that comes behind bytes is the hard case. The kernel hands out the bytes first and the error once, to whichever
call asks next, and an event loop may tell of it only once as well (libuv stops watching after EPOLLERR). So the relay
asks for it a moment after the last read (`look_for_error`, SO_ERROR), and each TLS write asks before it begins: OpenSSL
reads nothing more after a write of its own has failed, and the last words of the peer, often an alert, would be lost.
`failed` then says that the channel is to be read on until `end`, without waiting for readiness. The kernel also tells
two resets apart: EPIPE means that the peer's FIN came first, so that what it had to say is whole, and only ECONNRESET
cuts its stream.

An end that comes behind bytes is reported after the bytes: `receive` returns them and sets `end` in the same call,
since no later readiness would announce it. How a stream ended matters more in TLS than in TCP: a FIN without
close_notify may be an attacker's cut (RFC 8446 6.1), so it is TRUNCATED and not CLEAN.

Why TLS works on the descriptor and not on memory BIOs, and why one scratch buffer: measured, see
docs/decisions/0001-engine.md. What the two engines have of their own, and their rules, is in tls/opensslchannel.py and
tls/boringchannel.py; the connection that ends here in an error must not be resumed with either.
"""

import errno
import os
import socket
import struct
from abc import abstractmethod
from enum import Enum
from typing import Any, ClassVar

import msgspec

from proxy.tls.binding import ffi

SCRATCH_BYTES = 262144
ALERT_BASE = 1000  # SSL_R_* of an alert that the peer sent is 1000 + AlertDescription, in both engines
_LINGER_RESET = struct.pack("ii", 1, 0)
_SPLICE_FLAGS = 1 | 2  # SPLICE_F_MOVE | SPLICE_F_NONBLOCK, splice(2)


class End(Enum):
    """How a peer's stream ended."""

    CLEAN = "clean"  # FIN on a plain socket, close_notify on TLS
    TRUNCATED = "truncated"  # FIN without close_notify
    RESET = "reset"  # RST, or a broken connection
    ALERT = "alert"  # the peer sent a fatal alert: `alert` has its number
    PROTOCOL = "protocol"  # the peer broke the TLS protocol


Failure = tuple[End, str, int | None]  # how it ended, in words, and the alert's number


class Scratch:
    """One worker's buffer: everything that is relayed passes through it, so that idle connections own none."""

    __slots__ = ("pointer", "view")

    def __init__(self) -> None:
        buffer = bytearray(SCRATCH_BYTES)
        self.view = memoryview(buffer)
        self.pointer = ffi.from_buffer(buffer)  # a plain char[], which both engines take


class PlainChannel(msgspec.Struct, eq=False):
    """Bytes of a TCP or unix stream socket as they are."""

    sock: socket.SocketType
    fd: int = -1
    end: End | None = None
    end_detail: str = ""
    failed: bool = False
    ending: bool = False  # failed, or ended: what the hot path looks at
    _was_cut: bool = False
    _write_failure: str = "the connection was reset"

    buffered: ClassVar[bool] = False  # everything that came is the kernel's until it is read

    def __post_init__(self) -> None:
        self.fd = self.sock.fileno()

    def receive(self, scratch: Scratch) -> int:
        """Take what is there into scratch[:n]. Returns: n; 0 when nothing is there now or `end` was reached."""
        try:
            n = self.sock.recv_into(scratch.view)
        except BlockingIOError:
            if self.failed:
                self._end(End.RESET, self._write_failure)
            return 0
        except OSError as error:
            self._end(End.RESET, _words(error))
            return 0
        if n == 0:
            # The error was taken by whoever asked before; what is left of a reset then looks like a FIN.
            self._end(End.RESET if self._was_cut else End.CLEAN, self._write_failure if self._was_cut else "")
        return n

    def splice_in(self, pipe: int, most: int) -> int:
        """As `receive`, with the bytes moved into an empty pipe by the kernel and never seen here."""
        try:
            n = os.splice(self.fd, pipe, most, flags=_SPLICE_FLAGS)
        except BlockingIOError:
            if self.failed:
                self._end(End.RESET, self._write_failure)
            return 0
        except OSError as error:
            self._end(End.RESET, _words(error))
            return 0
        if n == 0:
            self._end(End.RESET if self._was_cut else End.CLEAN, self._write_failure if self._was_cut else "")
        return n

    def splice_out(self, pipe: int, length: int) -> int:
        """As `send_bytes`, with bytes that lie in a pipe; what is not taken stays there."""
        try:
            return os.splice(pipe, self.fd, length, flags=_SPLICE_FLAGS)
        except BlockingIOError:
            return 0
        except OSError as error:
            return self._write_failed(error)

    def look_for_error(self) -> bool:
        """Take the error of the socket, if it has one. Returns: whether the channel has failed, now or before."""
        if self.fd >= 0 and (code := self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
            self._fail(code)
        return self.failed

    def _fail(self, error: int) -> None:
        self.failed = self.ending = True
        self._was_cut = error != errno.EPIPE

    def _end(self, end: End, detail: str) -> None:
        if self.end is None:
            self.end, self.end_detail, self.ending = end, detail, True

    def send(self, scratch: Scratch, length: int) -> int:
        """Send scratch[:length]. Returns: the bytes taken; -1 when the channel is broken."""
        return self.send_bytes(scratch.view[:length])

    def send_bytes(self, data: bytes | memoryview) -> int:
        """Send some bytes. Returns: how many were taken; -1 when the channel is broken."""
        try:
            return self.sock.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            return self._write_failed(error)

    def _write_failed(self, error: OSError) -> int:
        self._write_failure = _words(error)
        if not self.failed:
            self._fail(error.errno or errno.ECONNRESET)
        return -1

    def finish(self, *, last: bool = False) -> bool:
        """End our direction; the last one is ended by `close`. Returns: True, always done at once."""
        if not last:
            _shut(self.sock)
        return True

    def close(self) -> None:
        """Close in order; the kernel still delivers what it took."""
        self.sock.close()
        self.fd = -1

    def reset(self) -> None:
        """Close with a TCP reset, so that the peer does not take it for a good end."""
        _reset(self.sock)
        self.fd = -1

    def give_up(self) -> None:
        """After a write failed and everything still readable was read: name the end, if reading has not."""
        self._end(End.RESET, self._write_failure)


class TlsChannel(msgspec.Struct, eq=False):  # a struct, because its constructor is C's
    """
    Bytes through TLS on the socket's descriptor, after a Handshake (tls/handshake.py) is done.

    What an engine adds: `receive`, `_write`, `_say_close_notify` and `_drop`.
    """

    sock: socket.SocketType
    fd: int
    end: End | None = None
    end_detail: str = ""
    alert: int | None = None
    failed: bool = False
    ending: bool = False  # failed, or ended: what the hot path looks at
    _finished: bool = False
    _write_failure: Failure = (End.RESET, "the connection was reset", None)

    @property
    def buffered(self) -> bool:
        """Whether bytes wait on our side of the socket, so that no readiness will tell of them."""
        return False

    @abstractmethod
    def receive(self, scratch: Scratch) -> int:
        """Take what is there into scratch[:n]. Returns: n; 0 when nothing is there now or `end` was reached."""

    def send(self, scratch: Scratch, length: int) -> int:
        """Send scratch[:length]. Returns: the bytes taken; -1 when the channel is broken."""
        return self._write(scratch.pointer, length)

    def send_bytes(self, data: bytes | memoryview) -> int:
        """Send some bytes. Returns: how many were taken; -1 when the channel is broken."""
        return self._write(ffi.from_buffer(data), len(data))

    @abstractmethod
    def _write(self, pointer: Any, length: int) -> int: ...

    def finish(self, *, last: bool = False) -> bool:
        """
        End our direction with close_notify, then FIN. Returns: False when the kernel's buffer is full: ask again later.

        The FIN is for peers that overlook a close_notify (gRPC is one). Source: RFC 8446 6.1
        last: the other direction has ended cleanly, so nothing lies unread: `close` is next, and sends the FIN itself
        """
        if not self._send_close_notify(fin_follows=True):
            return False
        if not last:
            _shut(self.sock)
        return True

    def _send_close_notify(self, *, fin_follows: bool) -> bool:
        if self._finished or self.end in BROKEN or self.look_for_error():
            return True
        self._finished = self._say_close_notify(fin_follows)
        return self._finished

    @abstractmethod
    def _say_close_notify(self, fin_follows: bool) -> bool:
        """
        Returns: False when the kernel has no room for it now.

        fin_follows: it may wait for the FIN and go in one segment with it, so that the peer is woken once. Not where a
                     socket is closed in which bytes may lie unread: a reset would take it along
        """

    def look_for_error(self) -> bool:
        """Take the error of the socket, if it has one. Returns: whether the channel has failed, now or before."""
        if not self.failed and self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.failed = self.ending = True
        return self.failed

    def close(self) -> None:
        """Close in order: close_notify, then FIN; the kernel still delivers what it took."""
        if self.fd < 0:
            return
        self._send_close_notify(fin_follows=False)
        self._free()
        self.sock.close()

    def reset(self) -> None:
        """Close with a TCP reset and without close_notify, so that the peer does not take it for a good end."""
        if self.fd < 0:
            return
        self._free()
        _reset(self.sock)

    def release(self) -> None:
        """Let go of the engine's part and leave the socket open: after a refusal, to let the peer read the alert."""
        if self.fd >= 0:
            self._free()

    def _free(self) -> None:
        self.fd = -1
        self.failed = self.ending = True
        self._drop()

    @abstractmethod
    def _drop(self) -> None:
        """Free what the engine holds; whatever is called after finds nothing there."""

    def _end(self, failure: Failure) -> None:
        if self.end is None:
            (self.end, self.end_detail, self.alert), self.ending = failure, True

    def _broke(self, failure: Failure) -> int:
        self._write_failure = failure
        self.failed = self.ending = True
        return -1

    def give_up(self) -> None:
        """
        After a write failed and everything still readable was read: name the end, if reading has not.

        A peer that refuses us sends its alert first and resets after, so what it said is worth more than "reset".
        """
        if self.end is None or self.end is End.CLEAN:
            (self.end, self.end_detail, self.alert), self.ending = self._write_failure, True


Channel = PlainChannel | TlsChannel

BROKEN = (End.TRUNCATED, End.RESET, End.ALERT, End.PROTOCOL)


RESET: Failure = (End.RESET, "the connection was reset", None)
CUT: Failure = (End.TRUNCATED, "the stream ended without close_notify", None)


def failure_of(reason: int, words: str) -> Failure:
    """What an engine's error (SSL_R_*, its words) says of the stream: an alert that came, or a breach of TLS."""
    if ALERT_BASE < reason < ALERT_BASE + 256:
        alert = reason - ALERT_BASE
        return End.ALERT, f"the peer sent the alert {alert_name(alert)}", alert
    return End.PROTOCOL, words, None


def _words(error: OSError) -> str:
    return error.strerror or str(error)


def _shut(sock: socket.SocketType) -> None:
    try:
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # the peer is gone already, which `receive` reports in its own words


def _reset(sock: socket.SocketType) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
    except OSError:
        pass  # unix sockets have no reset; closing with unread bytes is as near as they get
    sock.close()


ALERTS = {
    0: "close_notify",
    10: "unexpected_message",
    20: "bad_record_mac",
    22: "record_overflow",
    40: "handshake_failure",
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    50: "decode_error",
    51: "decrypt_error",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    90: "user_canceled",
    109: "missing_extension",
    110: "unsupported_extension",
    112: "unrecognized_name",
    113: "bad_certificate_status_response",
    115: "unknown_psk_identity",
    116: "certificate_required",
    120: "no_application_protocol",
}  # RFC 8446 6 and 6.2


def alert_name(alert: int) -> str:
    """The standard's name of an AlertDescription."""
    return ALERTS.get(alert, f"number {alert}")
