"""
The load generator as its users see it: some processes that begin together, and one sum of what they saw.

    with Generators(processes=2) as generators:
        generators.prepare(plan)             # clients made, sessions kept, the server warm; nothing is counted
        measured = generators.measure()      # the same plan, counted
        round_ = measured.as_round(server_cpu_s)

`prepare` and `measure` are two steps so that whoever measures the server's CPU reads its clock between them, when
nothing is under way. Everything that can go wrong is raised as LoadFault: a sentence, with what to do.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

import msgspec

from proxy.core.reasons import Reason
from proxy.lab.advice import with_advice
from proxy.lab.fleet import Fleet
from proxy.lab.latencies import Latencies
from proxy.lab.linechild import LineChild
from proxy.lab.loadfault import LoadFault as LoadFault  # what this interface raises
from proxy.lab.plan import ClosedLoop, Hold, Order, Plan, Prepare, Release, Report, Start
from proxy.lab.results import Round
from proxy.tls.loadclient import Negotiated

MODULE = "proxy.lab.generatorprocess"
CLIENT_LIMITED = 0.9  # of a core that one generator process used or waited for: there the client sets the pace
LATE_SHARE = 0.01  # of an open loop's arrivals that began late: more, and the client was limited too
_TOGETHER_S = 0.02  # from the order to the common start
_PATIENCE_S = 30.0  # beyond what a plan says that it takes


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """
    The sum over the processes of one measurement.

    busiest: the share of the time for which the busiest generator process ran, or would have run had it had a core
    late:    connections that an open loop began too late; late_s: by how much, at the worst
    """

    plan: Plan
    count: int
    seconds: float
    cpu_s: float
    busiest: float
    latencies: Latencies
    failures: dict[Reason, int]
    details: dict[Reason, str]
    not_resumed: int
    bytes_sent: int | None
    bytes_received: int | None
    negotiated: Negotiated | None
    late: int
    late_s: float
    most_open: int
    processes: int
    shortage: str | None

    @property
    def client_limited(self) -> bool:
        """Whether the client set the pace, so that the figures say less about the server."""
        return self.busiest >= CLIENT_LIMITED or self.late > LATE_SHARE * (self.count + self.late)

    @property
    def fault(self) -> str | None:
        """Why this is no measurement of what was asked for; None when it is one."""
        if self.shortage:
            return self.shortage
        if self.not_resumed:
            return (
                f"{self.not_resumed} of {self.count + self.not_resumed} handshakes were full although a session was "
                "offered: the server does not resume (all of) them"
            )
        if not self.count:
            if not self.failures:
                return "no handshake was begun in this time: measure for longer, or at a higher rate"
            words = "; ".join(f"{reason} ({self.details[reason]})" for reason in self.failures)
            most = max(self.failures, key=lambda reason: self.failures[reason])
            return with_advice(f"the server accepted no handshake: {words}", most)
        return None

    def as_round(self, *, server_cpu_s: float | None = None, round_trips: int | None = None) -> Round:
        """As a round of a result file. round_trips: of one handshake, as observed."""
        return Round(
            count=self.count,
            seconds=self.seconds,
            server_cpu_s=server_cpu_s,
            client_cpu_s=self.cpu_s,
            failures=self.failures,
            bytes_sent=self.bytes_sent,
            bytes_received=self.bytes_received,
            round_trips=None if round_trips is None else round_trips * self.count,
            latency=self.latencies.encode(),
            client_limited=self.client_limited,
            client_processes=self.processes,
        )


class Generators:
    """
    Generator processes that obey together.

    cores:   where they may run; None: anywhere
    fleet:   of which they are a part
    waiting: called every quarter of a second or so while they are at work
    """

    def __init__(
        self,
        processes: int = 1,
        cores: Iterable[int] | None = None,
        fleet: Fleet | None = None,
        *,
        waiting: Callable[[], None] = lambda: None,
    ) -> None:
        self._fleet = fleet or Fleet()
        self._waiting = waiting
        self._children: list[LineChild] = []
        self._plan: Plan | None = None
        try:
            for _ in range(processes):
                self._children.append(LineChild("a generator process", MODULE, cores=cores))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the processes."""
        for child in self._children:
            child.close()

    @property
    def pids(self) -> list[int]:
        """Their process ids."""
        return [child.process.pid for child in self._children]

    def prepare(self, plan: Plan) -> Measured:
        """
        Make the clients of a plan, their sessions, and warm the server up for plan.warm_up_s.

        Returns: the warm-up, whose failures are worth a look
        Raises:  LoadFault when a client cannot be made, or sessions are needed and the server refuses to make them
        """
        shares = len(self._children)
        if isinstance(plan.pace, ClosedLoop) and plan.pace.in_flight < shares:
            raise LoadFault(f"{shares} processes cannot share {plan.pace.in_flight} clients: use fewer processes")
        self._plan = plan
        whole, first, of = self._fleet.widen(plan, shares)
        orders = [Prepare(plan=whole, share=first + share, shares=of) for share in range(shares)]
        return self._sum(plan, self._ask(orders, plan.warm_up_s + 3 * plan.timeout_s + plan.linger_s))

    def measure(self) -> Measured:
        """Measure the plan that was prepared. Raises: LoadFault"""
        plan = self._prepared()
        order = Start(at_s=time.monotonic() + _TOGETHER_S)
        reports = self._ask([order] * len(self._children), plan.seconds + 2 * plan.timeout_s + plan.linger_s)
        return self._sum(plan, reports)

    def hold(self, count: int) -> Measured:
        """Open `count` connections and keep them open until `release`. Raises: LoadFault when one failed"""
        plan, shares = self._prepared(), len(self._children)
        orders = [Hold(count=count // shares + (share < count % shares)) for share in range(shares)]
        return self._sum(plan, self._ask(orders, plan.timeout_s + count / 20))

    def release(self) -> None:
        """End what is held, in order. Raises: LoadFault"""
        plan = self._prepared()
        self._ask([Release()] * len(self._children), plan.timeout_s + plan.linger_s)

    def _prepared(self) -> Plan:
        if self._plan is None:
            raise LoadFault("nothing was prepared")
        return self._plan

    def _ask(self, orders: Iterable[Order], within_s: float) -> list[Report]:
        for child, order in zip(self._children, orders, strict=True):
            child.tell(msgspec.json.encode(order))
        deadline = time.monotonic() + within_s + _PATIENCE_S
        reports = [
            msgspec.json.decode(child.hear(deadline - time.monotonic(), self._waiting), type=Report)
            for child in self._children
        ]
        for report in reports:
            if report.fatal:
                raise fault_of(report)
        return reports

    def _sum(self, plan: Plan, reports: list[Report]) -> Measured:
        failures: Counter[Reason] = Counter()
        details: dict[Reason, str] = {}
        for report in reports:
            failures.update(report.failures)
            details = report.details | details
        seconds = max(report.seconds for report in reports)
        sent = [report.bytes_sent for report in reports]
        received = [report.bytes_received for report in reports]
        return Measured(
            plan=plan,
            count=sum(report.count for report in reports),
            seconds=seconds,
            cpu_s=sum(report.cpu_s for report in reports),
            busiest=max((report.cpu_s + report.waited_s) / seconds if seconds else 0.0 for report in reports),
            latencies=Latencies.sum(Latencies.decode(report.latency) for report in reports if report.latency),
            failures=dict(failures),
            details=details,
            not_resumed=sum(report.not_resumed for report in reports),
            bytes_sent=_total(sent),
            bytes_received=_total(received),
            negotiated=next((report.negotiated for report in reports if report.negotiated), None),
            late=sum(report.late for report in reports),
            late_s=max(report.late_s for report in reports),
            most_open=sum(report.most_open for report in reports),
            processes=len(reports),
            shortage=next((report.shortage for report in reports if report.shortage), None),
        )


def fault_of(report: Report) -> LoadFault:
    """The sentence for what ended an order before it could be measured."""
    if report.shortage:
        return LoadFault(report.shortage)
    reason = next(iter(report.failures))
    return LoadFault(with_advice(report.details[reason], reason), reason)


def _total(parts: list[int | None]) -> int | None:
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None
