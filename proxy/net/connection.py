"""
A connection's whole life, top to bottom: `inbound()` and `outbound()`. Newcomers start here.

    inbound    detect -> handshake (identity and policy inside it) -> dial the app -> relay
    outbound   dial the upstream -> handshake (its identity inside it) -> relay

Each step hands a value to the next or raises Rejected, and `live()` turns whatever happened into the one Closed event.
A connection emits facts and never logs or counts. It takes the trust generation in force when it is accepted and keeps
it; `end()` is how a later generation, a drain or a limit reaches it.

Success of an outbound handshake. In TLS 1.3 the client is done before the server has judged the client's certificate
(RFC 8446 2). Our handshake's end proves nothing then: only the upstream's first byte, or its session ticket, does
(`Upstream.answered`). Whatever ends the connection before that is UPSTREAM_REJECTED_US.

What a failed connection looks like to the downstream. A client that is refused before or inside its handshake gets the
alert, then a FIN, and a moment to read it. When the upstream is what failed, the downstream gets a reset: a FIN would
look like an answer that happens to be empty.
"""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from proxy.core.clienthello import ClientHello, Plaintext, parse_client_hello
from proxy.core.config import AppTls, Mode, ProxyProtocol, Timeouts
from proxy.core.events import (
    Closed,
    Detected,
    Dialed,
    HalfClosed,
    HandshakeEnded,
    HandshakeStarted,
    Observer,
    Relaying,
    Security,
    TlsFacts,
)
from proxy.core.policy import Permit, is_app_server_name, permit_app_tls, permit_outbound, permit_plaintext
from proxy.core.reasons import Reason, Rejected
from proxy.net import detection, dialer
from proxy.net.deadlines import Deadlines
from proxy.net.detection import Opening
from proxy.net.header import proxy_header
from proxy.net.readiness import deadline_in, forget, readable, writable
from proxy.net.relay import Outcome, Relay
from proxy.tls.channel import Channel, End, PlainChannel, Scratch
from proxy.tls.handshake import Handshake, Step
from proxy.tls.store import Generation, InboundService, OutboundService, Service
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
    """

    loop: asyncio.AbstractEventLoop
    scratch: Scratch
    deadlines: Deadlines
    observer: Observer
    clock: Callable[[], float]
    report_bug: Callable[[BaseException], None]
    recheck: "Callable[[Connection], PeerIdentity | None]"


class Phase(StrEnum):
    """Where in its life a connection is. Inbound goes from top to bottom; outbound dials before it shakes hands."""

    DETECTING = "detecting"
    HANDSHAKING = "handshaking"
    DIALING = "dialing"
    RELAYING = "relaying"


class Connection:
    """One accepted connection and what is known of it so far."""

    __slots__ = (
        "_cut",
        "_release",
        "deps",
        "generation",
        "handshake",
        "is_closed",
        "local",
        "phase",
        "relay",
        "remote",
        "security",
        "server_name",
        "service",
        "sock",
        "start_time",
        "started_at",
        "task",
        "timeouts",
        "tls",
        "upstream_address",
        "upstream_sock",
    )

    def __init__(
        self,
        deps: Deps,
        generation: Generation,
        service: Service,
        sock: socket.socket,
        addresses: tuple[str, str],
        release: Callable[[], None],
    ) -> None:
        self.deps = deps
        self.generation = generation
        self.service = service
        self.timeouts: Timeouts = generation.config.timeouts
        self.sock = sock
        self.remote, self.local = addresses
        self.start_time = deps.clock()
        self.started_at = deps.loop.time()
        self.phase = Phase.DETECTING if isinstance(service, InboundService) else Phase.DIALING
        self.upstream_address: str | None = None
        self.upstream_sock: socket.socket | None = None
        self.security: Security | None = None
        self.server_name: str | None = None  # from the ClientHello, before anything is proven
        self.handshake: Handshake | None = None
        self.tls: TlsFacts | None = None
        self.relay: Relay | None = None
        self.task: asyncio.Task[None] | None = None
        self.is_closed = False  # Closed was emitted, and with it the last byte was counted
        self._cut: Outcome | None = None
        self._release: Callable[[], None] | None = release

    @property
    def peer(self) -> PeerIdentity | None:
        """Who is at the other end of the TLS connection, once it is proven."""
        return self.handshake.peer if self.handshake is not None else None

    def end(self, reason: Reason, detail: str) -> None:
        """End this connection from outside, for this reason, wherever in its life it is."""
        if self.relay is not None:
            self.relay.stop(reason, detail)
        elif self.task is not None and self._cut is None:
            self._cut = Outcome(reason, detail)
            # Not at once: a task that is cancelled before its first step never comes to `live`, nor to Closed.
            self.deps.loop.call_soon(self.task.cancel)

    def move_to(self, generation: Generation, peer: PeerIdentity | None) -> None:
        """Belong to a new generation, which has judged this connection well: its deadlines hold from now on."""
        self.generation, self.timeouts = generation, generation.config.timeouts
        if self.relay is not None:
            self.relay.retime(self.timeouts, peer)

    def handshake_is_over(self) -> None:
        """Give back the place among `limits.handshakes`; at most once."""
        if self._release is not None:
            release, self._release = self._release, None
            release()

    async def live(self) -> None:
        """From accept to Closed."""
        outcome = Outcome(Reason.DRAINED, "the worker was stopped")
        try:
            if isinstance(self.service, InboundService):
                outcome = await inbound(self, self.service)
            else:
                outcome = await outbound(self, self.service)
        except Rejected as rejected:
            outcome = Outcome(rejected.reason, rejected.detail)
            await self._refuse()
        except asyncio.CancelledError:
            if self._cut is None:
                raise
            outcome = self._cut
        except Exception as error:  # our bug ends this connection, never the worker
            outcome = Outcome(Reason.RESET, f"internal error: {type(error).__name__}")
            self.deps.report_bug(error)
        finally:
            self.handshake_is_over()
            self._abort()
            self._emit_closed(outcome)

    async def _refuse(self) -> None:
        """
        Let a refused client read its alert, then close.

        A socket that is closed with unread bytes in it sends a reset, and a reset overtakes the alert.
        """
        self.handshake_is_over()
        if self.phase is Phase.DIALING or not isinstance(self.service, InboundService):
            return
        if self.handshake is not None:
            self.handshake.channel.release()
        loop, scratch = self.deps.loop, self.deps.scratch
        deadline = loop.time() + LINGER_S
        try:
            self.sock.shutdown(socket.SHUT_WR)
            for _ in range(LINGER_LOOKS):
                await readable(loop, self.sock.fileno(), deadline)
                if not self.sock.recv_into(scratch.view):
                    break
        except (OSError, TimeoutError):
            pass
        forget(loop, self.sock.fileno())
        self.sock.close()

    def _abort(self) -> None:
        """Reset whatever is still open: the relay, once there is one, has closed both sockets itself."""
        if self.relay is not None:
            return
        open_socks = [sock for sock in (self.sock, self.upstream_sock) if sock is not None and sock.fileno() >= 0]
        for sock in open_socks:
            forget(self.deps.loop, sock.fileno())
        if self.handshake is not None:
            self.handshake.channel.reset()
        for sock in open_socks:
            if sock.fileno() >= 0:
                PlainChannel(sock).reset()

    def _emit_closed(self, outcome: Outcome) -> None:
        self.is_closed = True
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

    @property
    def bytes_received(self) -> int:
        """Plaintext bytes from the downstream so far."""
        return self.relay.up.count if self.relay is not None else 0

    @property
    def bytes_sent(self) -> int:
        """Plaintext bytes from the upstream, handed on to the downstream, so far."""
        return self.relay.down.count if self.relay is not None else 0


async def inbound(connection: Connection, service: InboundService) -> Outcome:
    """From the network to our app. Raises: Rejected."""
    if service.config.mode is Mode.DISABLE:
        connection.handshake_is_over()
        connection.security = Security.PLAINTEXT
        permit = permit_plaintext(service.listener, service.config.mode)
        return await _relay_to_app(connection, service, permit, PlainChannel(connection.sock))
    if service.config.server_first and service.config.mode is Mode.PERMISSIVE:
        await _dial_early(connection, service)
    spoken = await _detect(connection, service)
    if isinstance(spoken, Plaintext):
        permit = permit_plaintext(service.listener, service.config.mode)
        channel: Channel = PlainChannel(connection.sock)
    elif connection.security is Security.APP_TLS:
        permit = permit_app_tls(service.listener, connection.server_name, service.config.app_tls_server_names)
        channel = PlainChannel(connection.sock)
    else:
        permit, channel = await _terminate(connection, service, spoken)
    connection.handshake_is_over()
    return await _relay_to_app(connection, service, permit, channel)


def _is_the_apps(hello: ClientHello, service: InboundService) -> bool:
    config = service.config
    return (
        config.mode is Mode.PERMISSIVE
        and config.app_tls is AppTls.PASSTHROUGH
        and hello.sni is not None
        and is_app_server_name(hello.sni, config.app_tls_server_names)
    )


async def _dial_early(connection: Connection, service: InboundService) -> None:
    """
    PERMISSIVE and `server_first`: dial the app before the client has spoken, since the app is the one to speak.

    Its bytes stay in the kernel until the client's first bytes, or `server_first_hold_s`, have told what it speaks.
    With a PROXY header the dial has to wait, because the header tells the client's identity.
    """
    if service.config.proxy_protocol is ProxyProtocol.NONE:
        await _dial(connection, permit_plaintext(service.listener, service.config.mode))
        connection.phase = Phase.DETECTING


async def _detect(connection: Connection, service: InboundService) -> ClientHello | Opening | Plaintext:
    loop, config, timeouts = connection.deps.loop, service.config, connection.timeouts
    silence_until = None
    if config.mode is Mode.PERMISSIVE and config.server_first:
        silence_until = loop.time() + config.server_first_hold_s
    elif config.mode is Mode.PERMISSIVE:
        silence_until = deadline_in(loop, config.detection_timeout_s)  # 0: silence is never plaintext
    spoken = await detection.look(
        loop,
        connection.sock,
        config.mode,
        silence_until=silence_until,
        deadline=deadline_in(loop, timeouts.handshake_s),
    )
    if isinstance(spoken, Plaintext):
        connection.security = Security.PLAINTEXT
    elif isinstance(spoken, ClientHello) and _is_the_apps(spoken, service):
        connection.security, connection.server_name = Security.APP_TLS, spoken.sni
    seconds = loop.time() - connection.started_at
    security = connection.security or Security.MUTUAL_TLS  # it becomes the connection's when the handshake is done
    connection.deps.observer.emit(Detected(service.listener, security, seconds))
    return spoken


async def _terminate(
    connection: Connection, service: InboundService, spoken: ClientHello | Opening
) -> tuple[Permit, Channel]:
    if service.context is None:
        raise Rejected(Reason.HANDSHAKE_FAILED, "this listener has no TLS context")
    connection.phase = Phase.HANDSHAKING
    handshake = connection.handshake = service.context.accept(connection.sock)
    try:
        await _shake(connection, handshake, Reason.HANDSHAKE_TIMEOUT)
    except Rejected as rejected:
        if rejected.reason is Reason.HANDSHAKE_FAILED and isinstance(spoken, Opening):
            parse_client_hello(spoken.data)  # what OpenSSL could not read may not have been a ClientHello at all
        raise
    connection.security = Security.MUTUAL_TLS
    if handshake.permit is None:
        raise Rejected(Reason.NOT_ALLOWED, "the policy gave no permit")
    return handshake.permit, handshake.channel


async def _shake(connection: Connection, handshake: Handshake, too_slow: Reason) -> None:
    """Drive a handshake to its end. Raises: Rejected."""
    deps, listener = connection.deps, connection.service.listener
    loop, fd = deps.loop, handshake.channel.fd
    deps.observer.emit(HandshakeStarted(listener))
    started_at, handshake_s = loop.time(), connection.timeouts.handshake_s
    deadline, done = deadline_in(loop, handshake_s), False
    try:
        while (step := handshake.step()) is not Step.DONE:
            await (readable if step is Step.WANT_READ else writable)(loop, fd, deadline)
        done = True
    except TimeoutError:
        raise Rejected(too_slow, f"the handshake was not finished within {handshake_s:g} s") from None
    finally:
        connection.tls = handshake.facts()
        deps.observer.emit(HandshakeEnded(listener, loop.time() - started_at, connection.tls if done else None))


async def _dial(connection: Connection, permit: Permit) -> socket.socket:
    deps, service = connection.deps, connection.service
    connection.phase = Phase.DIALING
    started_at = deps.loop.time()
    dialed = await dialer.dial(deps.loop, permit, service.config.upstream, connection.timeouts.connect_s)
    connection.upstream_sock, connection.upstream_address = dialed.sock, dialed.address
    deps.observer.emit(Dialed(service.listener, dialed.address, deps.loop.time() - started_at))
    return dialed.sock


async def _relay_to_app(
    connection: Connection, service: InboundService, permit: Permit, downstream: Channel
) -> Outcome:
    sock = connection.upstream_sock or await _dial(connection, permit)
    preface = proxy_header(service, connection)
    return await _relay(connection, downstream, PlainChannel(sock), connection.peer, preface=preface)


async def outbound(connection: Connection, service: OutboundService) -> Outcome:
    """From our app to the network. Raises: Rejected."""
    sock = await _dial(connection, permit_outbound(service.listener))
    connection.phase = Phase.HANDSHAKING
    handshake = connection.handshake = service.context.connect(sock)
    try:
        await _shake(connection, handshake, Reason.UPSTREAM_TIMEOUT)
    except Rejected:
        service.context.forget_session()
        raise
    connection.security = Security.MUTUAL_TLS
    connection.handshake_is_over()
    upstream = Upstream(service, handshake)
    outcome = await _relay(
        connection, PlainChannel(connection.sock), handshake.channel, handshake.peer, answered=upstream.answered
    )
    relay = connection.relay
    if relay is None:
        return outcome
    return upstream.judge(outcome, relay.down.count, upstream_first=relay.first_to_finish is not relay.up)


class Upstream:
    """Whether the upstream of an outbound connection has accepted us yet."""

    __slots__ = ("_handshake", "_proven", "_service")

    def __init__(self, service: OutboundService, handshake: Handshake) -> None:
        self._service = service
        self._handshake = handshake
        self._proven = handshake.version == "TLSv1.2"  # where the server's Finished comes after its judgement
        if self._proven:
            service.context.keep_session(handshake)

    def answered(self, received: int) -> bool:
        """Called after each look at the upstream until True. received: application bytes that came from it so far."""
        if not self._proven and (received or self._handshake.ticket_has_come()):
            self._proven = True
            self._service.context.keep_session(self._handshake)
        return self._proven

    def judge(self, outcome: Outcome, received: int, *, upstream_first: bool) -> Outcome:
        """
        Tell a refusal from an end.

        received:       application bytes that came from the upstream
        upstream_first: it ended its stream before the app had ended its own
        """
        channel = self._handshake.channel
        if received or channel.end is None:
            return outcome
        if channel.end is End.CLEAN and not upstream_first:
            return outcome
        if channel.end is not End.CLEAN and self._proven:
            hint = "it sent nothing: it may have refused our certificate without a word, or its app is down"
            return Outcome(outcome.reason, f"{outcome.detail}; {hint}")
        if self._handshake.resumed:
            self._service.context.forget_session()
        detail = channel.end_detail or "the upstream closed, as some servers do instead of sending an alert"
        return Outcome(Reason.UPSTREAM_REJECTED_US, f"{detail}, before it had sent anything")


async def _relay(
    connection: Connection,
    downstream: Channel,
    upstream: Channel,
    peer: PeerIdentity | None,
    *,
    preface: bytes = b"",
    answered: Callable[[int], bool] | None = None,
) -> Outcome:
    deps, listener, security = connection.deps, connection.service.listener, connection.security
    if security is None:
        raise Rejected(Reason.HANDSHAKE_FAILED, "how the bytes cross the network was never decided")
    peer = deps.recheck(connection) or peer  # a generation may have been published while it shook hands
    connection.phase = Phase.RELAYING
    connection.relay = Relay(
        deps.loop,
        deps.scratch,
        deps.deadlines,
        downstream,
        upstream,
        connection.timeouts,
        deps.clock,
        peer=peer,
        preface=preface,
        answered=answered,
        on_half_closed=lambda change: deps.observer.emit(HalfClosed(listener, change)),
    )
    deps.observer.emit(Relaying(listener, security))
    return await connection.relay.run()
