"""
The run: rounds in which every side does every measure once, in an order that changes from round to round.

Interleaving is what makes ratios worth reading on a machine that others use too: whatever slows the machine down for a
while slows all sides. A number is the CPU of the side's own processes over a job, divided by what the job did.
"""

import random
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

from bench.fleet import Fleet, Side, SideFailed
from bench.measures import MEASURES, Kind, Measure
from proxy.lab.servercpu import ProcessCpu, settled_s
from proxy.lab.servermemory import Memory, memory_of
from proxy.tls.loadclient import Negotiated

GB = 1_000_000_000
MIB = 1 << 20
IN_FLIGHT = 32  # enough to keep the server busy: a server that waits pays a wake-up for every step
REQUEST_CONNECTIONS = 64
IDLE_CONNECTIONS = 1_000
OUTBOUND_RESUMED_SHARE = 0.95  # the first of a burst may start before a session is there to offer
MEMORY_LOOK_S = 0.25
RETURN_S = 15.0  # how long memory may take to go back after the last close
ONLY_FULL = ("bare_no_tickets",)
CHAIN_MEASURES = ("full_1_3", "resumed_1_3", "requests", "upload", "download")


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything, per round and side. request_s: for how long requests are sent"""

    rounds: int
    connections: int
    request_s: float
    bulk_bytes: int
    memory_rounds: int


SCALES = {
    "quick": Scale(rounds=3, connections=250, request_s=0.5, bulk_bytes=128 * MIB, memory_rounds=1),
    "full": Scale(rounds=5, connections=2_000, request_s=2.5, bulk_bytes=1024 * MIB, memory_rounds=3),
}


@dataclass(slots=True)
class Results:
    """Numbers of every round by measure and side, a sentence for each row that failed, and what was negotiated."""

    numbers: dict[str, dict[str, list[float]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    failures: dict[tuple[str, str], str] = field(default_factory=dict)
    settled: set[Negotiated] = field(default_factory=set)

    def add(self, measure: str, side: str, number: float) -> None:
        self.numbers[measure][side].append(number)

    def fail(self, measure: str, side: str, sentence: str) -> None:
        """A row fails whole: what the other rounds measured is not shown beside a failure."""
        self.failures.setdefault((measure, side), sentence)
        self.numbers[measure].pop(side, None)


def resumed_count(side: Side, measure: Measure) -> float:
    """How many handshakes the product says it resumed on this measure's listener."""
    label = side.labels[measure.key]
    with urllib.request.urlopen(f"http://127.0.0.1:{side.admin_port}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    wanted = (f'listener="{label}"', 'direction="outbound"', 'resumed="true"')
    return sum(
        float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith("mtls_sidecar_handshakes_total{") and all(word in line for word in wanted)
    )


def handshakes(fleet: Fleet, side: Side, measure: Measure, scale: Scale, results: Results) -> float:
    """CPU us per connection: accept, handshake, dial, one byte each way, close."""
    resume = measure.kind is Kind.RESUMED
    client, cpu = fleet.client, ProcessCpu(side.pids)
    fleet.aim(side, measure.key, measure.tls)
    # Warms the path up and, for resumption, leaves a session behind. Not measured.
    client.exchange(2 * IN_FLIGHT, IN_FLIGHT, resume=resume)
    counted = resume and not side.secured
    before = resumed_count(side, measure) if counted else 0.0
    start_s = settled_s(cpu)
    report = client.exchange(scale.connections, IN_FLIGHT, resume=resume)
    used_s = settled_s(cpu) - start_s
    if report.negotiated is not None:
        results.settled.add(report.negotiated)
    if side.secured and report.resumed != (scale.connections if resume else 0):
        raise SideFailed(f"{report.resumed} of {scale.connections} handshakes were resumed")
    if counted:
        resumed = resumed_count(side, measure) - before
        if resumed < OUTBOUND_RESUMED_SHARE * scale.connections:
            raise SideFailed(f"{resumed:.0f} of {scale.connections} upstream handshakes were resumed")
    return used_s / scale.connections * 1e6


def streams(fleet: Fleet, side: Side, measure: Measure, scale: Scale, _results: Results) -> float:
    """CPU us per request, or ms per GB, on connections that are open before the clock starts."""
    requests = measure.kind is Kind.REQUESTS
    client, cpu = fleet.client, ProcessCpu(side.pids)
    fleet.aim(side, measure.key, measure.tls)
    client.open(REQUEST_CONNECTIONS if requests else 1, IN_FLIGHT)
    start_s = settled_s(cpu)
    if requests:
        done = client.requests(scale.request_s).count
    else:
        client.transfer(scale.bulk_bytes, upload=measure.kind is Kind.UPLOAD)
    used_s = settled_s(cpu) - start_s
    client.close_streams()
    return used_s / done * 1e6 if requests else used_s / scale.bulk_bytes * GB * 1e3


def takes_part(side: str, measure: Measure) -> bool:
    """Not every side has every measure."""
    if side in ONLY_FULL:
        return measure.kind is Kind.FULL
    return side != "chain" or measure.key in CHAIN_MEASURES


def run_rounds(
    fleet: Fleet, sides: list[Side], scale: Scale, seed: int, results: Results, say: Callable[[str], None]
) -> None:
    """All rounds of all measures of all sides."""
    order = random.Random(seed)
    for number in range(scale.rounds):
        start = time.monotonic()
        for measure in MEASURES:
            for side in order.sample(sides, len(sides)):
                if not takes_part(side.name, measure) or (measure.key, side.name) in results.failures:
                    continue
                work = handshakes if measure.kind in (Kind.FULL, Kind.RESUMED) else streams
                try:
                    results.add(measure.key, side.name, work(fleet, side, measure, scale, results))
                except (SideFailed, OSError) as error:
                    results.fail(measure.key, side.name, str(error))
        say(f"round {number + 1} of {scale.rounds}: {time.monotonic() - start:.0f} s")


def start_sides(fleet: Fleet, names: list[str], results: Results) -> list[Side]:
    """Start what was asked for; what does not start is a failure of its own and of what stands on it."""
    app = iter(fleet.app_ports)
    sides: dict[str, Side] = {}
    for name in ("bare", "bare_no_tickets", "ordinary", "product"):
        if name not in names:
            continue
        try:
            start = (
                fleet.inbound
                if name == "product"
                else lambda port, stack, name=name: fleet.yardstick(name, port, stack)
            )
            sides[name] = start(next(app), fleet.stack)
        except SideFailed as error:
            results.fail("start", name, str(error))
    try:
        if "outbound" in names and {"bare", "product"} <= sides.keys():
            start_outbound(fleet, sides, next(app))
    except SideFailed as error:
        results.fail("start", "outbound", str(error))
    return list(sides.values())


def start_outbound(fleet: Fleet, sides: dict[str, Side], app_port: int) -> None:
    """The outbound path needs something to speak TLS to: a bare engine for each version, and the inbound product."""
    bare_1_2 = fleet.yardstick("bare", app_port, fleet.stack, "1.2")
    bare, product = sides["bare"].door(""), sides["product"].door("")
    upstreams = dict.fromkeys(("full_1_3", "resumed_1_3"), bare)
    upstreams |= {key: bare_1_2.door("") for key in ("full_1_2", "resumed_1_2")}
    upstreams |= {f"chain-{key}": product for key in ("full_1_3", "resumed_1_3")}
    outbound, chain = fleet.outbound(upstreams, fleet.stack)
    chain.pids += sides["product"].pids
    sides |= {"outbound": outbound, "chain": chain}


def least_memory(pid: int, at_most_s: float = 1.0, enough: int = 0) -> Memory:
    """At its least within a while: a side may give memory back some time after the last close."""
    deadline = time.monotonic() + at_most_s
    least = memory_of([pid])
    while time.monotonic() < deadline and least.pss_bytes > enough:
        time.sleep(MEMORY_LOOK_S)
        least = min(least, memory_of([pid]))
    return least


def measure_memory(fleet: Fleet, name: str, results: Results) -> None:
    """One side, freshly started and alone: start, idle, two waves of connections, afterwards."""
    with ExitStack() as stack:
        port = fleet.app_ports[0]
        side = fleet.inbound(port, stack, "product") if name == "product" else fleet.yardstick(name, port, stack)
        pid = side.pids[0]
        idle, idle_rss = least_memory(pid)
        peaks = []
        fleet.aim(side, "", "1.3")
        for _ in range(2):
            fleet.client.open(IDLE_CONNECTIONS, IN_FLIGHT)
            peaks.append(least_memory(pid).pss_bytes)
            fleet.client.close_streams()
        growth = max(peaks[0] - idle, 1)
        # Waits longer only for what has promised to give memory back, and no longer than it keeps most of it.
        wait_s = RETURN_S if name == "product" else 1.0
        after = least_memory(pid, wait_s, idle + growth // 4).pss_bytes
    for measure, number in {
        "start_s": side.started_s,
        "idle_mib": idle / MIB,
        "idle_rss_mib": idle_rss / MIB,
        "connection_kib": growth / 1024 / IDLE_CONNECTIONS,
        "second_wave_kib": (peaks[1] - peaks[0]) / 1024 / IDLE_CONNECTIONS,
        "kept_share": (after - idle) / growth,
    }.items():
        results.add(measure, name, number)


def run_memory(fleet: Fleet, names: list[str], rounds: int, results: Results, say: Callable[[str], None]) -> None:
    """Memory of each side, one after the other, so that no side shares its pages with another."""
    for number in range(rounds):
        for name in names:
            if ("memory", name) not in results.failures:
                try:
                    measure_memory(fleet, name, results)
                except (SideFailed, OSError) as error:
                    results.fail("memory", name, str(error))
        say(f"memory {number + 1} of {rounds}")
