"""
What is done to each side of a comparison, and what a round of it is: handshakes, requests, bulk, idle connections.

Each function makes an Entry; nothing runs before its turn. The server's CPU is read when it is quiet, before and after,
so that the closing of a round's connections is paid for inside it, and opening those of requests and bulk is not.
"""

from collections.abc import Callable
from dataclasses import dataclass

from proxy.lab.contest import Entry, Measurement
from proxy.lab.floor import Floor, FloorOrder, Work
from proxy.lab.generator import CLIENT_LIMITED, Generators, LoadFault
from proxy.lab.plan import ClosedLoop, Plan
from proxy.lab.results import Mode, Round, Scenario, Security, Workload
from proxy.lab.rounds import Contender, measure_once
from proxy.lab.servercpu import ProcessCpu, settled_s
from proxy.lab.servermemory import memory_of
from proxy.lab.sides import CIPHER, GROUP, Side, offer
from proxy.lab.streams import StreamClient, StreamReport
from proxy.lab.testbed import KEY_WORDS, Identities
from proxy.tls.identityfiles import CERT_FILE, KEY_FILE

MESSAGE_BYTES = 1024
FLOOR = "OpenSSL in memory"
CONNECTING = 32  # connections that are opened at once: a server that waits pays a wake-up for every step

_ASK = b"P"  # the app of the testbed answers it with one byte
_WARM_UP_S = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much of everything. idle: connections that are held; connections: that are opened in a round of `connects`"""

    seconds: float
    bulk_bytes: int
    idle: int
    connections: int = 160
    in_flight: int = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """
    What all entries share.

    key:           a word of KeyType; version: of the connections on which bytes are moved
    verdict_cache: whether the sidecars have theirs
    """

    client: StreamClient
    generators: Generators
    scale: Scale
    key: str
    version: str = "1.3"
    verdict_cache: bool = True

    def scenario(
        self,
        side: str,
        security: Security,
        workload: Workload,
        *,
        version: str | None = None,
        mode: Mode | None = None,
        concurrency: int | None = None,
        message_bytes: int | None = None,
    ) -> Scenario:
        """The row's, with what hangs on whether it is TLS."""
        version = (version or self.version) if security is not Security.PLAINTEXT else None
        return Scenario(
            side=side,
            workload=workload,
            security=security,
            version=version,
            key=KEY_WORDS[self.key] if version else None,
            group=GROUP if version else None,
            cipher=CIPHER if version else None,
            mode=mode,
            client_certificate=security is Security.MUTUAL_TLS,
            concurrency=concurrency,
            message_bytes=message_bytes,
        )


def handshakes(bench: Bench, side: Side, version: str, mode: Mode) -> Entry:
    """Full or resumed handshakes, each with one byte each way through the app."""
    assert side.credentials is not None
    scale = bench.scale
    scenario = bench.scenario(
        side.name, side.security, Workload.HANDSHAKE, version=version, mode=mode, concurrency=scale.in_flight
    )
    plan = Plan(
        address=side.address,
        credentials=side.credentials,
        offer=offer(version, bench.key),
        resumed=mode is Mode.RESUMED,
        pace=ClosedLoop(in_flight=scale.in_flight),
        request=_ASK,
        seconds=scale.seconds,
        warm_up_s=_WARM_UP_S,
    )

    def measure() -> Measurement:
        round_, measured = measure_once(Contender(scenario, plan, ProcessCpu(side.pids)), bench.generators)
        return round_, measured.negotiated

    return Entry(scenario, measure)


def connects(bench: Bench, side: Side, in_flight: int) -> Entry:
    """New connections, plaintext or TLS in full, with one byte each way; one at a time shows how long one takes."""
    count = bench.scale.connections if in_flight > 1 else bench.scale.connections // 4
    scenario = bench.scenario(side.name, side.security, Workload.HANDSHAKE, concurrency=in_flight)

    def measure() -> Measurement:
        client = bench.client
        _aim(bench, side)
        client.exchange(CONNECTING, CONNECTING)  # warms the path up
        with _Cpu(side) as cpu:
            report = client.exchange(count, in_flight)
        return _round(report, cpu.used_s), report.negotiated

    return Entry(scenario, measure)


