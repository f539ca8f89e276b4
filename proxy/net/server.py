"""
One worker: its listening sockets, the connections that live on them, and how both change while traffic flows.

`apply` carries a published generation to the sockets and to live connections, `drain` ends the worker's life in the
order that a Pod needs: inbound listeners close first, outbound ones stay open until the last inbound connection is
done, because the app may still need its upstreams to answer.
"""

import asyncio
import socket
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial

from proxy.core.config import ListenAddress, Mode
from proxy.core.entrances import entrances
from proxy.core.events import Accepted, Closed, Direction, Listener, Living, Observer, Saturated
from proxy.core.reasons import Reason, Rejected
from proxy.net.admission import Admission
from proxy.net.connection import live
from proxy.net.deadlines import Deadlines
from proxy.net.dialer import format_address
from proxy.net.listener import Acceptor
from proxy.net.readiness import readiness_of
from proxy.net.recheck import Verdicts, recheck
from proxy.net.resolver import Resolver
from proxy.net.route import Router
from proxy.net.sockets import ListeningSocket
from proxy.net.splice import Pipe
from proxy.net.state import Connection, Deps, Phase, accepted
from proxy.tls.channel import PlainChannel, Scratch
from proxy.tls.store import Generation, InboundService, OutboundService, Service, Store
from proxy.tls.verify import PeerIdentity

SATURATED_S = 10.0  # between two words about handshakes that leave clients waiting

Sockets = Mapping[ListenAddress, ListeningSocket]


