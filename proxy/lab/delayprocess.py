"""
The delay line itself: a process that relays TCP to one target and lets every byte take half the round trip each way.

    python -m proxy.lab.delayprocess TARGET_HOST TARGET_PORT RTT_SECONDS     started by proxy/lab/delayline.py

It prints its port as a line of JSON, answers each line on stdin with a report, and ends when stdin does. It knows no
TLS and changes no byte.

The TCP handshake. A program that accepts in user space cannot hold back the kernel's SYN-ACK, so the client's connect()
returns at once. Its round trip is charged to the first bytes instead: what the client sends in the first RTT counts as
sent at the end of it, and the target is dialed when the client's ACK would arrive, one RTT and a half after the
beginning. From the connect() on, everything so happens at the time at which it would; only connect() itself is early.

The clock. asyncio and libuv round their timers to a millisecond, as epoll does, which is the whole round trip inside a
data centre. So this loop sleeps in select(), whose timeout is in microseconds, on the one descriptor of an epoll; asks
the kernel for no timer slack (50 us by default); and polls through the last microseconds. How late it delivered is in
the report, because on a busy machine it is late, and then so is every figure taken through it.

Bounds: a window of bytes under way in each direction; as many connections as there are descriptors, beyond which
clients wait in the backlog; and few enough SYNs that a dial fails within 15 s. On an open connection it sets no
deadline: a network has none, and both ends have theirs.
"""

import contextlib
import errno
import heapq
import itertools
import json
import os
import resource
import select
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from proxy.lab.delayqueue import DelayQueue, End

WINDOW_BYTES = 262_144
READ_BYTES = 65_536
SYN_RETRIES = 3  # 1 + 2 + 4 + 8 s, then the dial has failed
SPIN_S = 60e-6  # what a sleep may oversleep by; polled through instead
REMEMBERED = 65_536  # of the newest deliveries, for the report
ACCEPTS_PER_WAKEUP = 64
SPARE_DESCRIPTORS = 32
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s; close() then sends RST
_GONE = select.EPOLLERR | select.EPOLLHUP

Timer = Callable[[float], None]
Handler = Callable[[int, float], None]


class Port:
    """One socket of a connection: the source of one direction and the sink of the other."""

    __slots__ = ("_mask", "fd", "incoming", "line", "open_", "outgoing", "sock")

    def __init__(self, line: "Line", sock: socket.socket) -> None:
        self.line = line
        self.sock = sock
        self.fd = sock.fileno()
        self.open_ = True
        self._mask = 0
        self.incoming: Direction  # read from here
        self.outgoing: Direction  # written to here

    def watch(self) -> None:
        """Tell epoll what is waited for, and leave it for nothing: a peer that hung up would wake us forever."""
        mask = 0
        if self.open_:
            mask |= select.EPOLLIN if self.incoming.is_reading else 0
            mask |= select.EPOLLOUT if self.outgoing.is_blocked else 0
        if mask == self._mask:
            return
        if not mask:
            self.line.epoll.unregister(self.fd)
            del self.line.handlers[self.fd]
        elif self._mask:
            self.line.epoll.modify(self.fd, mask)
        else:
            self.line.epoll.register(self.fd, mask)
            self.line.handlers[self.fd] = self.on_event
        self._mask = mask

    def on_event(self, events: int, now_s: float) -> None:
        """What epoll found."""
        if not self.open_:  # closed by what was found for another descriptor of the same look
            return
        if events & select.EPOLLOUT and self.outgoing.is_blocked:
            self.outgoing.unblock(now_s)
        if events & (select.EPOLLIN | _GONE) and self.open_ and self.incoming.is_reading:
            self.incoming.read(now_s)

    def close(self, *, reset: bool = False) -> None:
        """Close it once; with reset the peer is told that the connection is torn."""
        if not self.open_:
            return
        self.open_ = False
        self.watch()
        if reset:
            with contextlib.suppress(OSError):
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.sock.close()
        self.line.on_closed()


