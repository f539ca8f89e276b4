"""
What a supervisor and a worker say to each other, and the wire that carries it.

The wire is a unix stream socket pair. A frame is a head (length of the body, number of descriptors with it) and a body
in msgpack. Descriptors travel as ancillary data on the first byte of their frame; the kernel gives them out in the
order in which they were sent, and never later than that byte, so whoever reads takes them from a queue in order.

Neither end ever waits for the other: what the socket does not take at once is queued, up to a bound, and a question has
a deadline at the one who asked. Both ends are ours, so a frame that breaks a rule is a bug of ours or memory gone bad:
the link ends, and with it the worker, which is then started anew.
"""

import asyncio
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from enum import StrEnum

import msgspec

from proxy.core.config import LogLevel
from proxy.ops.configsource import Source
from proxy.ops.metricsmerge import MAX_SNAPSHOT_BYTES

MAX_FRAME_BYTES = MAX_SNAPSHOT_BYTES + 1024  # a snapshot of metrics is the longest thing that is said
MAX_DESCRIPTORS = 200  # with one frame; Linux takes 253 (SCM_MAX_FD)
_READ_BYTES = 256 * 1024
_HEAD = struct.Struct("!IB")
_ON_ARRIVAL = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class LinkLost(Exception):  # noqa: N818  # not a fault of the program: the other end is gone
    """The other end went away before it answered."""


class Sockets(msgspec.Struct, frozen=True, tag=True):
    """Descriptors of bound sockets come with this frame, one for each address, in this order."""

    addresses: list[str]


class Start(msgspec.Struct, frozen=True, tag=True):
    """
    Serve.

    number:        1 to `workers`
    number_from:   generations count on from here
    ticket_secret: what session tickets are sealed with (tls/ticketkeys.py); in no text that this has
    """

    number: int
    workers: int
    source: Source
    log_level: LogLevel
    number_from: int
    ticket_secret: bytes

    def __repr__(self) -> str:
        return f"Start(number={self.number}, workers={self.workers}, number_from={self.number_from})"


class Reload(msgspec.Struct, frozen=True, tag=True):
    """Look at the identity anew, and take this configuration if there is one. Answered with the outcome."""

    source: Source | None = None


class Drain(msgspec.Struct, frozen=True, tag=True):
    """Stop accepting and let connections finish. Answered when that is over."""


class SetLogLevel(msgspec.Struct, frozen=True, tag=True):
    """Write the log from this level on."""

    level: LogLevel


class What(StrEnum):
    """What a worker can be asked to show."""

    CERTS = "certs"
    CONNECTIONS = "connections"
    METRICS = "metrics"
    RECENT = "recent"


class Show(msgspec.Struct, frozen=True, tag=True):
    """Say how this stands. Answered with a snapshot for METRICS, with msgpack otherwise."""

    what: What


Order = Sockets | Start | Reload | Drain | SetLogLevel | Show


class Ordered(msgspec.Struct, frozen=True):
    """What the supervisor sends. id: comes back with the answer; 0 wants none."""

    id: int
    order: Order


class Status(msgspec.Struct, frozen=True, tag=True):
    """
    Said by a worker every second without being asked.

    digest:     of its identity, empty while it has none
    tls_engine: which one it serves with, and the engine's version
    """

    ready: bool
    detail: str
    generation: int
    digest: str
    tls_engine: tuple[str, str] = ("", "")


class Answer(msgspec.Struct, frozen=True, tag=True):
    """The answer to an order. fault: why there is none, a sentence."""

    id: int
    body: bytes = b""
    fault: str = ""


Said = Status | Answer

encode = msgspec.msgpack.Encoder(enc_hook=str).encode
decode_ordered = msgspec.msgpack.Decoder(Ordered).decode
decode_said: Callable[[bytes], Said] = msgspec.msgpack.Decoder(Said).decode


