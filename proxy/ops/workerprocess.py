"""
One worker process: a Sidecar that does what its supervisor says over the link (ops/workerlink.py).

It is started by ops/workerhandle.py as `python -m proxy.ops.workerprocess DESCRIPTOR LOOP`, never by a person. It has
no endpoints and does not watch the configuration; it reads and watches the identity files by itself, so that a rotation
needs nobody's coordination. The listening sockets come over the link and are shared with all other workers.

Signals that ask to terminate are ignored: a terminal and some service managers send them to every process at once, and
a worker that drained by itself then would do so before the supervisor has turned unready. The supervisor's word is what
counts, and the end of the link is one: it makes the worker drain and go, also when the supervisor was killed.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Coroutine

from proxy import __version__
from proxy.core.config import ListenAddress, socket_key
from proxy.core.configchange import keep_fixed, share_of
from proxy.net.sockets import ListenFault, ListeningSocket
from proxy.ops import log as logs
from proxy.ops.configsource import Source
from proxy.ops.eventloop import loop_factory, report_bugs
from proxy.ops.log import Log
from proxy.ops.sidecar import Sidecar, metrics_of
from proxy.ops.workerlink import (
    Answer,
    Drain,
    Link,
    Order,
    Reload,
    SetLogLevel,
    Show,
    Sockets,
    Start,
    Status,
    What,
    decode_ordered,
    encode,
)
from proxy.tls.engine import find_engine

EXIT_GAVE_UP = 3  # no valid identity in time: the log has said so
START_WITHIN_S = 30.0
EAGER_S = 0.05  # between two looks at whether it is ready, until it is
HEARTBEAT_S = 1.0  # and afterwards


class WorkerProcess:
    """Carries out orders. Owns the link, the sockets that came over it and, once started, the sidecar."""

    def __init__(self, sock: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._started: asyncio.Future[Start] = self._loop.create_future()
        self._handed: dict[str, socket.socket] = {}
        self._orders: asyncio.Queue[tuple[int, Order]] = asyncio.Queue()
        self._sidecar: Sidecar | None = None
        self._is_orphan = False
        self._link = Link(self._loop, sock, self._receive, self._on_lost)

    async def run(self) -> int:
        """Serve until the link ends. Returns: the exit status."""
        async with asyncio.timeout(START_WITHIN_S):
            start = await self._started
        self._workers, self._config = start.workers, share_of(start.source.parse(), start.workers)
        log = logs.configure(start.log_level, self._config.log.format, sys.stderr, worker=start.number)
        report_bugs(log)
        self._metrics = metrics_of(self._config)
        engine = find_engine(self._config.tls)
        self._tls_engine = engine.name, engine.version
        log.info(
            "starting", version=__version__, tls_engine=engine.name, tls_engine_version=engine.version, pid=os.getpid()
        )
        sidecar = Sidecar(
            self._config,
            config_path=None,
            read_config=lambda: self._config,
            open_socket=self._take_socket,
            log=log,
            metrics=self._metrics,
            clock=time.time,  # noqa: TID251  the wall clock of this process
            number_from=start.number_from,
            ticket_secret=start.ticket_secret,
        )
        await sidecar.set_log_level(start.log_level)  # PUT /log-level holds for a worker that is started later, too
        self._sidecar = sidecar
        if self._is_orphan:
            return 0
        return await self._serve(sidecar, log)

    async def _serve(self, sidecar: Sidecar, log: Log) -> int:
        async with asyncio.TaskGroup() as tasks:
            background = [tasks.create_task(self._report(sidecar)), tasks.create_task(self._obey(tasks, sidecar))]
            try:
                status = EXIT_GAVE_UP if await sidecar.run() else 0
            except ListenFault as fault:
                log.error("cannot serve", detail=str(fault))
                status = 1
            for task in background:
                task.cancel()
        self._link.close()
        return status

    # What comes over the link.

    def _receive(self, body: bytes, descriptors: list[int]) -> None:
        ordered = decode_ordered(body)
        order = ordered.order
        if isinstance(order, Sockets):
            for address, descriptor in zip(order.addresses, descriptors, strict=True):
                if address in self._handed:
                    self._handed[address].close()
                self._handed[address] = socket.socket(fileno=descriptor)
        elif isinstance(order, Start):
            self._started.set_result(order)
        else:
            self._orders.put_nowait((ordered.id, order))

    def _on_lost(self, _why: str) -> None:
        self._is_orphan = True
        if self._sidecar is not None:
            self._sidecar.quit()
        elif not self._started.done():
            self._started.cancel()

    async def _obey(self, tasks: asyncio.TaskGroup, sidecar: Sidecar) -> None:
        """Each order in a task of its own: a drain takes half a minute, and metrics are asked for meanwhile."""
        running: set[asyncio.Task[None]] = set()
        try:
            while True:
                number, order = await self._orders.get()
                task = tasks.create_task(self._answer(number, self._carry_out(sidecar, order)))
                running.add(task)
                task.add_done_callback(running.discard)
        finally:
            for task in running:
                task.cancel()

    async def _answer(self, number: int, work: Coroutine[object, object, bytes]) -> None:
        try:
            answer = Answer(number, await work)
        except Exception as error:
            answer = Answer(number, fault=f"{type(error).__name__}: {error}")
        self._link.send(encode(answer))

    async def _carry_out(self, sidecar: Sidecar, order: Order) -> bytes:
        match order:
            case Reload():
                return encode(await self._reload(sidecar, order.source))
            case Drain():
                await sidecar.drain()
                await sidecar.drained()
            case SetLogLevel():
                await sidecar.set_log_level(order.level)
            case Show(what=What.METRICS):
                return self._metrics.snapshot()
            case Show(what=What.CONNECTIONS):
                return encode(await sidecar.connections())
            case Show(what=What.RECENT):
                return encode(await sidecar.recent())
            case Show(what=What.CERTS):
                return encode(await sidecar.certs())
        return b""

    async def _reload(self, sidecar: Sidecar, source: Source | None) -> dict[str, object]:
        before = self._config
        if source is not None:
            # What must stay as it is was said once, by the supervisor.
            self._config, _ = keep_fixed(share_of(source.parse(), self._workers), before)
        outcome = dict(await sidecar.reload())
        if "configuration_failure" in outcome:
            # Refused, and kept as it was: what the supervisor has in force everywhere is what is tried from now on.
            self._config = before
        for unused in self._handed.values():
            unused.close()
        self._handed.clear()
        return outcome

    def _take_socket(self, address: ListenAddress) -> ListeningSocket:
        sock = self._handed.pop(socket_key(address), None)
        if sock is None:
            raise ListenFault(f"cannot listen on {address}: the supervisor handed over no socket for it")
        listening = ListeningSocket(address, sock)
        listening.listen()  # only now: until somebody is ready to serve, clients are refused
        return listening

    # What goes over it unasked.

    async def _report(self, sidecar: Sidecar) -> None:
        while True:
            ready, detail = sidecar.ready()
            self._link.send(encode(Status(ready, detail, sidecar.generation, sidecar.digest, self._tls_engine)))
            await asyncio.sleep(HEARTBEAT_S if ready else EAGER_S)


async def _work(sock: socket.socket) -> int:
    return await WorkerProcess(sock).run()


def main(arguments: list[str]) -> int:
    """Be a worker. arguments: the descriptor of the link, the name of the loop. Returns: the exit status."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    descriptor, loop_name = arguments
    try:
        with asyncio.Runner(loop_factory=loop_factory(loop_name)) as runner:
            return runner.run(_work(socket.socket(fileno=int(descriptor))))
    except asyncio.CancelledError:
        return 0  # the supervisor was gone before it said what to serve
    except Exception as error:
        if os.environ.get("MTLS_SIDECAR_DEBUG"):
            raise
        with contextlib.suppress(OSError):
            print(f"mtls-sidecar: a worker ends by an unexpected {type(error).__name__}", file=sys.stderr)  # noqa: T201
        return 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
