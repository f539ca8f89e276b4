"""
One client process with connections that stay open: opened with one byte each way, then asked, filled, drained, closed.

What is measured here is relaying, so every connection is established before the clock starts, and every answer is
compared with its request. A connection is plaintext or TLS; both have the same face, that of tls/loadclient.py. Words
of the app behind are those of lab/appprocess.py. No wait is without a bound: an order in which nothing happens for
STALL_S fails.
"""

import os
import select
import socket
import time
from typing import Any, Protocol

from proxy.core.reasons import Reason, Rejected
from proxy.lab.exchange import begin_connecting
from proxy.lab.latencies import Latencies
from proxy.tls.loadclient import LoadConnection, LoadContext, Want

STALL_S = 20.0
CHUNK_BYTES = 262_144
FAREWELL_S = 5.0


class Stream(Protocol):
    """What a connection can do; LoadConnection has it for TLS."""

    sock: socket.socket

    def handshake(self) -> Want: ...
    def read(self, size: int) -> bytes | None: ...
    def read_into(self, buffer: memoryview) -> int | None: ...
    def write(self, data: bytes | memoryview) -> int: ...
    def finish(self) -> None: ...
    def close(self) -> None: ...


class PlainStream:
    """A connection without TLS."""

    __slots__ = ("sock",)

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def handshake(self) -> Want:
        """Whether it is connected. Raises: Rejected"""
        if not select.select([], [self.sock], [], 0)[1]:
            return Want.WRITE
        error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise Rejected(
                Reason.UPSTREAM_REFUSED, f"nothing accepts connections at this address: {os.strerror(error)}"
            )
        return Want.NOTHING

    def read(self, size: int) -> bytes | None:
        """Up to `size` bytes; None: nothing now; b"": the end. Raises: Rejected"""
        try:
            return self.sock.recv(size)
        except BlockingIOError:
            return None
        except OSError as error:
            raise _torn(error) from None

    def read_into(self, buffer: memoryview) -> int | None:
        """As read, into the caller's buffer."""
        try:
            return self.sock.recv_into(buffer)
        except BlockingIOError:
            return None
        except OSError as error:
            raise _torn(error) from None

    def write(self, data: bytes | memoryview) -> int:
        """Send. Returns: how many bytes were taken. Raises: Rejected"""
        try:
            return self.sock.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise _torn(error) from None

    def finish(self) -> None:
        """No more will come from us."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the other side was faster

    def close(self) -> None:
        """Free it."""
        self.sock.close()


def _torn(error: OSError) -> Rejected:
    return Rejected(Reason.RESET, f"the connection broke: {error.strerror or error}")


class StreamLoop:
    """The open connections to one address. context: None for plaintext"""

    def __init__(
        self, family: socket.AddressFamily, address: tuple[str, int], context: LoadContext | None, message_bytes: int
    ) -> None:
        self._family, self._address, self._context = family, address, context
        self._held: list[Stream] = []
        # The first byte asks the app to echo from there on; the rest is nothing that a relay could compress or guess.
        self._request = b"E" + os.urandom(message_bytes - 1)

    @property
    def is_open(self) -> bool:
        """Whether a connection is held."""
        return bool(self._held)

    @property
    def negotiated(self) -> Any:
        """What the first held connection settled on; None for plaintext."""
        first = self._held[0] if self._held else None
        return first.negotiated() if isinstance(first, LoadConnection) else None

    def open(self, count: int, in_flight: int) -> Latencies:
        """Open so many more, each with one byte each way. Returns: how long each took. Raises: Rejected, OSError"""
        latencies, begun = Latencies(), 0
        live: dict[int, tuple[Stream, float]] = {}
        shaken: set[int] = set()
        with select.epoll() as poll:
            try:
                while begun < count or live:
                    while begun < count and len(live) < in_flight:
                        began_s = time.monotonic()
                        stream = self._begin()
                        begun += 1
                        live[stream.sock.fileno()] = stream, began_s
                        poll.register(stream.sock.fileno(), select.EPOLLOUT)
                    for fd, _ in _events(poll, f"of {count} connections {count - begun + len(live)} are not open"):
                        stream, began_s = live[fd]
                        if self._advance(stream, fd, shaken, poll):
                            latencies.record(time.monotonic() - began_s)
                            poll.unregister(fd)
                            del live[fd]
                            self._held.append(stream)
            finally:
                for stream, _ in live.values():
                    stream.close()
        return latencies

    def requests(self, seconds: float) -> tuple[Latencies, float]:
        """
        Keep one request in flight on each connection.

        Returns: how long each took; the seconds until the last answer. Raises: Rejected
        """
        latencies, request = Latencies(), self._request
        size = len(request)
        streams = {stream.sock.fileno(): stream for stream in self._held}
        answers = dict.fromkeys(streams, b"")
        asked_s = dict[int, float]()
        with select.epoll() as poll:
            start_s = time.monotonic()
            for fd, stream in streams.items():
                poll.register(fd, select.EPOLLIN)
                asked_s[fd] = time.monotonic()
                _send_whole(stream, request)
            open_ = len(streams)
            while open_:
                for fd, _ in _events(poll, f"after {latencies.count} answers none came"):
                    stream = streams[fd]
                    while (got := stream.read(size - len(answers[fd]))) is not None:
                        if not got:
                            raise Rejected(Reason.CLIENT_LEFT, "the server ended a connection in the middle")
                        answers[fd] += got
                        if len(answers[fd]) < size:
                            continue
                        now = time.monotonic()
                        if answers[fd] != request:
                            raise Rejected(Reason.HANDSHAKE_FAILED, "an answer differs from its request")
                        latencies.record(now - asked_s[fd])
                        answers[fd] = b""
                        if now - start_s >= seconds:
                            open_ -= 1
                            break
                        asked_s[fd] = now
                        _send_whole(stream, request)
        return latencies, time.monotonic() - start_s

    def upload(self, size: int) -> float:
        """`size` bytes to the app, done when it says that it has them all. Returns: seconds. Raises: Rejected"""
        stream, chunk, left = self._held[0], memoryview(bytes(CHUNK_BYTES)), size
        start_s = time.monotonic()
        with select.epoll() as poll:
            poll.register(stream.sock.fileno(), select.EPOLLOUT)
            _send_whole(stream, b"S" + size.to_bytes(8, "big"))
            while left:
                taken = stream.write(chunk[: min(left, CHUNK_BYTES)])
                left -= taken
                if not taken:
                    _events(poll, f"the server takes no more with {left} bytes left")
            poll.modify(stream.sock.fileno(), select.EPOLLIN)
            while (answer := stream.read(1)) is None:
                _events(poll, "the app did not acknowledge what was sent")
        if answer != b"K":
            raise Rejected(Reason.TRUNCATED, "the app did not receive all that was sent")
        return time.monotonic() - start_s

    def download(self, size: int) -> float:
        """`size` bytes from the app. Returns: seconds. Raises: Rejected"""
        stream, scratch, left = self._held[0], memoryview(bytearray(CHUNK_BYTES)), size
        start_s = time.monotonic()
        with select.epoll() as poll:
            poll.register(stream.sock.fileno(), select.EPOLLIN)
            _send_whole(stream, b"G" + size.to_bytes(8, "big"))
            while left:
                got = stream.read_into(scratch)
                if got == 0:
                    raise Rejected(Reason.TRUNCATED, f"the connection ended {left} bytes early")
                if got is None:
                    _events(poll, f"nothing more came with {left} bytes left")
                else:
                    left -= got
        return time.monotonic() - start_s

    def close(self) -> None:
        """End all in order, and wait a while for the server's ends."""
        for stream in self._held:
            stream.finish()
        with select.epoll() as poll:
            waiting = {stream.sock.fileno(): stream for stream in self._held}
            for fd in waiting:
                poll.register(fd, select.EPOLLIN)
            deadline = time.monotonic() + FAREWELL_S
            while waiting and (left_s := deadline - time.monotonic()) > 0:
                for fd, _ in poll.poll(left_s):
                    if _has_ended(waiting[fd]):
                        poll.unregister(fd)
                        del waiting[fd]
        for stream in self._held:
            stream.close()
        self._held.clear()

    def drop(self) -> None:
        """Close what is left after a failure."""
        for stream in self._held:
            stream.close()
        self._held.clear()

    def _begin(self) -> Stream:
        sock = begin_connecting(self._family, self._address)
        return PlainStream(sock) if self._context is None else self._context.connect(sock)

    def _advance(self, stream: Stream, fd: int, shaken: set[int], poll: select.epoll) -> bool:
        """Go on opening; True when the app's byte is there."""
        if fd not in shaken:
            want = stream.handshake()
            if want is not Want.NOTHING:
                poll.modify(fd, select.EPOLLOUT if want is Want.WRITE else select.EPOLLIN)
                return False
            shaken.add(fd)
            poll.modify(fd, select.EPOLLIN)
            _send_whole(stream, b"P")
        answer = stream.read(1)
        if answer is None:
            return False
        shaken.discard(fd)
        if answer != b"P":
            raise Rejected(Reason.UPSTREAM_REJECTED_US, "the connection ended before the app's first byte")
        return True


def _events(poll: select.epoll, stalled: str) -> list[tuple[int, int]]:
    found = poll.poll(STALL_S)
    if not found:
        raise Rejected(Reason.IDLE_TIMEOUT, f"nothing happened for {STALL_S:.0f} s: {stalled}")
    return found


def _send_whole(stream: Stream, data: bytes) -> None:
    """A message that a connection takes at once, for nothing else is under way in its direction."""
    if stream.write(data) != len(data):
        raise Rejected(Reason.OVERLOADED, f"a connection did not take a message of {len(data)} bytes")


def _has_ended(stream: Stream) -> bool:
    try:
        while (answer := stream.read(4096)) is not None:
            if not answer:
                return True
    except Rejected:
        return True
    return False
