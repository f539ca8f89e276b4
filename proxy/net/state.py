"""
One accepted connection: what is known of it so far, and how it is ended. Its life is net/connection.py's.

What a failed connection looks like to the downstream. A client that is refused before or inside its handshake gets the
alert, then a FIN, and a moment to read it. When the upstream is what failed, the downstream gets a reset: a FIN would
look like an answer that happens to be empty.
"""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from proxy.core.config import TcpAddress, Timeouts, UpstreamAddress
from proxy.core.events import Closed, Direction, Living, Observer, Security, TlsFacts
from proxy.core.reasons import Reason
from proxy.net.deadlines import Deadlines
from proxy.net.readiness import Readiness
from proxy.net.relay import Outcome, Relay
from proxy.net.resolver import Resolver
from proxy.net.route import End, Routed, Router, end_of
from proxy.net.splice import Pipe
from proxy.tls.channel import PlainChannel, Scratch
from proxy.tls.handshake import Handshake
from proxy.tls.store import Generation, InboundService, Service
from proxy.tls.verify import PeerIdentity

LINGER_S = 1.0  # how long a refused client may take to read its alert
LINGER_LOOKS = 8  # how many times what it still sends is thrown away, one scratch at a time


@dataclass(frozen=True, slots=True)
class Deps:
    """
    What all connections of a worker share.

    clock:      epoch seconds
    report_bug: is told of an exception of ours
    recheck:    judges a connection again if a generation was published since it was accepted; raises Rejected
    has_shaken_hands: is told of a direction in which a place among `limits.handshakes` is free again
    forget:     is told of a connection that is over
    router:     learns of our own connections to upstreams, which the redirection rules may send back
    pipe:       what passes through as it is goes over it
    """

    loop: asyncio.AbstractEventLoop
    readiness: Readiness
    resolver: Resolver
    scratch: Scratch
    deadlines: Deadlines
    observer: Observer
    clock: Callable[[], float]
    report_bug: Callable[[BaseException], None]
    recheck: "Callable[[Connection], PeerIdentity | None]"
    has_shaken_hands: Callable[[Direction], None]
    forget: "Callable[[Connection], None]"
    router: Router
    pipe: Pipe


class Phase(StrEnum):
    """Where in its life a connection is. Inbound goes from top to bottom; outbound dials before it shakes hands."""

    DETECTING = "detecting"
    HANDSHAKING = "handshaking"
    DIALING = "dialing"
    RELAYING = "relaying"