class Link:
    """
    One end of the wire.

    receive: called on the loop with each body and the descriptors that came with it, which are then the callee's; what
             it raises ends the link
    lost:    called once when the link ends by itself, with why
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        receive: Callable[[bytes, list[int]], None],
        lost: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._receive = receive
        self._lost = lost
        self._incoming = bytearray()
        self._arrived: deque[int] = deque()  # descriptors whose frame is not complete yet
        self._outgoing: deque[tuple[memoryview, list[int]]] = deque()
        self._outgoing_bytes = 0
        self._is_open = True
        sock.setblocking(False)
        loop.add_reader(sock.fileno(), self._on_readable)

    def send(self, body: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send a frame, now or when the other end reads; after the end nothing is sent. The descriptors are copied."""
        if len(body) > MAX_FRAME_BYTES or len(descriptors) > MAX_DESCRIPTORS:
            raise ValueError(f"a frame of {len(body)} bytes and {len(descriptors)} descriptors is beyond the bounds")
        if not self._is_open:
            return
        if self._outgoing_bytes + len(body) > 2 * MAX_FRAME_BYTES:
            self._end("it has not read what was sent to it for too long")
            return
        frame = _HEAD.pack(len(body), len(descriptors)) + body
        self._outgoing.append((memoryview(frame), [os.dup(one) for one in descriptors]))
        self._outgoing_bytes += len(frame)
        if len(self._outgoing) == 1:
            self._on_writable()

    def close(self) -> None:
        """End it; `lost` is not called."""
        if not self._is_open:
            return
        self._is_open = False
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        for descriptor in [*self._arrived, *(one for _, descriptors in self._outgoing for one in descriptors)]:
            os.close(descriptor)
        self._arrived.clear()
        self._outgoing.clear()

    def _end(self, why: str) -> None:
        if self._is_open:
            self.close()
            self._lost(why)

    def _on_readable(self) -> None:
        try:
            data, descriptors, flags, _ = socket.recv_fds(self._sock, _READ_BYTES, MAX_DESCRIPTORS, _ON_ARRIVAL)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end(error.strerror or str(error))
            return
        self._arrived += descriptors
        if flags & socket.MSG_CTRUNC:
            self._end("sockets were lost on the way: raise ulimit -n")
            return
        if not data:
            self._end("it closed the link")
            return
        self._incoming += data
        try:
            while self._is_open and (frame := self._next_frame()) is not None:
                self._receive(*frame)
        except Exception as error:  # whatever it is, the next frame would not be read as it was meant
            self._end(f"it said what cannot be understood ({error})")

    def _next_frame(self) -> tuple[bytes, list[int]] | None:
        if len(self._incoming) < _HEAD.size:
            return None
        length, count = _HEAD.unpack_from(self._incoming)
        if length > MAX_FRAME_BYTES or count > MAX_DESCRIPTORS:
            raise ValueError(f"a frame of {length} bytes and {count} descriptors")
        end = _HEAD.size + length
        if len(self._incoming) < end:
            return None
        if len(self._arrived) < count:
            raise ValueError("a frame without its descriptors")
        body = bytes(self._incoming[_HEAD.size : end])
        del self._incoming[:end]
        return body, [self._arrived.popleft() for _ in range(count)]

    def _on_writable(self) -> None:
        try:
            while self._outgoing:
                frame, descriptors = self._outgoing[0]
                if descriptors:
                    sent = socket.send_fds(self._sock, [frame], descriptors)
                    for descriptor in descriptors:
                        os.close(descriptor)
                else:
                    sent = self._sock.send(frame)
                self._outgoing_bytes -= sent
                if sent < len(frame):
                    self._outgoing[0] = frame[sent:], []  # the descriptors have gone with the first bytes
                else:
                    self._outgoing.popleft()
        except (BlockingIOError, InterruptedError):
            self._loop.add_writer(self._sock.fileno(), self._on_writable)
            return
        except OSError as error:
            self._end(error.strerror or str(error))
            return
        self._loop.remove_writer(self._sock.fileno())
