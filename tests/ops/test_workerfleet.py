"""Workers are kept alive, asked as one and counted as one; here they are stand-ins that do as a test says."""

import asyncio
from collections.abc import Callable, Mapping
from typing import cast

import pytest

from proxy.core.config import LogLevel
from proxy.ops.configsource import Source
from proxy.ops.log import Log
from proxy.ops.workerfleet import EXIT_GAVE_UP, Fleet
from proxy.ops.workerhandle import WorkerHandle
from proxy.ops.workerlink import LinkLost, Order, SetLogLevel, Show, Start, Status, What, encode
from tests.ops.test_metrics import AT, LIFE, living, make

SOURCE = Source(b"text", "file")
READY = Status(True, "ready", 1, "ab")


class Worker:
    """What a fleet sees of a worker process."""

    def __init__(self, number: int, serial: int, _loop_name: str, on_status: Callable[[], None]) -> None:
        self.number, self.serial, self.pid = number, serial, 1000 + serial
        self.status: Status | None = None
        self.was_ready = False
        self.gone = asyncio.Event()
        self.exit_status = -9
        self.started: Start | None = None
        self.told: list[Order] = []
        self.answers: Mapping[What, bytes] = {}
        self.why_not_ready: str | None = "it is starting"
        self._on_status = on_status

    def start(self, start: Start, _sockets: object) -> None:
        self.started = start

    def say(self, status: Status) -> None:
        self.status, self.was_ready = status, self.was_ready or status.ready
        self.why_not_ready = None if status.ready else status.detail
        self._on_status()

    async def ask(self, order: Order, _within_s: float | None) -> bytes:
        assert isinstance(order, Show)
        if order.what not in self.answers:
            raise LinkLost(f"worker {self.number} does not answer: it sulks")
        return self.answers[order.what]

    def tell(self, order: Order) -> None:
        self.told.append(order)

    async def reap(self) -> int:
        return self.exit_status

    def release(self) -> None:
        self.gone.set()

    kill = release


class Words:
    """A log that keeps what was said."""

    dropped = 0

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, object]]] = []

    def error(self, event: str, **fields: object) -> None:
        self.lines.append((event, fields))

    debug = warning = error


class World:
    """A fleet of two whose workers are `workers`, by serial."""

    def __init__(self) -> None:
        self.workers: list[Worker] = []
        self.log = Words()
        self.gave_up = 0
        self.failing_spawns = 0
        self.fleet = Fleet(
            2,
            "asyncio",
            cast("Log", self.log),
            assignment=lambda: (SOURCE, {}, LogLevel.INFO),
            gave_up=self._give_up,
            spawn=self._spawn,
        )
        self.changed = asyncio.Event()

    def _spawn(self, number: int, serial: int, loop_name: str, on_status: Callable[[], None]) -> WorkerHandle:
        if self.failing_spawns:
            self.failing_spawns -= 1
            raise OSError(11, "Resource temporarily unavailable")
        worker = Worker(number, serial, loop_name, on_status)
        self.workers.append(worker)
        self.changed.set()
        return cast("WorkerHandle", worker)

    def _give_up(self) -> None:
        self.gave_up += 1
        self.fleet.hold()

    async def until_workers(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.workers) < count:
                self.changed.clear()
                await self.changed.wait()
        await asyncio.sleep(0)


@pytest.fixture
async def world() -> World:
    return World()


async def kept(world: World, tasks: asyncio.TaskGroup) -> tuple[Worker, Worker]:
    for number in (1, 2):
        tasks.create_task(world.fleet.keep(number))
    await world.until_workers(2)
    first, second = world.workers
    return first, second


async def test_a_dead_worker_is_started_again_under_its_number(world: World) -> None:
    async with asyncio.TaskGroup() as tasks:
        first, second = await kept(world, tasks)
        second.say(Status(True, "ready", 7, "ab"))
        first.gone.set()
        await world.until_workers(3)
        third = world.workers[2]
        assert (third.number, third.serial) == (1, 3)
        assert first.started is not None
        assert second.started is not None
        secret = first.started.ticket_secret
        assert len(secret) == 32
        assert secret == second.started.ticket_secret  # or a ticket would open at the worker alone that gave it out
        assert third.started == Start(1, 2, SOURCE, LogLevel.INFO, 6, secret)  # its generation is its siblings' seventh
        assert repr(secret) not in repr(third.started)
        assert world.fleet.counts.restarts.value == 1
        detail = "process 1001: ended by SIGKILL (somebody's, or the kernel's where memory ran out)"
        assert ("worker ended", {"worker": 1, "detail": detail, "restart_in_s": 0.1}) in world.log.lines
        world.fleet.stop()
    assert len(world.workers) == 3


async def test_a_process_that_cannot_be_had_is_tried_again(world: World) -> None:
    world.failing_spawns = 1
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(world.fleet.keep(1))
        await world.until_workers(1)
        ((event, fields),) = [line for line in world.log.lines if line[0] == "worker ended"]
        assert event
        assert fields["detail"] == "it could not be started: Resource temporarily unavailable"
        world.fleet.stop()


