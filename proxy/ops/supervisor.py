"""
One address, several workers: what the operator sees of `workers: N` as one sidecar.

The supervisor opens every listening socket and hands copies to its workers (why they are shared:
docs/decisions/0002-shared-listening-socket.md), watches the configuration, owns the admin and health endpoints, and
carries no connection: it never touches TLS or an identity. Sockets are only bound here; the first worker that is ready
to serve makes them listen, so that a port in use is found before anything is started and nobody is let in before
somebody serves.

    ops/workerfleet.py    keeps the workers alive and asks all as one
    ops/rollout.py        a new configuration for all, whole or not at all
    ops/workerhandle.py   one worker process;  ops/workerlink.py  the words and the wire
    ops/workerprocess.py  the other end

Drain: /ready turns 503, `drain_delay_s` passes here, then our copies of the sockets close and each worker drains as a
sidecar alone does. Outbound sockets stay open in each worker until its last inbound connection is done.
"""

import asyncio
import contextlib
import gc
import os
from collections.abc import Callable, Iterator, Mapping, Sequence

from proxy.core.config import Config, ListenAddress, LogLevel
from proxy.core.configchange import keep_fixed
from proxy.core.configfile import ConfigFaults
from proxy.core.entrances import entrances
from proxy.core.events import Direction, Reloaded, ReloadResult
from proxy.core.reasons import Reason, Rejected
from proxy.net.sockets import ListenFault, ListeningSocket, open_beside
from proxy.ops.configsource import Source
from proxy.ops.endpoints import Endpoints
from proxy.ops.failures import CONFIGURATION, Failures, mended
from proxy.ops.log import Log, LogRenderer
from proxy.ops.recent import Recent, merge
from proxy.ops.rollout import Rollout, reload_identity
from proxy.ops.views import config_view
from proxy.ops.watcher import FileWatch
from proxy.ops.workerfleet import Fleet
from proxy.ops.workerhandle import Addresses
from proxy.ops.workerlink import Drain, SetLogLevel

MEASURE_S = 5.0  # so much counting at most dies with a worker
RETRY_S = 5.0  # after a failure, where identity.refresh_s is 0
DRAIN_MARGIN_S = 5.0  # beyond drain_s; a worker that is not done then is stuck


