"""
A sidecar that runs: the worker with all that watches over it. One of these is the whole of `run` when `workers` is 1;
with more, each worker process holds one without endpoints (ops/workerprocess.py).

Its life: the admin and health endpoints open first (live, not ready), then the first valid identity is waited for, then
the listeners open and it is ready. From then on files are watched and reloaded until a signal or the admin endpoint
begins the drain: not ready, `drain_delay_s` of service as before, then net/server.py's drain.
"""

import asyncio
import contextlib
import gc
import os
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import partial

from proxy import __version__
from proxy.core.clockwords import rfc3339
from proxy.core.config import Config, ListenAddress, LogLevel
from proxy.core.entrances import entrances, listeners
from proxy.core.events import Listener, ReloadResult
from proxy.core.reasons import Rejected
from proxy.net.server import Worker
from proxy.net.sockets import ListenFault, ListeningSocket, open_beside
from proxy.ops.endpoints import Endpoints
from proxy.ops.expiry import ExpiryAlarm
from proxy.ops.failures import IDENTITY
from proxy.ops.log import Log, LogRenderer
from proxy.ops.memory import Memory
from proxy.ops.metrics import Metrics
from proxy.ops.observers import Observers
from proxy.ops.recent import Recent
from proxy.ops.reload import Reloader
from proxy.ops.views import certs_view, config_view, connections_view
from proxy.ops.watcher import FileWatch
from proxy.tls.engine import find_engine
from proxy.tls.identityreader import paths_of
from proxy.tls.store import Generation, Store

FIRST_RETRY_S = 0.25  # between looks at identity files that are not there yet; writers take seconds
HOUSEKEEPING_S = 5.0  # between looks at memory to give back and at a certificate that nears its end

OpenSockets = Callable[[ListenAddress], ListeningSocket]


class State(Enum):
    """Where in its life a sidecar is. The value is what /ready says while it is not ready."""

    STARTING = "starting: no valid identity has been read yet"
    SERVING = "ready"
    DRAINING = "draining: shutting down"


def metrics_of(config: Config) -> Metrics:
    """The metrics of a process that serves this configuration."""
    engine = find_engine(config.tls)
    return Metrics(listeners(config), version=__version__, tls_engine=engine.name, tls_engine_version=engine.version)


