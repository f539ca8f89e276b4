"""
Two workers behind one address: SO_REUSEPORT against one listening socket that both inherit.

usage: python -m bench.workers [--rounds N] [--json FILE]

The workers are bare engines, so the table shows what the kernel does and nothing of the sidecar. With SO_REUSEPORT
each worker has a queue of its own and the kernel deals connections out by a hash; with a shared socket there is one
queue and whoever is awake takes from it. Asked here: what a connection costs, how evenly connections are spread (in a
crowd, one at a time, and held ones, which stay where they fell), how often a worker is woken for nothing, what the
slowest client sees while one worker is busy for a second, and what becomes of clients in the queue of a dying worker.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop
from tabulate import tabulate

from bench.fleet import Address, Fleet, Side, SideFailed
from bench.measures import spread
from bench.report import machine
from bench.yardsticks.bare_engine import Engine, listen, server_context
from proxy.lab.keeper import Keeper
from proxy.lab.latencies import Latencies
from proxy.lab.servercpu import ProcessCpu, settled_s

MODES = ("SO_REUSEPORT", "shared socket")
SHORT, LONE, HELD, QUEUED, IN_FLIGHT = 600, 100, 200, 24, 32
BUSY_S = 1.0
DIES_AFTER_S = 0.5
TITLES = {
    "cpu_us": "CPU of both workers, us/conn",
    "short_share": "busier worker's share of short connections",
    "lone_share": "the same, one connection at a time",
    "held_share": "busier worker's share of 200 held connections",
    "vain": "wake-ups for nothing, per 100 connections",
    "p50_ms": "median connection, ms",
    "p99_ms": "99th percentile, ms",
    "busy_ms": "slowest of 24 while one worker is busy for 1 s, ms",
}


async def serve(fd: int, app_port: int, cert: str, key: str, ca: str) -> None:
    """A worker: relays until it is ended; on SIGUSR1 it says what it has accepted so far."""
    loop = asyncio.get_running_loop()
    engine = Engine(loop, server_context(cert, key, ca, "any", tickets=True), ("127.0.0.1", app_port))
    listener = socket.socket(fileno=fd)

    def tell() -> None:
        print(json.dumps([engine.accepted, engine.idle_wakeups]), flush=True)

    loop.add_signal_handler(signal.SIGUSR1, tell)
    loop.add_reader(listener.fileno(), engine.accept, listener)
    tell()
    await asyncio.Event().wait()


@dataclass(slots=True)
class Pair:
    """Two running workers and where they listen."""

    door: Address
    workers: list[subprocess.Popen[str]]

    @property
    def pids(self) -> list[int]:
        return [worker.pid for worker in self.workers]

    def counts(self) -> list[tuple[int, int]]:
        """(accepted, wake-ups for nothing) of each worker."""
        for worker in self.workers:
            worker.send_signal(signal.SIGUSR1)
        return [hear(worker) for worker in self.workers]


def hear(worker: subprocess.Popen[str]) -> tuple[int, int]:
    """The next line of a worker."""
    assert worker.stdout is not None
    accepted, vain = json.loads(worker.stdout.readline())
    return accepted, vain


@contextmanager
def pair(fleet: Fleet, mode: str) -> Iterator[Pair]:
    """Start two workers. The parent closes its own copies: a socket that nobody serves would take connections too."""
    port = fleet.free_port()
    reuse = mode == "SO_REUSEPORT"
    sockets = [listen("127.0.0.1", port, reuse_port=reuse) for _ in range(2 if reuse else 1)]
    usable = sorted(os.sched_getaffinity(0))
    pki, words = fleet.pki, [str(fleet.app_ports[0])]
    words += [pki.server_cert, pki.server_key, pki.ca]
    with ExitStack() as stack:
        workers = []
        for number in range(2):
            fd = sockets[number % len(sockets)].fileno()
            argv = [sys.executable, "-m", "bench.workers", "--serve", str(fd), *words]
            pipes = {"stdout": subprocess.PIPE, "pass_fds": (fd,)}
            workers.append(fleet.spawn("worker", argv, set(usable[:2]), stack, **pipes)[0])
        for listening in sockets:
            listening.close()
        for worker in workers:
            hear(worker)
        yield Pair(("127.0.0.1", port), workers)


def shares(before: list[tuple[int, int]], after: list[tuple[int, int]]) -> float:
    """The share of new connections that the busier worker took."""
    taken = [late[0] - early[0] for early, late in zip(before, after, strict=True)]
    return max(taken) / max(sum(taken), 1)


def one_round(fleet: Fleet, mode: str) -> tuple[dict[str, float], bool]:
    """Numbers of one round, and whether clients that waited at a dying worker were lost."""
    numbers: dict[str, float] = {}
    client = fleet.client
    with pair(fleet, mode) as workers:
        fleet.aim(Side("workers", workers.pids, {"": workers.door}), "", "1.3")
        client.exchange(64, IN_FLIGHT)
        cpu = ProcessCpu(workers.pids)
        before, start_s = workers.counts(), settled_s(cpu)
        held = Latencies.decode(client.exchange(SHORT, IN_FLIGHT).latency)
        numbers["cpu_us"] = (settled_s(cpu) - start_s) / SHORT * 1e6
        after = workers.counts()
        numbers["short_share"] = shares(before, after)
        numbers["vain"] = (sum(each[1] for each in after) - sum(each[1] for each in before)) * 100 / SHORT
        numbers["p50_ms"], numbers["p99_ms"] = ((held.percentile(percent) or 0.0) * 1e3 for percent in (50, 99))

        client.exchange(LONE, 1)
        before, after = after, workers.counts()
        numbers["lone_share"] = shares(before, after)
        client.open(HELD, IN_FLIGHT)
        numbers["held_share"] = shares(after, workers.counts())
        client.close_streams()

        first = workers.workers[0]
        first.send_signal(signal.SIGSTOP)
        waker = threading.Timer(BUSY_S, first.send_signal, [signal.SIGCONT])
        waker.start()
        held = Latencies.decode(client.exchange(QUEUED, QUEUED).latency)
        numbers["busy_ms"] = (held.percentile(100) or 0.0) * 1e3
        waker.join()

        first.send_signal(signal.SIGSTOP)
        killer = threading.Timer(DIES_AFTER_S, first.kill)
        killer.start()
        try:
            client.exchange(QUEUED, QUEUED)
            lost = False
        except SideFailed:
            lost = True
        killer.join()
    return numbers, lost


def table(rounds: dict[str, dict[str, list[float]]], lost: dict[str, list[bool]]) -> str:
    """One row a question, one column a mode."""
    rows = []
    for key, title in TITLES.items():
        cells = [(statistics.median(rounds[mode][key]), spread(rounds[mode][key])) for mode in MODES]
        rows.append([title, *(f"{middle:.2f}  ±{noise:.0%}" for middle, noise in cells)])
    fates = [f"{sum(lost[mode])} of {len(lost[mode])}" for mode in MODES]
    rows.append(["rounds in which a dying worker lost waiting clients", *fates])
    return tabulate(rows, ["two workers, TLS 1.3, full handshakes", *MODES], disable_numparse=True)


def main(arguments: list[str]) -> None:
    """Measure both modes in turn and print the table."""
    if arguments[:1] == ["--serve"]:
        fd, app_port, cert, key, ca = arguments[1:]
        uvloop.run(serve(int(fd), int(app_port), cert, key, ca))
        return
    parser = argparse.ArgumentParser(prog="python -m bench.workers", description="SO_REUSEPORT or a shared socket?")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number and the machine's facts there")
    options = parser.parse_args(arguments)
    rounds: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    lost: dict[str, list[bool]] = defaultdict(list)
    with (
        tempfile.TemporaryDirectory(prefix="mtls-sidecar-bench-") as folder,
        closing(Keeper(Path(folder))) as keeper,
        Fleet(Path(folder), keeper, apps=1) as fleet,
    ):
        for number in range(options.rounds):
            for mode in MODES if number % 2 else reversed(MODES):
                numbers, clients_lost = one_round(fleet, mode)
                lost[mode].append(clients_lost)
                for key, value in numbers.items():
                    rounds[mode][key].append(value)
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
    print(table(rounds, lost))
    if options.json:
        options.json.write_text(json.dumps({**machine(), "rounds": rounds, "lost": lost}, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