class Connection(msgspec.Struct, eq=False):  # a struct, because its constructor is C's
    """
    One accepted connection and what is known of it so far.

    meant:        the original destination, of an intercepted connection
    own_end:      our end of the connection to the upstream, where it may come back to us
    server_name:  from the ClientHello, before anything is proven
    shakes_hands: it has one of the places among `limits.handshakes`
    is_closed:    Closed was emitted, and with it the last byte was counted
    cut:          why it is ended from outside, before its relay could be told
    """

    deps: Deps
    generation: Generation
    service: Service
    target: UpstreamAddress
    meant: TcpAddress | None
    timeouts: Timeouts
    sock: socket.SocketType
    remote: str
    local: str
    start_time: float
    started_at: float
    phase: Phase
    shakes_hands: bool
    upstream_address: str | None = None
    upstream_sock: socket.SocketType | None = None
    own_end: End | None = None
    security: Security | None = None
    server_name: str | None = None
    handshake: Handshake | None = None
    tls: TlsFacts | None = None
    relay: Relay | None = None
    task: asyncio.Task[None] | None = None
    is_closed: bool = False
    cut: Outcome | None = None

    @property
    def peer(self) -> PeerIdentity | None:
        """Who is at the other end of the TLS connection, once it is proven."""
        return self.handshake.peer if self.handshake is not None else None

    def end(self, reason: Reason, detail: str) -> None:
        """End this connection from outside, for this reason, wherever in its life it is."""
        if self.relay is not None:
            self.relay.stop(reason, detail)
        elif self.task is not None and self.cut is None:
            self.cut = Outcome(reason, detail)
            # Not at once: a task that is cancelled before its first step never comes to `live`, nor to Closed.
            self.deps.loop.call_soon(self.task.cancel)

    def move_to(self, generation: Generation, peer: PeerIdentity | None) -> None:
        """Belong to a new generation, which has judged this connection well: its deadlines hold from now on."""
        self.generation, self.timeouts = generation, generation.config.timeouts
        if self.relay is not None:
            self.relay.retime(self.timeouts, peer)

    def has_dialed(self, sock: socket.SocketType, address: str) -> None:
        """Keep the connection to the upstream, and tell the router of our end where the rules may send it back."""
        self.upstream_sock, self.upstream_address = sock, address
        direction = self.service.listener.direction
        if direction is Direction.OUTBOUND and direction in self.generation.interceptions:
            self.own_end = end_of(sock.getsockname())
            self.deps.router.own_ends.add(self.own_end)

    def handshake_is_over(self) -> None:
        """Give back the place among `limits.handshakes`; at most once."""
        if self.shakes_hands:
            self.shakes_hands = False
            self.deps.has_shaken_hands(self.service.listener.direction)

    async def refuse(self) -> None:
        """
        Let a refused client read its alert, then close.

        A socket that is closed with unread bytes in it sends a reset, and a reset overtakes the alert.
        """
        self.handshake_is_over()
        if self.phase is Phase.DIALING or not isinstance(self.service, InboundService):
            return
        if self.handshake is not None:
            self.handshake.channel.release()
        readiness, scratch = self.deps.readiness, self.deps.scratch
        deadline = self.deps.loop.time() + LINGER_S
        try:
            self.sock.shutdown(socket.SHUT_WR)
            for _ in range(LINGER_LOOKS):
                await readiness.readable(self.sock.fileno(), deadline)
                if not self.sock.recv_into(scratch.view):
                    break
        except (OSError, TimeoutError):
            pass
        readiness.forget(self.sock.fileno())
        self.sock.close()

    def abort(self) -> None:
        """Reset whatever is still open: the relay, once there is one, has closed both sockets itself."""
        if self.relay is not None:
            return
        open_socks = [sock for sock in (self.sock, self.upstream_sock) if sock is not None and sock.fileno() >= 0]
        for sock in open_socks:
            self.deps.readiness.forget(sock.fileno())
        if self.handshake is not None:
            self.handshake.channel.reset()
        for sock in open_socks:
            if sock.fileno() >= 0:
                PlainChannel(sock).reset()

    def emit_closed(self, outcome: Outcome) -> None:
        self.is_closed = True
        if self.own_end is not None:
            self.deps.router.own_ends.discard(self.own_end)
        self.deps.observer.emit(
            Closed(
                listener=self.service.listener,
                start_time=self.start_time,
                duration_s=self.deps.loop.time() - self.started_at,
                downstream_remote_address=self.remote,
                downstream_local_address=self.local,
                upstream_address=self.upstream_address,
                bytes_received=self.bytes_received,
                bytes_sent=self.bytes_sent,
                security=self.security,
                tls=self.tls,
                reason=outcome.reason,
                detail=outcome.detail,
            )
        )

    def living(self) -> Living:
        """As it stands, for the gauges."""
        relay = self.relay
        return Living(
            self.service.listener,
            self.bytes_received,
            self.bytes_sent,
            self.security if relay is not None else None,
            is_shaking_hands=self.handshake is not None and self.tls is None,
            is_half_closed=relay is not None and relay.half_closed,
        )

    @property
    def bytes_received(self) -> int:
        """Plaintext bytes from the downstream so far."""
        return self.relay.up.count if self.relay is not None else 0

    @property
    def bytes_sent(self) -> int:
        """Plaintext bytes from the upstream, handed on to the downstream, so far."""
        return self.relay.down.count if self.relay is not None else 0


def accepted(
    deps: Deps,
    generation: Generation,
    routed: Routed,
    sock: socket.SocketType,
    remote: str,
    local: str,
    *,
    shakes_hands: bool,
) -> Connection:
    """One that was just accepted."""
    return Connection(
        deps,
        generation,
        routed.service,
        routed.target,
        routed.meant,
        generation.config.timeouts,
        sock,
        remote,
        local,
        deps.clock(),
        deps.loop.time(),
        Phase.DETECTING if isinstance(routed.service, InboundService) else Phase.DIALING,
        shakes_hands,
    )
