"""
A connection's whole life, top to bottom: `inbound()` and `outbound()`. Newcomers start here.

    inbound    detect -> handshake (identity and policy inside it) -> dial the app -> relay
    outbound   dial the upstream -> handshake (its identity inside it) -> relay
    passthrough  (outbound, intercepted, and no route leads there) dial -> relay

Each step hands a value to the next or raises Rejected, and `live()` turns whatever happened into the one Closed event.
A connection emits facts and never logs or counts. It takes the trust generation in force when it is accepted and keeps
it; `end()` is how a later generation, a drain or a limit reaches it.

What it knows of itself so far is net/state.py's Connection; whether an upstream has accepted us is net/upstream.py's.
"""

import asyncio
import socket
from collections.abc import Callable

from proxy.core.clienthello import ClientHello, Plaintext, parse_client_hello
from proxy.core.config import AppTls, Mode, ProxyProtocol
from proxy.core.events import (
    Detected,
    Dialed,
    HandshakeEnded,
    Relaying,
    Security,
)
from proxy.core.policy import (
    Permit,
    is_app_server_name,
    permit_app_tls,
    permit_outbound,
    permit_passthrough,
    permit_plaintext,
)
from proxy.core.reasons import Reason, Rejected
from proxy.net import detection, dialer
from proxy.net.detection import Opening
from proxy.net.header import proxy_header
from proxy.net.pump import Pump
from proxy.net.readiness import deadline_in
from proxy.net.refusal import explained
from proxy.net.relay import MakePump, Outcome, relay_between
from proxy.net.state import Connection, Phase
from proxy.net.upstream import Upstream
from proxy.tls.channel import Channel, PlainChannel
from proxy.tls.handshake import Handshake, Step
from proxy.tls.interception import PassthroughService
from proxy.tls.store import InboundService, OutboundService
from proxy.tls.verify import PeerIdentity


async def live(connection: Connection) -> None:
    """From accept to Closed, and then the worker forgets it."""
    outcome = Outcome(Reason.DRAINED, "the worker was stopped")
    try:
        if isinstance(connection.service, InboundService):
            outcome = await inbound(connection, connection.service)
        elif isinstance(connection.service, OutboundService):
            outcome = await outbound(connection, connection.service)
        else:
            outcome = await passthrough(connection, connection.service)
    except Rejected as rejected:
        outcome = Outcome(rejected.reason, rejected.detail)
        await connection.refuse()
    except asyncio.CancelledError:
        if connection.cut is None:
            raise
        outcome = connection.cut
    except Exception as error:  # our bug ends this connection, never the worker
        outcome = Outcome(Reason.RESET, f"internal error: {type(error).__name__}")
        connection.deps.report_bug(error)
    finally:
        try:
            connection.handshake_is_over()
            connection.abort()
            connection.emit_closed(outcome)
        finally:
            connection.deps.forget(connection)


async def inbound(connection: Connection, service: InboundService) -> Outcome:
    """From the network to our app. Raises: Rejected."""
    if service.config.mode is Mode.DISABLE:
        connection.handshake_is_over()
        connection.security = Security.PLAINTEXT
        permit = permit_plaintext(service.listener, service.config.mode)
        return await _relay_to_app(connection, service, permit, PlainChannel(connection.sock))
    if service.config.server_first and service.config.mode is Mode.PERMISSIVE:
        await _dial_early(connection, service)
    deadline = _since_accept(connection)
    spoken = await _detect(connection, service, deadline)
    if isinstance(spoken, Plaintext):
        permit = permit_plaintext(service.listener, service.config.mode)
        channel: Channel = PlainChannel(connection.sock)
    elif connection.security is Security.APP_TLS:
        permit = permit_app_tls(service.listener, connection.server_name, service.config.app_tls_server_names)
        channel = PlainChannel(connection.sock)
    else:
        permit, channel = await _terminate(connection, service, spoken, deadline)
    connection.handshake_is_over()
    del spoken  # a connection that lives for days need not keep its ClientHello
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


async def _detect(
    connection: Connection, service: InboundService, deadline: float | None
) -> ClientHello | Opening | Plaintext:
    deps, config = connection.deps, service.config
    loop, silence_until = deps.loop, None
    if config.mode is Mode.PERMISSIVE:
        if config.server_first:
            silence_until = loop.time() + config.server_first_hold_s
        else:
            silence_until = deadline_in(loop, config.detection_timeout_s)  # 0: silence is never plaintext
    spoken = await detection.look(
        deps.readiness, connection.sock, config.mode, silence_until=silence_until, deadline=deadline
    )
    if isinstance(spoken, Plaintext):
        connection.security = Security.PLAINTEXT
    elif isinstance(spoken, ClientHello) and _is_the_apps(spoken, service):
        connection.security, connection.server_name = Security.APP_TLS, spoken.sni
    seconds = loop.time() - connection.started_at
    security = connection.security or Security.MUTUAL_TLS  # it becomes the connection's when the handshake is done
    deps.observer.emit(Detected(service.listener, security, seconds))
    return spoken