async def test_while_none_was_ever_ready_giving_up_is_final(world: World) -> None:
    async with asyncio.TaskGroup() as tasks:
        first, second = await kept(world, tasks)
        first.exit_status = EXIT_GAVE_UP
        first.gone.set()
        async with asyncio.timeout(10):
            while not world.gave_up:
                await asyncio.sleep(0)
        second.release()
    assert len(world.workers) == 2


async def test_later_one_that_gives_up_is_started_again(world: World) -> None:
    async with asyncio.TaskGroup() as tasks:
        first, second = await kept(world, tasks)
        second.say(READY)
        first.exit_status = EXIT_GAVE_UP
        first.gone.set()
        await world.until_workers(3)
        assert world.gave_up == 0
        world.fleet.stop()


async def test_one_that_serves_is_enough_to_be_ready(world: World) -> None:
    async with asyncio.TaskGroup() as tasks:
        first, second = await kept(world, tasks)
        why = "0 of 2 workers are ready; worker 1: it is starting; worker 2: it is starting"
        assert world.fleet.ready() == (False, why)
        first.say(READY)
        assert world.fleet.ready() == (True, "1 of 2 workers are ready; worker 2: it is starting")
        second.say(READY)
        assert world.fleet.ready() == (True, "2 of 2 workers are ready")
        world.fleet.stop()


async def test_the_identity_shown_is_the_newest_and_who_has_another_lags(world: World) -> None:
    old = {"generation": 1, "digest": "aa", "published_at": "2026-11-24T12:00:00.000Z", "chain": []}
    new = {"generation": 2, "digest": "bb", "published_at": "2026-11-24T12:00:01.000Z", "chain": ["leaf"]}
    async with asyncio.TaskGroup() as tasks:
        first, second = await kept(world, tasks)
        first.answers = {What.CERTS: encode({**old, "identity_failure": {"reason": "KEY_MISMATCH"}})}
        second.answers = {What.CERTS: encode(new)}
        shown = await world.fleet.certs()
        assert (shown["digest"], shown["chain"], shown["lagging"]) == ("bb", ["leaf"], [1])
        assert shown["identity_failure"] == {"reason": "KEY_MISMATCH"}
        second.answers = {}
        shown = await world.fleet.certs()
        assert (shown["digest"], shown["lagging"]) == ("aa", [2])
        world.fleet.stop()


async def test_connections_carry_their_worker_and_silence_is_a_row(world: World) -> None:
    async with asyncio.TaskGroup() as tasks:
        first, _ = await kept(world, tasks)
        first.answers = {What.CONNECTIONS: encode([{"listener": "http", "start_time": "2026"}])}
        assert await world.fleet.connections() == [
            {"worker": 2, "detail": "worker 2 does not answer: it sulks"},
            {"worker": 1, "listener": "http", "start_time": "2026"},
        ]
        world.fleet.stop()


async def test_recent_refusals_carry_their_worker_and_who_is_silent_is_left_out(world: World) -> None:
    async with asyncio.TaskGroup() as tasks:
        first, _ = await kept(world, tasks)
        first.answers = {What.RECENT: encode({"refusals": [{"reason": "DENIED"}], "reloads": []})}
        assert await world.fleet.recent() == [{"refusals": [{"worker": 1, "reason": "DENIED"}], "reloads": []}]
        world.fleet.stop()


async def test_what_a_dead_worker_counted_stays_and_what_it_held_goes(world: World) -> None:
    metrics = make()
    metrics.watch(lambda: [living()])
    for event in LIFE:
        metrics.emit(event)
    async with asyncio.TaskGroup() as tasks:
        for worker in await kept(world, tasks):
            worker.answers = {What.METRICS: metrics.snapshot()}
        assert await exposed(world, "closed_total") == await exposed(world, "connections_active") == 2
        world.workers[0].gone.set()
        await world.until_workers(3)
        assert await exposed(world, "closed_total") == 2
        assert await exposed(world, "connections_active") == 1
        assert await exposed(world, "worker_restarts_total") == 1
        world.fleet.stop()


async def exposed(world: World, name: str) -> float:
    _, body = await world.fleet.metrics("")
    labels = ",".join(f'{key}="{value}"' for key, value in AT.items())
    starts = (f"mtls_sidecar_{name}{{{labels}", f"mtls_sidecar_{name} ")
    return sum(float(line.rpartition(" ")[2]) for line in body.decode().splitlines() if line.startswith(starts))


async def test_a_word_to_all_reaches_all(world: World) -> None:
    async with asyncio.TaskGroup() as tasks:
        workers = await kept(world, tasks)
        world.fleet.tell_all(SetLogLevel(LogLevel.ERROR))
        assert [worker.told for worker in workers] == [[SetLogLevel(LogLevel.ERROR)]] * 2
        world.fleet.stop()