class Direction:
    """From one port to the other, through a queue."""

    __slots__ = ("_is_scheduled", "has_ended", "is_blocked", "is_done", "line", "queue", "sink", "source")

    def __init__(self, line: "Line", source: Port, sink: Port, queue: DelayQueue) -> None:
        self.line, self.source, self.sink, self.queue = line, source, sink, queue
        self._is_scheduled = False
        self.has_ended = False  # the source sends no more
        self.is_done = False  # and the sink has been told
        self.is_blocked = False  # the sink takes no more for now, or is not connected yet
        source.incoming = sink.outgoing = self

    @property
    def is_reading(self) -> bool:
        """Whether the source is to be read now."""
        return not self.has_ended and self.sink.open_ and self.queue.room_bytes > 0

    def read(self, now_s: float) -> None:
        """Take what the source has."""
        load: bytes | End
        try:
            load = self.source.sock.recv(min(READ_BYTES, self.queue.room_bytes)) or End.FIN
        except BlockingIOError:
            return
        except OSError:
            load = End.RESET
        self.put(load, now_s)

    def put(self, load: bytes | End, now_s: float) -> None:
        """Send it on its way, and see to its arrival."""
        self.has_ended = isinstance(load, End)
        self.queue.put(load, now_s)
        if load is End.RESET:
            self.source.close()
        self._schedule()
        self.source.watch()

    def _schedule(self) -> None:
        due_s = self.queue.next_due_s
        if due_s is not None and self.sink.open_ and not self._is_scheduled and not self.is_blocked:
            self._is_scheduled = True
            self.line.at(due_s, self._on_due)

    def _on_due(self, now_s: float) -> None:
        self._is_scheduled = False
        if not self.is_blocked:
            self._deliver(now_s, on_time=True)

    def unblock(self, now_s: float) -> None:
        """The sink takes bytes again."""
        self.is_blocked = False
        self._deliver(now_s, on_time=False)

    def _deliver(self, now_s: float, *, on_time: bool) -> None:
        while self.sink.open_ and not self.is_blocked and (taken := self.queue.take(now_s)):
            load, due_s = taken
            if on_time:  # what waited for the receiver says nothing about us
                self.line.lateness_s.append(now_s - due_s)
            if isinstance(load, End):
                self._finish(load)
            else:
                self._send(load, due_s, now_s)
        if self.sink.open_:
            self.sink.watch()
        self.source.watch()
        self._schedule()

    def _send(self, load: bytes, due_s: float, now_s: float) -> None:
        try:
            sent = self.sink.sock.send(load)
        except BlockingIOError:
            sent = 0
        except OSError:  # the receiver is gone, and the sender will hear of it as of any reset
            self.sink.incoming.put(End.RESET, now_s)
            return
        self.line.delivered_bytes += sent
        if sent < len(load):
            self.queue.put_back(load[sent:], due_s)
            self.is_blocked = True

    def _finish(self, end: End) -> None:
        self.is_done = True
        if end is End.RESET:
            self.sink.close(reset=True)
            self.source.close(reset=True)
            return
        with contextlib.suppress(OSError):  # the receiver was faster
            self.sink.sock.shutdown(socket.SHUT_WR)
        if self.sink.incoming.is_done:
            self.sink.close()
            self.source.close()


