"""
The loop of one generator process: many exchanges under one epoll, begun as a pace says, counted as they end.

What it keeps grows with what is open, never with what is done: histograms, counters, a bounded ring of sessions. So an
hour needs the memory of a second.
"""

import errno
import resource
import select
import socket
import time
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

from proxy.core.reasons import Reason, Rejected
from proxy.lab.exchange import Exchange, State, begin_connecting
from proxy.lab.latencies import Latencies
from proxy.lab.plan import LATE_S, Plan, Report
from proxy.lab.tcpinfo import bytes_of
from proxy.tls.loadclient import LoadContext, Negotiated, Want

MAX_SESSIONS = 64
_TICK_S = 0.2  # how often deadlines are looked at while nothing happens
_BEGUN_AT_ONCE = 64  # connections begun before ends are looked at again
_EVENTS_AT_ONCE = 8  # few, so that an arrival of an open loop waits for few others
_COARSE_S = 0.05  # waits down to twice this are epoll's own, cut short by it; the rest is waited for finely
_NEVER_BEGUN = "its turn to begin did not come in time: too many connections were open (--max-open)"
_LOOK_AGAIN = 256  # every so many successes, what was negotiated is read anew


class Shortage(Exception):  # noqa: N818  # a finding about this machine
    """This machine ran out of something; str() is the sentence."""


class Tally:
    """What is counted in one phase."""

    def __init__(self) -> None:
        self.count = 0
        self.latencies = Latencies()
        self.failures: Counter[Reason] = Counter()
        self.details: dict[Reason, str] = {}
        self.not_resumed = 0
        self.bytes_sent: int | None = 0
        self.bytes_received: int | None = 0
        self.negotiated: Negotiated | None = None
        self.late = 0
        self.late_s = 0.0
        self.most_open = 0
        self.last_s = 0.0  # when the last success came

    def accept(self, exchange: Exchange, now: float, *, resumed: bool) -> None:
        """Count a success; one that was to be resumed and was not is no success of this row."""
        connection = exchange.connection
        if resumed and not connection.resumed:
            self.not_resumed += 1
            return
        if self.count % _LOOK_AGAIN == 0:
            self.negotiated = connection.negotiated()
        self.count += 1
        self.last_s = now
        self.latencies.record(now - exchange.intended_s)
        counted = bytes_of(connection.sock)
        if counted is None or self.bytes_sent is None or self.bytes_received is None:
            self.bytes_sent = self.bytes_received = None
        else:
            self.bytes_sent += counted[0]
            self.bytes_received += counted[1]

    def begin_late(self, by_s: float) -> None:
        """Note by how much a connection of an open loop began after its instant."""
        self.late += by_s > LATE_S
        self.late_s = max(self.late_s, by_s)

    def refuse(self, rejected: Rejected) -> None:
        """Count a failure, and keep the first words of each Reason."""
        self.failures[rejected.reason] += 1
        self.details.setdefault(rejected.reason, rejected.detail)

    def report(self, *, seconds: float, cpu_s: float, waited_s: float = 0.0, shortage: str | None = None) -> Report:
        """The tally as a value."""
        return Report(
            count=self.count,
            seconds=seconds,
            cpu_s=cpu_s,
            waited_s=waited_s,
            latency=self.latencies.encode(),
            failures=dict(self.failures),
            details=self.details,
            not_resumed=self.not_resumed,
            bytes_sent=self.bytes_sent,
            bytes_received=self.bytes_received,
            negotiated=self.negotiated,
            late=self.late,
            late_s=self.late_s,
            most_open=self.most_open,
            shortage=shortage,
        )


