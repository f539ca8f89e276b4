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
from enum import Enum
from typing import Any

from proxy.core.reasons import Reason, Rejected
from proxy.lab.exchange import begin_connecting
from proxy.lab.latencies import Latencies
from proxy.lab.plainstream import PlainStream, Stream
from proxy.tls.loadclient import LoadConnection, LoadContext, Negotiated, Want

STALL_S = 20.0
CHUNK_BYTES = 262_144
FAREWELL_S = 5.0


class StreamLoop:
    """The open connections to one address. context: None for plaintext"""

    def __init__(
        self, family: socket.AddressFamily, address: tuple[str, int], context: LoadContext | None, message_bytes: int
    ) -> None:
        self._family, self._address, self._context = family, address, context
        self.negotiated: Negotiated | None = None  # of the first connection that was answered
        self._held: list[Stream] = []
        self._session: Any = None
        # The first byte asks the app to echo from there on; the rest is nothing that a relay could compress or guess.
        self._request = b"E" + os.urandom(message_bytes - 1)

    @property
    def is_open(self) -> bool:
        """Whether a connection is held."""
        return bool(self._held)

    def open(self, count: int, in_flight: int) -> Latencies:
        """Open so many more, each with one byte each way. Returns: how long each took. Raises: Rejected, OSError"""
        return self._connect(count, in_flight, resume=False, hold=True)[0]

    def exchange(self, count: int, in_flight: int, *, resume: bool) -> tuple[Latencies, int]:
        """
        So many connections from their first byte to their end, in_flight at a time, with one byte each way.

        resume:  offer the newest session, of this exchange or an earlier one
        Returns: how long each took to its byte; how many were resumed. Raises: Rejected, OSError
        """
        return self._connect(count, in_flight, resume=resume, hold=False)

    def _connect(self, count: int, in_flight: int, *, resume: bool, hold: bool) -> tuple[Latencies, int]:
        latencies, begun, resumed = Latencies(), 0, 0
        live: dict[int, _Way] = {}
        with select.epoll() as poll:
            try:
                while begun < count or live:
                    while begun < count and len(live) < in_flight:
                        way = self._begin(resume=resume)
                        begun += 1
                        live[way.fd] = way
                        poll.register(way.fd, select.EPOLLOUT)
                    for fd, _ in _events(poll, f"{count - begun + len(live)} of {count} connections are not done"):
                        way = live[fd]
                        answered = way.advance(poll)
                        if answered:
                            latencies.record(time.monotonic() - way.began_s)
                            resumed += self._note(way.stream, resume=resume)
                        if way.stage is _Stage.ENDED or (answered and hold):
                            poll.unregister(fd)
                            del live[fd]
                            (self._held.append if hold else _close)(way.stream)
                        elif answered:
                            way.finish()
            finally:
                for way in live.values():
                    way.stream.close()
        return latencies, resumed

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

    def _begin(self, *, resume: bool) -> "_Way":
        began_s = time.monotonic()
        sock = begin_connecting(self._family, self._address)
        if self._context is None:
            return _Way(PlainStream(sock), began_s)
        return _Way(self._context.connect(sock, self._session if resume else None), began_s)

    def _note(self, stream: Stream, *, resume: bool) -> bool:
        """Keep what an answered connection settled on, and its session. Returns: whether it was resumed."""
        if not isinstance(stream, LoadConnection):
            return False
        self.negotiated = self.negotiated or stream.negotiated()
        if resume:
            self._session = stream.session()
        return stream.resumed


class _Stage(Enum):
    SHAKING = "shaking"
    ASKED = "asked"
    FINISHING = "finishing"
    ENDED = "ended"


class _Way:
    """A connection on its way to the app's first byte, and perhaps to its end."""

    __slots__ = ("began_s", "fd", "stage", "stream")

    def __init__(self, stream: Stream, began_s: float) -> None:
        self.stream, self.began_s = stream, began_s
        self.fd = stream.sock.fileno()
        self.stage = _Stage.SHAKING

    def advance(self, poll: select.epoll) -> bool:
        """Go on; True once, when the app's byte is there. Raises: Rejected"""
        if self.stage is _Stage.FINISHING:
            if _has_ended(self.stream):
                self.stage = _Stage.ENDED
            return False
        if self.stage is _Stage.SHAKING:
            want = self.stream.handshake()
            if want is not Want.NOTHING:
                poll.modify(self.fd, select.EPOLLOUT if want is Want.WRITE else select.EPOLLIN)
                return False
            self.stage = _Stage.ASKED
            poll.modify(self.fd, select.EPOLLIN)
            _send_whole(self.stream, b"P")
        answer = self.stream.read(1)
        if answer is None:
            return False
        if answer != b"P":
            raise Rejected(Reason.UPSTREAM_REJECTED_US, "the connection ended before the app's first byte")
        return True

    def finish(self) -> None:
        """Say that no more will come, and wait for the server's end."""
        self.stream.finish()
        self.stage = _Stage.FINISHING


def _close(stream: Stream) -> None:
    stream.close()


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