class Line:
    """The listener, all connections, and the time at which each next thing is due."""

    def __init__(self, target: tuple[str, int], rtt_s: float) -> None:
        self.epoll = select.epoll()
        self.handlers: dict[int, Handler] = {}
        self.lateness_s: deque[float] = deque(maxlen=REMEMBERED)
        self.delivered_bytes = 0
        self._target, self._rtt_s = target, rtt_s
        self._family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
        self._open_sockets = self._connections = 0
        self._most_sockets = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_DESCRIPTORS
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        self._is_over = self._listens = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self._listener.setblocking(False)
        self._listen()

    @property
    def port(self) -> int:
        """Where clients connect to, on 127.0.0.1."""
        port: int = self._listener.getsockname()[1]
        return port

    def at(self, due_s: float, timer: Timer) -> None:
        """Call it when it is due."""
        heapq.heappush(self._timers, (due_s, next(self._numbers), timer))

    def on_closed(self) -> None:
        """A descriptor is free again."""
        self._open_sockets -= 1
        self._listen()

    def serve(self, control: int) -> None:
        """Relay until the descriptor `control` ends; each line from it is answered with a report on stdout."""
        self.handlers[control] = lambda _events, _now_s: self._obey(control)
        self.epoll.register(control, select.EPOLLIN)
        while not self._is_over:
            self._sleep()
            # Looked up before any of them runs: one may close a descriptor whose number the next accept takes.
            for handler, events in [(self.handlers[fd], events) for fd, events in self.epoll.poll(0)]:
                handler(events, time.monotonic())
            now_s = time.monotonic()
            while self._timers and self._timers[0][0] <= now_s:
                heapq.heappop(self._timers)[2](now_s)

    def _sleep(self) -> None:
        """Until something comes, or the last moment before something is due."""
        left_s = None if not self._timers else self._timers[0][0] - time.monotonic() - SPIN_S
        if left_s is None or left_s > 0:
            select.select([self.epoll.fileno()], [], [], left_s)

    def _obey(self, control: int) -> None:
        asked = os.read(control, 4096)
        self._is_over = not asked
        for _ in range(asked.count(b"\n")):
            _say(self._report())

    def _report(self) -> dict[str, float]:
        """Since the last report."""
        found = sorted(self.lateness_s)
        self.lateness_s.clear()
        late = {"late_p50_s": 50, "late_p99_s": 99}
        return {
            "connections": self._connections,
            "delivered_bytes": self.delivered_bytes,
            "deliveries": len(found),
            **{name: found[len(found) * share // 100] if found else 0.0 for name, share in late.items()},
            "late_max_s": found[-1] if found else 0.0,
        }

    def _listen(self) -> None:
        room = self._open_sockets + 2 <= self._most_sockets
        if room and not self._listens:
            self.handlers[self._listener.fileno()] = self._accept
            self.epoll.register(self._listener.fileno(), select.EPOLLIN)
        elif not room and self._listens:
            self.epoll.unregister(self._listener.fileno())
        self._listens = room

    def _accept(self, _events: int, now_s: float) -> None:
        for _ in range(ACCEPTS_PER_WAKEUP):
            if not self._listens:
                return
            try:
                client, _ = self._listener.accept()
            except (BlockingIOError, ConnectionError):
                return
            self._connections += 1
            self._open_sockets += 2
            self._connect(client, socket.socket(self._family), now_s)
            self._listen()

    def _connect(self, client: socket.socket, server: socket.socket, now_s: float) -> None:
        """Set both directions up, and dial when the client's ACK would reach the target."""
        for sock in (client, server):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, SYN_RETRIES)
        near, far = Port(self, client), Port(self, server)
        one_way_s = self._rtt_s / 2
        there = Direction(self, near, far, DelayQueue(one_way_s, WINDOW_BYTES, opens_at_s=now_s + self._rtt_s))
        back = Direction(self, far, near, DelayQueue(one_way_s, WINDOW_BYTES, opens_at_s=now_s))
        there.is_blocked = back.has_ended = True  # until the target is dialed
        near.watch()
        self.at(now_s + self._rtt_s + one_way_s, lambda at_s: self._dial(back, at_s))

    def _dial(self, back: Direction, now_s: float) -> None:
        back.has_ended = False
        if back.source.sock.connect_ex(self._target) in (0, errno.EINPROGRESS):
            back.source.watch()  # writable: it has accepted; a refusal is an error that the first read meets
        else:
            back.put(End.RESET, now_s)


def _say(facts: dict[str, float]) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def main(host: str, port: str, rtt_s: str) -> None:
    """Serve until stdin ends."""
    with contextlib.suppress(OSError):
        Path("/proc/self/timerslack_ns").write_text("1")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    line = Line((host, int(port)), float(rtt_s))
    _say({"port": line.port})
    line.serve(sys.stdin.fileno())


if __name__ == "__main__":
    main(*sys.argv[1:])