class Sidecar:
    """
    One process that serves a configuration; what the admin endpoint asks and steers (`Operated`).

    config_path: the file to watch for changes; None where somebody else does, and calls `reload`
    number_from: generations count on from here
    ticket_secret: what session tickets are sealed with, the same in all workers; None for a sidecar alone
    """

    def __init__(
        self,
        config: Config,
        *,
        config_path: str | None,
        read_config: Callable[[], Config],
        open_socket: OpenSockets,
        log: Log,
        metrics: Metrics,
        clock: Callable[[], float],
        number_from: int = 0,
        ticket_secret: bytes | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._config_path = config_path
        self._open_socket = open_socket
        self._log = log
        self._metrics = metrics
        self._clock = clock
        self._state = State.STARTING
        self._recent = Recent(clock)
        self._observer = Observers(LogRenderer(log), metrics, self._recent)
        self._worker: Worker | None = None
        self._sockets: dict[ListenAddress, ListeningSocket] = {}
        self._endpoints = Endpoints(self, log)
        self._files_changed = asyncio.Event()
        self._leave = asyncio.Event()
        self._drain_wanted = asyncio.Event()
        self._drained = asyncio.Event()
        self._expiry = ExpiryAlarm(log)
        self._memory = Memory()
        self._reloader = Reloader(
            config,
            read_config=read_config,
            apply=self._apply,
            observer=self._observer,
            clock=clock,
            notice=lambda sentence: log.warning("notice", detail=sentence),
            number_from=number_from,
            ticket_secret=ticket_secret,
        )
        metrics.watch(lambda: self._worker.living() if self._worker is not None else iter(()))
        metrics.watch_log(lambda: log.dropped)

    # What `Operated` asks for.

    def ready(self) -> tuple[bool, str]:
        """Whether it listens with a valid certificate, and a sentence why or why not."""
        if self._state is not State.SERVING:
            failure = self._reloader.failures.get(IDENTITY)
            why = f"{self._state.value} ({failure.reason}: {failure.detail})" if failure else self._state.value
            return False, why
        if self._reloader.generation is not None:
            identity, now = self._reloader.generation.material.identity, self._clock()
            if now > identity.lapses_at:
                return False, f"our certificate lapsed at {rfc3339(identity.lapses_at)}, our clock says {rfc3339(now)}"
            if now < identity.valid_from:
                since = rfc3339(identity.valid_from)
                return False, f"our certificate is valid only from {since} on, our clock says {rfc3339(now)}"
        return True, self._state.value

    def log_level(self) -> LogLevel:
        """The level in force."""
        return self._log.level

    async def set_log_level(self, level: LogLevel) -> None:
        """Write the log from this level on."""
        self._log.set_level(level)

    async def certs(self) -> Mapping[str, object]:
        """Our identity and the bundles in force."""
        return certs_view(self._reloader, self._clock())

    async def config(self) -> Mapping[str, object]:
        """The configuration in force, and where each listener is bound."""
        worker = self._worker
        bound = [
            {"direction": listener.direction, "listener": listener.name, "address": address}
            for listener, address in (worker.listeners if worker is not None else [])
        ]
        engine = find_engine(self._reloader.config.tls)
        return {
            **config_view(self._reloader.config),
            "tls_engine": {"name": engine.name, "version": engine.version},
            "listening": bound,
        }

    async def connections(self) -> Sequence[Mapping[str, object]]:
        """The open connections."""
        worker = self._worker
        return connections_view(worker.connections if worker is not None else [], self._loop.time())

    async def recent(self) -> Mapping[str, Sequence[Mapping[str, object]]]:
        """The latest refusals and reloads."""
        return self._recent.view()

    async def metrics(self, accept: str) -> tuple[str, bytes]:
        """The metrics for a scraper."""
        return self._metrics.expose(accept)

    async def drain(self) -> None:
        """Begin to drain; the process stays until it is told to go."""
        self._drain_wanted.set()

    async def reload(self) -> Mapping[str, object]:
        """Reload identity and configuration."""
        if self._state is State.DRAINING:
            return {"result": ReloadResult.FAILED, "detail": "draining: nothing is reloaded any more"}
        return await self._reloader.reload()

    def quit(self) -> None:
        """Begin to drain, then exit 0."""
        self._leave.set()
        self._drain_wanted.set()

    # What whoever runs it asks for beyond that.

    def look(self) -> None:
        """Reload soon: somebody says that files have changed."""
        self._files_changed.set()

    def leave_at_once(self) -> None:
        """End the process; nothing that is still open gets a good end."""
        self._log.warning("leaving at once", detail="asked to terminate twice")
        os._exit(1)

    async def drained(self) -> None:
        """Wait until a drain, which somebody else begins, is over."""
        await self._drained.wait()

    @property
    def digest(self) -> str:
        """Which identity is in force: equal for the same bytes, empty while there is none."""
        generation = self._reloader.generation
        return generation.material.digest.hex() if generation is not None else ""

    @property
    def generation(self) -> int:
        """The number of the generation in force, 0 while there is none."""
        generation = self._reloader.generation
        return generation.number if generation is not None else 0

    # Its life.

    async def run(self) -> int:
        """Serve until told to leave. Returns: the exit status. Raises: ListenFault when a port cannot be had."""
        config = self._reloader.config
        try:
            await self._endpoints.apply(config)
            if not await self._first_identity(config.identity.wait_s):
                return 1
            if self._worker is not None:
                gc.collect()
                gc.freeze()  # what lives as long as the process need not be looked at again and again
                await self._serve(self._worker)
            self._state = State.DRAINING
            self._drained.set()
            await self._leave.wait()
        finally:
            await self._endpoints.close()
            for listening in self._sockets.values():
                listening.close()
        return 0

    async def _serve(self, worker: Worker) -> None:
        async with asyncio.TaskGroup() as tasks:
            background = [tasks.create_task(self._watch_files()), tasks.create_task(self._keep_house(worker))]
            await self._drain_wanted.wait()
            await self._drain(worker)
            for task in background:
                task.cancel()

    async def _drain(self, worker: Worker) -> None:
        self._state = State.DRAINING
        timeouts = self._reloader.config.timeouts
        self._log.info(
            "draining",
            connections=len(worker.connections),
            drain_delay_s=timeouts.drain_delay_s,
            drain_s=timeouts.drain_s,
        )
        await asyncio.sleep(timeouts.drain_delay_s)
        cut = await worker.drain(timeouts.drain_s)
        self._log.info("drained", connections_cut=cut)

    async def _first_identity(self, wait_s: float) -> bool:
        """
        Wait for a first valid identity, or a drain before there is one.

        Returns: False when there was none within `wait_s` (0 waits without end)
        """
        give_up_at = self._loop.time() + wait_s if wait_s > 0 else float("inf")
        while not self._drain_wanted.is_set():
            try:
                await self._reloader.load_first()
            except Rejected as rejected:
                if self._loop.time() + FIRST_RETRY_S >= give_up_at:
                    self._log.error(
                        "giving up",
                        reason=rejected.reason,
                        detail=f"no valid identity within identity.wait_s ({wait_s:g} s): {rejected.detail}",
                    )
                    return False
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(FIRST_RETRY_S):
                        await self._drain_wanted.wait()
                await self._reread_configuration()
                continue
            self._state = State.SERVING
            return True
        return True

    async def _reread_configuration(self) -> None:
        """What keeps the identity from being read may be its path: nothing is in force yet, so it can be put right."""
        if self._config_path is not None and self._reloader.reread_configuration():
            await self._endpoints.apply(self._reloader.config)
            self._log.set_level(self._reloader.config.log.level)

    async def _apply(self, generation: Generation) -> Callable[[], None]:
        """
        Open what is missing, publish, close what is no longer wanted; the function it returns logs the new listeners.

        Raises: ListenFault, and changed nothing
        """
        config = generation.config
        wanted = entrances(config).keys()
        opened: dict[ListenAddress, ListeningSocket] = {}
        try:
            for address in wanted - self._sockets.keys():
                opened[address] = open_beside(address, self._sockets, self._open_socket)
            if self._worker is not None:
                await self._endpoints.apply(config)
        except ListenFault:
            for listening in opened.values():
                listening.close()
            raise
        self._sockets |= opened
        if self._worker is None:
            self._worker = Worker(self._loop, Store(generation), self._observer, self._clock, self._log.bug)
        self._worker.apply(generation, self._sockets)
        for address in self._sockets.keys() - wanted:
            self._sockets.pop(address).close()
        if config.log.level is not self._reloader.config.log.level:
            self._log.set_level(config.log.level)
        self._report_identity(generation)
        fresh = {listening.bound for listening in opened.values()}
        return partial(self._say_listening, [one for one in self._worker.listeners if one[1] in fresh])

    def _say_listening(self, listeners: Sequence[tuple[Listener, str]]) -> None:
        for listener, bound in listeners:
            self._log.info("listening", direction=listener.direction, listener=listener.name, address=bound)

    def _report_identity(self, generation: Generation) -> None:
        material = generation.material
        self._metrics.set_listeners(generation.config)
        self._metrics.set_identity(
            generation=generation.number,
            leaf=material.identity.svid.not_after,
            chain=material.identity.lapses_at,
            bundle=min(
                anchor.not_valid_after_utc.timestamp() for anchors in material.bundles.values() for anchor in anchors
            ),
            published_at=self._clock(),
        )

    async def _watch_files(self) -> None:
        """Reload when a file changed, when SIGHUP came, and again after a failure."""
        while True:
            config = self._reloader.config
            watch = FileWatch(
                [*paths_of(config.identity).values(), *([self._config_path] if self._config_path else [])],
                self._files_changed.set,
                poll_s=config.identity.refresh_s,
                on_poll_only=lambda why: self._log.warning("notice", detail=f"files are polled only: {why}"),
            )
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(watch.keep_running(self._log.bug))
                await asyncio.sleep(0)  # from here on changes are seen; those since the last reading are looked for
                self._files_changed.set()
                quiet, failed = True, False
                while self._reloader.config.identity == config.identity:
                    retry = failed or self._reloader.failures
                    try:
                        async with asyncio.timeout((config.identity.refresh_s or HOUSEKEEPING_S) if retry else None):
                            await self._files_changed.wait()
                    except TimeoutError:
                        quiet = True
                    self._files_changed.clear()
                    try:
                        if self._state is State.SERVING:
                            await self._reloader.reload(quiet=quiet)
                        failed = False
                    except Exception as error:  # a bug of ours must not end what serves
                        failed = True
                        self._log.bug(error)
                    quiet = False
                watching.cancel()

    async def _keep_house(self, worker: Worker) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            try:
                self._memory.look(len(worker.connections), worker.take_peak())
                self._expiry.look(self._reloader.generation, self._clock())
            except Exception as error:  # a bug of ours, as above
                self._log.bug(error)