class LoadLoop:
    """
    The exchanges of one plan in one process.

    family, address: resolved; watched: a descriptor whose hang-up ends the process (its parent is gone)
    """

    def __init__(
        self, plan: Plan, context: LoadContext, family: socket.AddressFamily, address: tuple[str, int], watched: int
    ) -> None:
        self.plan = plan
        self.held: list[Exchange] = []
        self.tally = Tally()
        self._context = context
        self._family, self._address = family, address
        self._sessions: deque[Any] = deque(maxlen=MAX_SESSIONS)
        self._live: dict[int, Exchange] = {}
        self._deadlines: deque[tuple[float, Exchange]] = deque()
        self._lingering: deque[tuple[float, Exchange]] = deque()
        self._epoll = select.epoll()
        self._watched = watched
        self._epoll.register(watched, 0)  # hang-up and error are always reported
        self._holding = False

    def close(self) -> None:
        """End everything at once."""
        for exchange in [*self._live.values(), *self.held]:
            exchange.connection.close()
        self._live.clear()
        self.held.clear()
        self._epoll.close()

    def closed(self, in_flight: int, until_s: float) -> None:
        """Keep in_flight connections going until an instant, then see those through. Raises: Shortage"""
        while time.monotonic() < until_s:
            self._fill(in_flight)
            self._wait(min(_TICK_S, max(0.0, until_s - time.monotonic())))
        self.drain()

    def open(self, instants: Iterator[float], start_s: float, most_open: int) -> None:
        """
        Begin a connection at each instant after start_s, then see all through. Raises: Shortage

        An arrival that could not even begin within timeout_s has failed as one that was begun would have.
        """
        due = next(instants, None)
        while due is not None:
            now, begun = time.monotonic(), 0
            while due is not None and start_s + due <= now and begun < _BEGUN_AT_ONCE:
                late_s = now - start_s - due
                if late_s > self.plan.timeout_s:
                    self.tally.begin_late(late_s)
                    self.tally.refuse(Rejected(Reason.UPSTREAM_TIMEOUT, _NEVER_BEGUN))
                elif len(self._live) >= most_open:
                    break
                else:
                    self.tally.begin_late(late_s)
                    self._begin(start_s + due)
                due = next(instants, None)
                begun += 1
            if due is None:
                break
            wait_s = _TICK_S if len(self._live) >= most_open else start_s + due - time.monotonic()
            self._wait(0.0 if begun == _BEGUN_AT_ONCE else max(0.0, min(_TICK_S, wait_s)))
        self.drain()

    def prime(self, count: int) -> None:
        """Make `count` connections whose only purpose is their sessions. Raises: Rejected when one failed; Shortage"""
        tally, self.tally = self.tally, Tally()
        for _ in range(count):
            self._begin(time.monotonic(), priming=True)
        self.drain()
        primed, self.tally = self.tally, tally
        for reason in primed.failures:
            raise Rejected(reason, primed.details[reason])

    def hold(self, count: int, in_flight: int) -> None:
        """Open connections until `count` are held. Raises: Rejected when one failed; Shortage"""
        self._holding = True
        while len(self.held) < count and not self.tally.failures:
            self._fill(min(in_flight, count - len(self.held)))
            self._wait(_TICK_S)
        self._holding = False
        for reason in self.tally.failures:
            raise Rejected(reason, self.tally.details[reason])

    def release(self) -> None:
        """End the held connections in order."""
        now = time.monotonic()
        for exchange in self.held:
            exchange.finish()
            self._live[exchange.fd] = exchange
            self._epoll.register(exchange.fd, select.EPOLLIN)
            self._lingering.append((now + self.plan.linger_s, exchange))
        self.held = []
        self.drain()

    def drain(self) -> None:
        """See what is open through to its end."""
        while self._live:
            self._wait(_TICK_S)

    def _fill(self, in_flight: int) -> None:
        for _ in range(min(_BEGUN_AT_ONCE, in_flight - len(self._live))):
            self._begin(time.monotonic())

    def _begin(self, intended_s: float, *, priming: bool = False) -> None:
        session = None
        if self._sessions and not priming and self.plan.resumed:
            # Each is offered once where there are enough: a server may keep a register of the tickets that were used.
            session = self._sessions.popleft() if len(self._sessions) > 1 else self._sessions[0]
        try:
            sock = begin_connecting(self._family, self._address)
        except OSError as error:
            raise Shortage(_shortage(error, len(self._live))) from None
        exchange = Exchange(self.plan, self._context.connect(sock, session), intended_s, priming=priming)
        self._live[exchange.fd] = exchange
        if len(self._live) > self.tally.most_open:
            self.tally.most_open = len(self._live)
        self._deadlines.append((intended_s + self.plan.timeout_s, exchange))
        self._advance(exchange, registered=False)

    def _wait(self, at_most_s: float) -> None:
        """Let things happen for a moment, and see to deadlines."""
        # epoll_wait counts in milliseconds, rounded up, which would delay every arrival of an open loop.
        if 0.0 < at_most_s < 2 * _COARSE_S:
            select.select([self._epoll], [], [], at_most_s)
            at_most_s = 0.0
        live = self._live
        for fd, _ in self._epoll.poll(max(0.0, at_most_s - _COARSE_S), _EVENTS_AT_ONCE):
            exchange = live.get(fd)
            if exchange is not None:
                self._advance(exchange)
            elif fd == self._watched:
                raise SystemExit(1)  # nobody is left to report to
        self._expire()

    def _advance(self, exchange: Exchange, *, registered: bool = True) -> None:
        want = exchange.want
        try:
            state = exchange.advance()
        except Rejected as rejected:
            self._refuse(exchange, rejected)
            return
        if state is State.OVER:
            self._end(exchange)
        elif state is State.ACCEPTED:
            self._accept(exchange, registered=registered)
        if exchange.fd in self._live and (not registered or exchange.want is not want):
            mask = select.EPOLLOUT if exchange.want is Want.WRITE else select.EPOLLIN
            (self._epoll.modify if registered else self._epoll.register)(exchange.fd, mask)

    def _accept(self, exchange: Exchange, *, registered: bool) -> None:
        now = time.monotonic()
        if not exchange.priming:
            self.tally.accept(exchange, now, resumed=self.plan.resumed)
        if self.plan.resumed:
            session = exchange.connection.session()
            if session is not None:
                self._sessions.append(session)
        if self._holding:
            if registered:
                self._epoll.unregister(exchange.fd)
            del self._live[exchange.fd]
            self.held.append(exchange)
            return
        exchange.finish()
        self._lingering.append((now + self.plan.linger_s, exchange))

    def _refuse(self, exchange: Exchange, rejected: Rejected) -> None:
        self.tally.refuse(rejected)
        self._end(exchange)

    def _end(self, exchange: Exchange) -> None:
        exchange.state = State.OVER
        del self._live[exchange.fd]
        exchange.connection.close()  # which takes the descriptor out of the epoll

    def _expire(self) -> None:
        now = time.monotonic()
        late, waiting = self._deadlines, (State.SHAKING, State.ASKED)
        while late and (late[0][1].state not in waiting or late[0][0] <= now):
            exchange = late.popleft()[1]
            if exchange.state in waiting:
                self._refuse(exchange, exchange.why_late())
        lingering = self._lingering
        while lingering and (lingering[0][1].state is State.OVER or lingering[0][0] <= now):
            exchange = lingering.popleft()[1]
            if exchange.state is State.FINISHING:
                self._end(exchange)


def _shortage(error: OSError, open_now: int) -> str:
    if error.errno in (errno.EMFILE, errno.ENFILE):
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        return (
            f"the generator has no file descriptor left with {open_now} connections open (its limit is {limit}): raise "
            "it (`ulimit -Hn` as root, LimitNOFILE= in a unit), or use more processes or fewer connections"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return (
            f"this machine has no local port left for the target, with {open_now} connections open: widen "
            "net.ipv4.ip_local_port_range, or generate from several machines"
        )
    return f"this machine could not open a connection: {error.strerror or error}"