class Worker:
    """Everything that accepts and relays in this process."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        store: Store,
        observer: Observer,
        clock: Callable[[], float],
        report_bug: Callable[[BaseException], None],
    ) -> None:
        self._loop = loop
        self._store = store
        self._router = Router()
        self._pipe = Pipe()
        self._resolver = Resolver(loop)
        self._deps = Deps(
            loop,
            readiness_of(loop),
            self._resolver,
            Scratch(),
            Deadlines(loop),
            observer,
            clock,
            report_bug,
            recheck=self._recheck_late,
            has_shaken_hands=self._has_shaken_hands,
            forget=self._forget,
            router=self._router,
            pipe=self._pipe,
        )
        self._admissions = {direction: Admission(store.current.config.limits) for direction in Direction}
        self._acceptors: dict[ListenAddress, Acceptor] = {}
        self._live: set[Connection] = set()
        self._most = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False
        self._say_saturated_at = 0.0
        self._format_ours = lru_cache(256)(format_address)  # a host has few addresses of its own

    def apply(self, generation: Generation, sockets: Sockets) -> None:
        """
        Put a generation in force: publish it, accept on exactly its listeners, and judge live connections by it.

        sockets: a socket for each listen address of the generation; those that are in use and missing here are stopped,
                 and are the caller's to close. In a drain, those that are not in use are closed
        """
        if generation is not self._store.current:
            self._store.publish(generation)
        for admission in self._admissions.values():
            admission.limits = generation.config.limits
        wanted = entrances(generation.config)
        for address, acceptor in list(self._acceptors.items()):
            if wanted.get(address) != acceptor.listener or sockets.get(address) is not acceptor.listening:
                self._acceptors.pop(address).stop()
        if not self._draining:
            for address, listener in wanted.items():
                if address not in self._acceptors:
                    has_room = partial(self._has_room, listener)
                    self._acceptors[address] = Acceptor(
                        self._loop, listener, sockets[address], has_room, self._take, self._starved
                    )
                self._acceptors[address].resume()  # those that wait too: the cap may have been raised
        else:
            for address in wanted.keys() - self._acceptors.keys():
                sockets[address].close()  # nobody accepts there any more, and a backlog would make clients wait
        self._recheck_all(generation)

    def _take(self, listener: Listener, sock: socket.SocketType, address: object) -> None:
        generation, admission = self._store.current, self._admissions[listener.direction]
        remote, local = format_address(address), self._format_ours(sock.getsockname())
        try:
            routed = self._router.direct(generation, listener)
            if routed is None:
                meant = self._router.meant(sock)
                local = str(meant)
                routed = self._router.route(generation, listener, meant, address)
                listener = routed.service.listener
            admission.check(address, self._loop.time())
        except Rejected as rejected:
            self._refuse(listener, sock, (remote, local), rejected)
            return
        self._deps.observer.emit(Accepted(listener))
        admission.connections += 1
        service = routed.service
        if shakes_hands := _shakes_hands(service):
            admission.handshakes += 1
        connection = accepted(self._deps, generation, routed, sock, remote, local, shakes_hands=shakes_hands)
        if not self._live:
            self._idle.clear()
        self._live.add(connection)
        if len(self._live) > self._most:
            self._most = len(self._live)
        connection.task = self._loop.create_task(live(connection))

    def _refuse(
        self, listener: Listener, sock: socket.SocketType, addresses: tuple[str, str], rejected: Rejected
    ) -> None:
        """Reset a client at once."""
        self._deps.observer.emit(Accepted(listener))
        PlainChannel(sock).reset()
        self._emit_refused(listener, *addresses, rejected)

    def _has_room(self, listener: Listener) -> bool:
        """Whether a client of this listener may be taken from the backlog; says so, now and then, when not."""
        admission = self._admissions[listener.direction]
        if admission.has_room():
            return True
        service = self._store.current.services.get(listener)  # what is intercepted has none before it is accepted
        if service is not None and not _shakes_hands(service):
            return True
        now = self._loop.time()
        if now >= self._say_saturated_at:
            self._say_saturated_at = now + SATURATED_S
            silent = sum(
                connection.phase is Phase.DETECTING
                for connection in self._live
                if connection.service.listener.direction is listener.direction
            )
            self._deps.observer.emit(Saturated(listener=listener, handshakes=admission.handshakes, silent=silent))
        return False

    def _has_shaken_hands(self, direction: Direction) -> None:
        admission = self._admissions[direction]
        admission.handshakes -= 1
        if admission.handshakes + 1 == admission.limits.handshakes:  # it was full; 0 has no limit, and is never reached
            for acceptor in self._acceptors.values():
                if acceptor.listener.direction is direction:
                    acceptor.resume()

    def _forget(self, connection: Connection) -> None:
        self._admissions[connection.service.listener.direction].connections -= 1
        self._live.discard(connection)
        connection.task = None  # the two would else wait for the garbage collector
        if not self._live:
            self._idle.set()

    def _starved(self, listener: Listener) -> None:
        self._deps.observer.emit(Accepted(listener))
        rejected = Rejected(Reason.OVERLOADED, "no file descriptor left to accept with: raise ulimit -n")
        self._emit_refused(listener, "unknown", self._bound(listener), rejected)

    def _bound(self, listener: Listener) -> str:
        return next((a.listening.bound for a in self._acceptors.values() if a.listener == listener), "unknown")

    def _emit_refused(self, listener: Listener, remote: str, local: str, rejected: Rejected) -> None:
        self._deps.observer.emit(
            Closed(
                listener=listener,
                start_time=self._deps.clock(),
                duration_s=0.0,
                downstream_remote_address=remote,
                downstream_local_address=local,
                upstream_address=None,
                bytes_received=0,
                bytes_sent=0,
                security=None,
                tls=None,
                reason=rejected.reason,
                detail=rejected.detail,
            )
        )

    def _recheck_all(self, generation: Generation) -> None:
        verdicts: Verdicts = {}
        now = self._deps.clock()
        for connection in list(self._live):
            # One that is still in its handshake is judged when that is over (`_recheck_late`).
            if connection.relay is not None and connection.generation is not generation:
                try:
                    connection.move_to(generation, recheck(connection, generation, now, verdicts))
                except Rejected as rejected:
                    connection.end(rejected.reason, rejected.detail)

    def _recheck_late(self, connection: Connection) -> PeerIdentity | None:
        generation = self._store.current
        if connection.generation is generation:
            return None
        peer = recheck(connection, generation, self._deps.clock(), {})
        connection.move_to(generation, peer)
        return peer

    @property
    def listeners(self) -> list[tuple[Listener, str]]:
        """What is accepted on now: the listener and where it is bound."""
        return [(acceptor.listener, acceptor.listening.bound) for acceptor in self._acceptors.values()]

    @property
    def connections(self) -> list[Connection]:
        """Those that live now."""
        return list(self._live)

    def take_peak(self) -> int:
        """The most connections that lived at once since it was asked last."""
        most, self._most = self._most, len(self._live)
        return most

    def living(self) -> Iterator[Living]:
        """Each connection whose Closed has not been emitted, as it stands."""
        return (connection.living() for connection in self._live if not connection.is_closed)

    async def drain(self, drain_s: float) -> int:
        """
        Stop accepting, let connections finish, and end what is left.

        drain_s: seconds for all of it; 0 waits without end
        Returns: how many connections were cut (DRAINED)
        """
        self._draining = True
        deadline = self._loop.time() + drain_s if drain_s > 0 else None
        for direction in (Direction.INBOUND, Direction.OUTBOUND):
            self._stop_accepting(direction)
            await self._until_done(direction, deadline)
        left = list(self._live)
        for connection in left:
            connection.end(Reason.DRAINED, f"shutting down, and {drain_s:g} s were over")
        if left:
            await self._idle.wait()
        self._pipe.close()
        self._resolver.close()
        return len(left)

    def _stop_accepting(self, direction: Direction) -> None:
        for address, acceptor in list(self._acceptors.items()):
            if acceptor.listener.direction is direction:
                del self._acceptors[address]
                acceptor.stop()
                acceptor.listening.close()

    async def _until_done(self, direction: Direction, deadline: float | None) -> None:
        tasks = [
            connection.task
            for connection in self._live
            if connection.task is not None and connection.service.listener.direction is direction
        ]
        if tasks:
            timeout = None if deadline is None else max(0.0, deadline - self._loop.time())
            await asyncio.wait(tasks, timeout=timeout)


def _shakes_hands(service: Service) -> bool:
    """Whether its connections count among `limits.handshakes`: all but those that are relayed as they are."""
    if isinstance(service, InboundService):
        return service.config.mode is not Mode.DISABLE
    return isinstance(service, OutboundService)
