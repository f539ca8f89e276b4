"""
All workers together: kept alive, asked as one, counted as one.

A worker that ends by itself is started again under the same number, after a pause that doubles while it keeps dying.
Clients that wait in the backlog wait on: the listening sockets are shared, so a sibling or the successor takes them. No
question to all takes longer than its deadline, whatever one of them does, and who did not answer is named.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence

from prometheus_client import CollectorRegistry

from proxy.core.config import LogLevel
from proxy.core.events import Event, Reloaded
from proxy.ops.configsource import Source
from proxy.ops.log import Log
from proxy.ops.metricfamilies import counter, counter_family, without_created
from proxy.ops.metricsmerge import MergedMetrics
from proxy.ops.metricsmerge import encode as encode_families
from proxy.ops.workerhandle import Addresses, Backoff, WorkerHandle, describe_end, read_outcome, read_recent, read_rows
from proxy.ops.workerlink import LinkLost, Order, Show, Start, What
from proxy.tls.ticketkeys import new_secret

ASK_S = 2.0  # for what a worker can say at once
EXIT_GAVE_UP = 3  # ops/workerprocess.py, whose imports are no business of this process
_OURS = 0  # in the merged metrics; serials of workers start at 1

Answer = bytes | str
Spawn = Callable[[int, int, str, Callable[[], None]], WorkerHandle]
Assignment = Callable[[], tuple[Source, Addresses, LogLevel]]


class Counts:
    """What the supervisor counts by itself; an observer of its reloads."""

    def __init__(self, dropped: Callable[[], int]) -> None:
        registry = CollectorRegistry()
        self._dropped = dropped
        self._reloads = counter("reloads_total", registry)
        self.restarts = counter("worker_restarts_total", registry).labels()
        self._registry = registry

    def emit(self, event: Event) -> None:
        """Take one fact; only reloads happen here."""
        if isinstance(event, Reloaded):
            self._reloads.labels(event.result.value, event.reason.value).inc()

    def snapshot(self) -> bytes:
        """Pack everything, as a worker does."""
        dropped = counter_family("log_lines_dropped_total")
        dropped.add_metric([], self._dropped())
        return encode_families([*without_created(self._registry.collect()), dropped])


class Fleet:
    """
    The workers.

    assignment: what a worker that starts now is to serve
    gave_up:    called when a worker found no valid identity in time and none was ever ready
    spawn:      starts a process; raises OSError when the system has none left
    """

    def __init__(
        self,
        size: int,
        loop_name: str,
        log: Log,
        *,
        assignment: Assignment,
        gave_up: Callable[[], None],
        spawn: Spawn = WorkerHandle,
    ) -> None:
        self.size = size
        self.was_ready = False
        self.generation = 0  # the highest of any worker so far
        self.counts = Counts(lambda: log.dropped)
        self._loop = asyncio.get_running_loop()
        self._loop_name = loop_name
        self._log = log
        self._assignment = assignment
        self._gave_up = gave_up
        self._ticket_secret = new_secret()  # for as long as this sidecar lives, so that a restarted worker has it too
        self._spawn = spawn
        self._handles: dict[int, WorkerHandle] = {}
        self._serials = 0
        self._metrics = MergedMetrics()
        self._measuring = asyncio.Lock()
        self._stopping = asyncio.Event()

    @property
    def handles(self) -> list[WorkerHandle]:
        """Those that live, by number."""
        return [handle for _, handle in sorted(self._handles.items()) if not handle.gone.is_set()]

    def ready(self) -> tuple[bool, str]:
        """Whether at least one serves, and how many of how many, with a reason for each that does not."""
        missing: dict[int, str] = {}
        for number in range(1, self.size + 1):
            handle = self._handles.get(number)
            why = "it is being started" if handle is None else handle.why_not_ready
            if why is not None:
                missing[number] = why
        count = self.size - len(missing)
        why = "".join(f"; worker {number}: {why}" for number, why in missing.items())
        return count > 0, f"{count} of {self.size} workers are ready{why}"

    # Their life.

    async def keep(self, number: int) -> None:
        """Keep a worker under this number until `stop`."""
        backoff = Backoff()
        while not self._stopping.is_set():
            started_at = self._loop.time()
            ended = await self._live_once(number)
            if self._stopping.is_set():
                return
            pause_s = backoff.after(self._loop.time() - started_at)
            self._log.error("worker ended", worker=number, detail=ended, restart_in_s=pause_s)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stopping.wait()
                    return
            self.counts.restarts.inc()

    async def _live_once(self, number: int) -> str:
        """From a worker's start to its end. Returns: how it ended."""
        self._serials += 1
        try:
            handle = self._spawn(number, self._serials, self._loop_name, self._on_status)
        except OSError as error:
            return f"it could not be started: {error.strerror or error}"
        self._handles[number] = handle
        self._log.debug("worker started", worker=number, worker_pid=handle.pid)
        try:
            source, sockets, level = self._assignment()
            number_from = max(0, self.generation - 1)
            handle.start(Start(number, self.size, source, level, number_from, self._ticket_secret), sockets)
            await handle.gone.wait()
            status = await handle.reap()
        finally:
            handle.kill()
            handle.release()
            self._metrics.retire(handle.serial)
        if status == EXIT_GAVE_UP and not self.was_ready:
            self._gave_up()
        return f"process {handle.pid}: {describe_end(status)}"

    def _on_status(self) -> None:
        for handle in self._handles.values():
            if handle.status is not None:
                self.learn_generation(handle.status.generation)
                self.was_ready |= handle.was_ready

    def learn_generation(self, number: object) -> None:
        """A worker has said which generation it has: one that starts later must not count from the beginning."""
        if isinstance(number, int):
            self.generation = max(self.generation, number)

    def hold(self) -> None:
        """Start none again from now on."""
        self._stopping.set()

    def stop(self) -> None:
        """Let all go; `keep` returns when its worker has ended."""
        self.hold()
        for handle in self.handles:
            handle.release()

    def kill(self) -> None:
        """End all at once."""
        self.hold()
        for handle in self._handles.values():
            handle.kill()

    # Asked as one.

    def tell_all(self, order: Order) -> None:
        """Give an order that needs no answer to all."""
        for handle in self.handles:
            handle.tell(order)

    async def ask_all(
        self, order: Order, *, within_s: float | None = ASK_S, of: Sequence[WorkerHandle] | None = None
    ) -> list[tuple[WorkerHandle, Answer]]:
        """Give an order to all at the same time. Returns: for each its answer, or a sentence why there is none."""

        async def ask(handle: WorkerHandle) -> tuple[WorkerHandle, Answer]:
            try:
                return handle, await handle.ask(order, within_s)
            except (LinkLost, TimeoutError) as error:
                self._log.warning("a worker does not answer", worker=handle.number, detail=str(error))
                return handle, str(error)

        return await asyncio.gather(*(ask(handle) for handle in (self.handles if of is None else of)))

    async def measure(self) -> None:
        """Fetch what each has counted; what cannot be had stays as it was last known."""
        async with self._measuring:
            for handle, answer in await self.ask_all(Show(What.METRICS)):
                # One that died since has been retired; its numbers must not come back to life.
                if (
                    isinstance(answer, bytes)
                    and self._handles.get(handle.number) is handle
                    and not handle.gone.is_set()
                ):
                    self._metrics.update(handle.serial, answer)

    async def metrics(self, accept: str) -> tuple[str, bytes]:
        """The metrics of all for a scraper."""
        await self.measure()
        self._metrics.update(_OURS, self.counts.snapshot())
        return self._metrics.expose(accept)

    async def connections(self) -> list[dict[str, object]]:
        """The open connections of all, each with its worker; one row for a worker that does not answer."""
        rows: list[dict[str, object]] = []
        for handle, answer in await self.ask_all(Show(What.CONNECTIONS)):
            if isinstance(answer, bytes):
                rows += [{"worker": handle.number, **row} for row in read_rows(answer)]
            else:
                rows.append({"worker": handle.number, "detail": answer})
        return sorted(rows, key=lambda row: str(row.get("start_time", "")))

    async def recent(self) -> list[dict[str, list[dict[str, object]]]]:
        """The latest refusals and reloads of each worker that answers, its number in each row."""
        return [
            {name: [{"worker": handle.number, **row} for row in rows] for name, rows in read_recent(answer).items()}
            for handle, answer in await self.ask_all(Show(What.RECENT))
            if isinstance(answer, bytes)
        ]

    async def certs(self) -> dict[str, object]:
        """
        What the worker shows that published last, with a row for each worker.

        `lagging` names those that have another identity than that one, or do not say.
        """
        views: dict[WorkerHandle, Mapping[str, object]] = {}
        silent: dict[WorkerHandle, str] = {}
        for handle, answer in await self.ask_all(Show(What.CERTS)):
            if isinstance(answer, bytes):
                view = views[handle] = read_outcome(answer)
                self.learn_generation(view.get("generation"))
            else:
                silent[handle] = answer
        newest = max(views.values(), key=lambda view: str(view.get("published_at", "")), default={})
        rows = [_row(handle, view) for handle, view in views.items()]
        rows += [{"worker": handle.number, "pid": handle.pid, "detail": why} for handle, why in silent.items()]
        behind = [handle.number for handle, view in views.items() if view.get("digest") != newest.get("digest")]
        lagging = sorted([*behind, *(handle.number for handle in silent)])
        failing = [view for view in views.values() if "identity_failure" in view]
        failure = {"identity_failure": failing[0]["identity_failure"]} if failing else {}
        return {**newest, **failure, "workers": rows, "lagging": lagging}


def _row(handle: WorkerHandle, view: Mapping[str, object]) -> dict[str, object]:
    shown = ("generation", "digest", "published_at", "identity_failure", "configuration_failure")
    return {"worker": handle.number, "pid": handle.pid, **{key: view[key] for key in shown if key in view}}