class Supervisor:
    """Several worker processes as one sidecar; what the admin endpoint asks and steers (`Operated`)."""

    def __init__(
        self,
        source: Source,
        config: Config,
        *,
        workers: int,
        loop_name: str,
        config_path: str | None,
        read_source: Callable[[], Source],
        open_socket: Callable[[ListenAddress], ListeningSocket],
        log: Log,
        clock: Callable[[], float],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._source = source
        self._config = config
        self._config_path = config_path
        self._read_source = read_source
        self._open_socket = open_socket
        self._log = log
        self._renderer = LogRenderer(log)
        self._failures = Failures(clock)
        self._recent = Recent(clock)
        self._sockets: dict[ListenAddress, ListeningSocket] = {}
        self._draining: dict[ListenAddress, ListeningSocket] = {}
        self._endpoints = Endpoints(self, log)
        self._fleet = Fleet(workers, loop_name, log, assignment=self._assignment, gave_up=self._give_up)
        self._rollout = Rollout(self._fleet)
        self._reloading = asyncio.Lock()
        self._look = asyncio.Event()
        self._look_everywhere = False
        self._drain_wanted = asyncio.Event()
        self._leave = asyncio.Event()
        self._status = 0

    # What `Operated` asks for.

    def ready(self) -> tuple[bool, str]:
        """Whether at least one worker serves, and how many of how many."""
        if self._drain_wanted.is_set():
            return False, "draining: shutting down"
        return self._fleet.ready()

    def log_level(self) -> LogLevel:
        """The level in force."""
        return self._log.level

    async def set_log_level(self, level: LogLevel) -> None:
        """Write the log from this level on, in every worker and in those that start later."""
        self._log.set_level(level)
        self._fleet.tell_all(SetLogLevel(level))

    async def certs(self) -> Mapping[str, object]:
        """The identity in force, and which worker has which."""
        return {**await self._fleet.certs(), **self._failures.describe()}

    async def config(self) -> Mapping[str, object]:
        """The configuration in force, and where each listener is bound."""
        bound = [
            {"direction": listener.direction, "listener": listener.name, "address": self._sockets[address].bound}
            for address, listener in entrances(self._config).items()
            if address in self._sockets
        ]
        statuses = [handle.status for handle in self._fleet.handles if handle.status is not None]
        name, version = statuses[0].tls_engine if statuses else ("", "")
        engine = {"tls_engine": {"name": name, "version": version}} if name else {}
        return {**config_view(self._config), **engine, "listening": bound}

    async def connections(self) -> Sequence[Mapping[str, object]]:
        """The open connections of all workers."""
        return await self._fleet.connections()

    async def recent(self) -> Mapping[str, Sequence[Mapping[str, object]]]:
        """The latest refusals and reloads of all workers, and of the configuration."""
        return merge([self._recent.view(), *await self._fleet.recent()])

    async def metrics(self, accept: str) -> tuple[str, bytes]:
        """The metrics of all workers for a scraper."""
        return await self._fleet.metrics(accept)

    async def drain(self) -> None:
        """Begin to drain; the processes stay until they are told to go."""
        self._drain_wanted.set()

    def quit(self) -> None:
        """Begin to drain, then exit 0."""
        self._leave.set()
        self._drain_wanted.set()

    async def reload(self) -> Mapping[str, object]:
        """Reload the configuration, and the identity in every worker."""
        async with self._reloading:
            if self._drain_wanted.is_set():
                return {"result": ReloadResult.FAILED, "detail": "draining: nothing is reloaded any more"}
            changed = await self._reload_configuration(quiet=False)
            rows = await reload_identity(self._fleet)
        results = {str(row.get("result")) for row in rows}
        if self._failures or ReloadResult.FAILED in results:
            result = ReloadResult.FAILED
        elif changed or ReloadResult.PUBLISHED in results:
            result = ReloadResult.PUBLISHED
        else:
            result = ReloadResult.UNCHANGED
        return {"result": result, **self._failures.describe(), "workers": rows}

    # What whoever runs it asks for beyond that.

    def look(self) -> None:
        """Reload everything soon (SIGHUP)."""
        self._look_everywhere = True
        self._look.set()

    def leave_at_once(self) -> None:
        """End all processes; nothing that is still open gets a good end."""
        self._log.warning("leaving at once", detail="asked to terminate twice")
        self._fleet.kill()
        os._exit(1)

    # Its life.

    async def run(self) -> int:
        """Serve until told to leave. Returns: the exit status. Raises: ListenFault when a port cannot be had."""
        try:
            self._sockets |= self._open_missing(self._config)
            await self._endpoints.apply(self._config)
            gc.collect()
            gc.freeze()
            await self._serve()
        finally:
            self._fleet.kill()
            await self._endpoints.close()
            for listening in [*self._sockets.values(), *self._draining.values()]:
                listening.close()
        return self._status

    async def _serve(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            background = [tasks.create_task(self._watch()), tasks.create_task(self._measure())]
            for number in range(1, self._fleet.size + 1):
                tasks.create_task(self._fleet.keep(number))
            await self._drain_wanted.wait()
            await self._drain()
            await self._leave.wait()
            for task in background:
                task.cancel()
            self._fleet.stop()

    def _give_up(self) -> None:
        self._status = 1
        self._fleet.hold()
        self.quit()

    def _assignment(self) -> tuple[Source, Addresses, LogLevel]:
        return self._source, self._sockets, self._log.level

    async def _drain(self) -> None:
        timeouts = self._config.timeouts
        self._log.info("draining", drain_delay_s=timeouts.drain_delay_s, drain_s=timeouts.drain_s)
        if self._fleet.was_ready:
            await asyncio.sleep(timeouts.drain_delay_s)
        self._fleet.hold()
        async with self._reloading:
            for address, listener in entrances(self._config).items():
                if listener.direction is Direction.INBOUND:
                    self._sockets.pop(address).close()
            for listening in self._sockets.values():
                listening.sock.close()  # and its file stays, if it has one: workers still accept there
            self._draining, self._sockets = self._sockets, {}
        within_s = timeouts.drain_s + DRAIN_MARGIN_S if timeouts.drain_s > 0 else None
        serving = [handle for handle in self._fleet.handles if handle.status is not None]
        for handle in self._fleet.handles:
            if handle not in serving:
                handle.kill()  # it is still starting: it has nobody to serve yet, and would begin to
        for handle, answer in await self._fleet.ask_all(Drain(), within_s=within_s, of=serving):
            if isinstance(answer, str):
                handle.kill()
        self._log.info("drained")

    async def _measure(self) -> None:
        while True:
            await asyncio.sleep(MEASURE_S)
            with self._surviving():
                await self._fleet.measure()

    @contextlib.contextmanager
    def _surviving(self) -> Iterator[None]:
        """A bug of ours in what is done over and over must not end the workers, and all connections with them."""
        try:
            yield
        except Exception as error:
            self._log.bug(error)

    # Reloading.

    async def _watch(self) -> None:
        """Reload when the file changed, when SIGHUP came, and again after a failure or for a worker that lags."""
        while True:
            refresh_s = self._config.identity.refresh_s
            watch = FileWatch(
                [self._config_path] if self._config_path else [],
                self._look.set,
                poll_s=refresh_s,
                on_poll_only=lambda why: self._log.warning("notice", detail=f"files are polled only: {why}"),
            )
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(watch.keep_running(self._log.bug))
                while self._config.identity.refresh_s == refresh_s:
                    with self._surviving():
                        await self._look_once(refresh_s or RETRY_S)
                watching.cancel()

    async def _look_once(self, retry_s: float) -> None:
        quiet = False
        try:
            async with asyncio.timeout(retry_s):
                await self._look.wait()
        except TimeoutError:
            quiet = True
        self._look.clear()
        everywhere, self._look_everywhere = self._look_everywhere, False
        if self._drain_wanted.is_set():
            return
        if everywhere:
            await self.reload()
        elif not quiet or self._failures:
            async with self._reloading:
                await self._reload_configuration(quiet)
        elif self._rollout.lagging(self._source):
            async with self._reloading:
                await self._rollout.catch_up(self._source, self._sockets)

    async def _reload_configuration(self, quiet: bool) -> bool:
        """Returns: whether a new configuration was put in force."""
        try:
            source = self._read_source()
            config, kept = keep_fixed(source.parse(), self._config)
            for sentence in kept:
                self._log.warning("notice", detail=sentence)
            if config == self._config:
                if self._failures.forget(CONFIGURATION):
                    self._log.warning("notice", detail=mended(CONFIGURATION))
                await self._rollout.catch_up(self._source, self._sockets)
                return False
            await self._publish(source, config)
        except ConfigFaults as faults:
            self._fail(Rejected(Reason.CONFIG_FAULT, str(faults)), quiet)
        except ListenFault as fault:
            self._fail(Rejected(Reason.CONFIG_FAULT, str(fault)), quiet)
        except Rejected as rejected:
            self._fail(rejected, quiet)
        else:
            self._failures.forget(CONFIGURATION)
            self._emit(ReloadResult.PUBLISHED, Reason.RELOADED, "the new configuration is in force")
            return True
        return False

    async def _publish(self, source: Source, config: Config) -> None:
        """Put a configuration in force everywhere. Raises: ListenFault, Rejected, and everything is as it was."""
        before, opened = dict(self._sockets), self._open_missing(config)
        try:
            await self._rollout.publish(source, before | opened, self._source, before)
            try:
                await self._endpoints.apply(config)
            except ListenFault:
                await self._rollout.restore(self._source, before)
                raise
        except BaseException:
            for listening in opened.values():
                listening.close()
            raise
        if config.log.level is not self._config.log.level:
            self._log.set_level(config.log.level)
        self._source, self._config = source, config
        self._sockets |= opened
        for address in self._sockets.keys() - entrances(config).keys():
            self._sockets.pop(address).close()
        await self._rollout.catch_up(source, self._sockets)

    def _open_missing(self, config: Config) -> dict[ListenAddress, ListeningSocket]:
        opened: dict[ListenAddress, ListeningSocket] = {}
        try:
            for address in entrances(config).keys() - self._sockets.keys():
                opened[address] = open_beside(address, self._sockets, self._open_socket)
        except ListenFault:
            for listening in opened.values():
                listening.close()
            raise
        return opened

    def _fail(self, rejected: Rejected, quiet: bool) -> None:
        if self._failures.remember(CONFIGURATION, rejected) or not quiet:
            self._emit(ReloadResult.FAILED, rejected.reason, rejected.detail)

    def _emit(self, result: ReloadResult, reason: Reason, detail: str) -> None:
        event = Reloaded(
            what=CONFIGURATION, result=result, reason=reason, detail=detail, generation=self._fleet.generation
        )
        self._renderer.emit(event)
        self._fleet.counts.emit(event)
        self._recent.on_reloaded(event)