def requests(bench: Bench, side: Side, connections: int) -> Entry:
    """1 KiB there and back, one in flight on each connection."""
    scenario = bench.scenario(
        side.name, side.security, Workload.REQUEST, concurrency=connections, message_bytes=MESSAGE_BYTES
    )

    def measure() -> Measurement:
        client = bench.client
        _aim(bench, side)
        opened = client.open(connections, CONNECTING)
        client.requests(min(_WARM_UP_S, bench.scale.seconds))
        with _Cpu(side) as cpu:
            report = client.requests(bench.scale.seconds)
        client.close_streams()
        return _round(report, cpu.used_s), opened.negotiated

    return Entry(scenario, measure)


def bulk(bench: Bench, side: Side, workload: Workload) -> Entry:
    """One long transfer on one connection."""
    size = bench.scale.bulk_bytes
    scenario = bench.scenario(side.name, side.security, workload, concurrency=1)

    def measure() -> Measurement:
        client = bench.client
        _aim(bench, side)
        opened = client.open(1, 1)
        with _Cpu(side) as cpu:
            report = client.transfer(size, upload=workload is Workload.UPLOAD)
        client.close_streams()
        round_ = Round(
            count=1,
            seconds=report.seconds,
            server_cpu_s=cpu.used_s,
            client_cpu_s=report.cpu_s,
            payload_bytes=size,
        )
        return round_, opened.negotiated

    return Entry(scenario, measure)


def idle(bench: Bench, name: str, security: Security, start: Callable[[], Side], stop: Callable[[Side], None]) -> Entry:
    """
    What memory grows by while connections are open and idle.

    start: a fresh side for each round, for one that has served keeps what it grew to; stop: ends it
    """
    count = bench.scale.idle
    scenario = bench.scenario(name, security, Workload.IDLE, concurrency=count)

    def measure() -> Measurement:
        client, side = bench.client, start()
        try:
            _aim(bench, side)
            cpu = ProcessCpu(side.pids)
            settled_s(cpu)
            before = memory_of(side.pids).pss_bytes
            opened = client.open(count, CONNECTING)
            settled_s(cpu)
            grown = max(0, memory_of(side.pids).pss_bytes - before)
            client.close_streams()
        finally:
            stop(side)
        return Round(count=count, seconds=opened.seconds, memory_bytes=grown), opened.negotiated

    return Entry(scenario, measure, most_rounds=2)


def floor(
    bench: Bench,
    bottom: Floor,
    identities: Identities,
    work: Work,
    *,
    version: str | None = None,
    mode: Mode | None = None,
    mutual: bool = True,
) -> Entry:
    """The same work by OpenSSL alone. version: None for that of the bench; mode: as it stands in the row"""
    workload = Workload.HANDSHAKE if work in (Work.FULL, Work.RESUMED) else Workload(work.value)
    scenario = bench.scenario(
        FLOOR,
        Security.MUTUAL_TLS if mutual else Security.TLS,
        workload,
        version=version or bench.version,
        mode=mode,
        concurrency=CONNECTING if workload is Workload.HANDSHAKE and mode is None else None,
        message_bytes=MESSAGE_BYTES if work is Work.REQUEST else None,
    )
    order = FloorOrder(
        work=work,
        cert=str(identities.server / CERT_FILE),
        key=str(identities.server / KEY_FILE),
        credentials=identities.credentials,
        offer=offer(version or bench.version, bench.key),
        mutual=mutual,
        message_bytes=MESSAGE_BYTES,
        seconds=bench.scale.seconds,
    )
    return Entry(scenario, lambda: (bottom.measure(order), None))


class _Cpu:
    """The CPU that a side uses inside a `with`, read when it is quiet; unknown where there is no process to read."""

    def __init__(self, side: Side) -> None:
        self._server = ProcessCpu(side.pids) if side.pids else None
        self._before_s = 0.0
        self.used_s: float | None = None

    def __enter__(self) -> "_Cpu":
        if self._server is not None:
            self._before_s = settled_s(self._server)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._server is not None and kind is None:
            self.used_s = max(0.0, settled_s(self._server) - self._before_s)


def _aim(bench: Bench, side: Side) -> None:
    bench.client.aim(side.address, side.credentials, offer(bench.version, bench.key), MESSAGE_BYTES)


def _round(report: StreamReport, server_cpu_s: float | None) -> Round:
    if not report.count:
        raise LoadFault("nothing was measured: no answer came in time")
    return Round(
        count=report.count,
        seconds=report.seconds,
        server_cpu_s=server_cpu_s,
        client_cpu_s=report.cpu_s,
        latency=report.latency,
        client_limited=report.cpu_s >= CLIENT_LIMITED * report.seconds,
    )