async def _terminate(
    connection: Connection, service: InboundService, spoken: ClientHello | Opening, deadline: float | None
) -> tuple[Permit, Channel]:
    if service.context is None:
        raise Rejected(Reason.HANDSHAKE_FAILED, "this listener has no TLS context")
    connection.phase = Phase.HANDSHAKING
    handshake = connection.handshake = service.context.accept(connection.sock)
    try:
        await _shake(connection, handshake, Reason.HANDSHAKE_TIMEOUT, deadline)
    except Rejected as rejected:
        if rejected.reason is Reason.HANDSHAKE_FAILED and isinstance(spoken, Opening):
            parse_client_hello(spoken.data)  # what OpenSSL could not read may not have been a ClientHello at all
        raise explained(rejected, spoken, connection.generation) from None
    connection.security = Security.MUTUAL_TLS
    if handshake.permit is None:
        raise Rejected(Reason.NOT_ALLOWED, "the policy gave no permit")
    return handshake.permit, handshake.channel


def _since_accept(connection: Connection) -> float | None:
    """One deadline for the ClientHello and all that follows: each with its own would let a stranger stay twice."""
    handshake_s = connection.timeouts.handshake_s
    return connection.started_at + handshake_s if handshake_s > 0 else None


async def _shake(connection: Connection, handshake: Handshake, too_slow: Reason, deadline: float | None) -> None:
    """Drive a handshake to its end. Raises: Rejected."""
    deps, listener = connection.deps, connection.service.listener
    loop, readiness, fd = deps.loop, deps.readiness, handshake.channel.fd
    started_at, done = loop.time(), False
    try:
        while (step := handshake.step()) is not Step.DONE:
            await (readiness.readable if step is Step.WANT_READ else readiness.writable)(fd, deadline)
        done = True
    except TimeoutError:
        within_s = connection.timeouts.handshake_s
        raise Rejected(too_slow, f"the handshake was not finished within {within_s:g} s") from None
    finally:
        connection.tls = handshake.facts()
        deps.observer.emit(HandshakeEnded(listener, loop.time() - started_at, connection.tls if done else None))


async def _dial(connection: Connection, permit: Permit) -> socket.SocketType:
    deps, service = connection.deps, connection.service
    connection.phase = Phase.DIALING
    started_at = deps.loop.time()
    connect_s = connection.timeouts.connect_s
    dialed = await dialer.dial(deps.readiness, deps.resolver, permit, connection.target, connect_s)
    connection.has_dialed(dialed.sock, dialed.address)
    deps.observer.emit(Dialed(service.listener, dialed.address, deps.loop.time() - started_at))
    return dialed.sock


async def _relay_to_app(
    connection: Connection, service: InboundService, permit: Permit, downstream: Channel
) -> Outcome:
    connection.phase = Phase.DIALING
    # A generation published meanwhile may allow less, and then the app is to hear nothing of this client.
    peer = connection.deps.recheck(connection) or connection.peer
    sock = connection.upstream_sock or await _dial(connection, permit)
    preface = proxy_header(service, connection)
    return await _relay(connection, downstream, PlainChannel(sock), peer, preface=preface)


async def outbound(connection: Connection, service: OutboundService) -> Outcome:
    """From our app to the network. Raises: Rejected."""
    sock = await _dial(connection, permit_outbound(service.listener))
    connection.phase = Phase.HANDSHAKING
    destination = str(connection.meant) if connection.meant is not None else ""
    handshake = connection.handshake = service.context.connect(sock, destination)
    deadline = deadline_in(connection.deps.loop, connection.timeouts.handshake_s)
    try:
        await _shake(connection, handshake, Reason.UPSTREAM_TIMEOUT, deadline)
    except Rejected:
        service.context.forget_session(destination)
        raise
    connection.security = Security.MUTUAL_TLS
    connection.handshake_is_over()
    upstream = Upstream(service, handshake, destination)
    outcome = await _relay(
        connection, PlainChannel(connection.sock), handshake.channel, handshake.peer, answered=upstream.answered
    )
    relay = connection.relay
    if relay is None:
        return outcome
    return upstream.judge(outcome, relay.down.count, upstream_first=relay.first_to_finish is not relay.up)


async def passthrough(connection: Connection, service: PassthroughService) -> Outcome:
    """From our app to the network as it is, where it was going before it was intercepted. Raises: Rejected."""
    sock = await _dial(connection, permit_passthrough(service.listener, service.default))
    connection.security = Security.PLAINTEXT
    pipe = connection.deps.pipe
    return await _relay(connection, PlainChannel(connection.sock), PlainChannel(sock), None, make_pump=pipe.pump)


async def _relay(
    connection: Connection,
    downstream: Channel,
    upstream: Channel,
    peer: PeerIdentity | None,
    *,
    preface: bytes = b"",
    answered: Callable[[int], bool] | None = None,
    make_pump: MakePump = Pump,
) -> Outcome:
    deps, listener, security = connection.deps, connection.service.listener, connection.security
    if security is None:
        raise Rejected(Reason.HANDSHAKE_FAILED, "how the bytes cross the network was never decided")
    peer = deps.recheck(connection) or peer  # one may have been published while it dialed or shook hands
    connection.phase = Phase.RELAYING
    relay = connection.relay = relay_between(
        deps.readiness,
        deps.scratch,
        deps.deadlines,
        downstream,
        upstream,
        connection.timeouts,
        deps.clock,
        peer=peer,
        preface=preface,
        answered=answered,
        make_pump=make_pump,
    )
    deps.observer.emit(Relaying(listener, security))
    return await relay.run()
