"""
One handshake looked at closely: how many bytes go which way, and how many network round trips pass until the server has
accepted the client. Nothing of it is assumed: the client talks to a pair of sockets, and what it says is carried to the
server by hand, so every flight is seen.

A round trip is: the client has sent something that it now waits to be answered. The TCP handshake is one of them. What
is not seen here is TCP's own pace: a first flight of a server beyond the initial window (10 segments, about 14 KB, RFC
6928: long chains of RSA-4096) takes another round trip on a real network.
"""

import select
import socket
import time
from collections.abc import Callable
from typing import Any

import msgspec

from proxy.core.reasons import Reason, Rejected
from proxy.lab.exchange import Exchange, State
from proxy.lab.generator import LoadFault, fault_of
from proxy.lab.generatorprocess import resolve
from proxy.lab.plan import Plan, Report
from proxy.tls.loadclient import LoadContext, Negotiated

_CHUNK_BYTES = 65536
_MAX_FLIGHTS = 32
_SOON_S = 2.0  # in which a ticket that is sent by itself is there


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of one handshake; bytes are TCP payload until the acceptance. resumed: as the connection says."""

    bytes_sent: int
    bytes_received: int
    round_trips: int
    resumed: bool
    negotiated: Negotiated


def observe(plan: Plan) -> Observed:
    """
    Make one handshake of the plan and look at it; for a resumed plan, the second of two.

    Raises: LoadFault when the server cannot be reached or refuses, with what to do about it
    """
    try:
        context = LoadContext(plan.credentials, plan.offer)
        family, address = resolve(plan.address)
        observed, session = _once(plan, context, family, address, None)
        if plan.resumed:
            observed, _ = _once(plan, context, family, address, session)
    except Rejected as rejected:
        raise fault_of(Report(failures={rejected.reason: 1}, details={rejected.reason: rejected.detail})) from None
    return observed


def sends_tickets_last(plan: Plan) -> bool:
    """
    Whether the server of a plan without a request sends its TLS 1.3 ticket with its end, and not before it.

    BoringSSL is like that, and so Envoy: a ticket waits for the first bytes, and the end is the first where nothing is
    asked. What else is wrong with the server is not said here.
    """
    soon = msgspec.structs.replace(plan, timeout_s=min(plan.timeout_s, _SOON_S), resumed=False)
    try:
        observe(soon)
    except LoadFault as fault:
        if fault.reason is not Reason.HANDSHAKE_TIMEOUT:
            return False
    else:
        return False
    try:
        observe(msgspec.structs.replace(soon, farewell=True))
    except LoadFault:
        return False
    return True


def _once(
    plan: Plan, context: LoadContext, family: socket.AddressFamily, address: tuple[str, int], session: Any | None
) -> tuple[Observed, Any | None]:
    deadline = time.monotonic() + plan.timeout_s
    ours, carrier = socket.socketpair()
    with ours, carrier, socket.socket(family, socket.SOCK_STREAM) as wire:
        _connect(wire, address, plan.timeout_s)
        ours.setblocking(False)
        carrier.setblocking(False)
        wire.setblocking(False)
        exchange = Exchange(plan, context.connect(ours, session), 0.0, priming=False)
        try:
            sent, received, flights = _carry(exchange, carrier, wire, deadline)
            connection = exchange.connection
            observed = Observed(
                bytes_sent=sent,
                bytes_received=received,
                round_trips=1 + flights,
                resumed=connection.resumed,
                negotiated=connection.negotiated(),
            )
            kept = connection.session()
            exchange.finish()
            _move(carrier, wire)
            return observed, kept
        finally:
            exchange.connection.close()


def _connect(wire: socket.socket, address: tuple[str, int], within_s: float) -> None:
    wire.settimeout(within_s)
    try:
        wire.connect(address)
    except TimeoutError:
        raise Rejected(Reason.UPSTREAM_TIMEOUT, f"{address[0]} port {address[1]} does not answer") from None
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise Rejected(Reason.UPSTREAM_REFUSED, f"{address[0]} port {address[1]} cannot be reached ({why})") from None
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _carry(exchange: Exchange, carrier: socket.socket, wire: socket.socket, deadline: float) -> tuple[int, int, int]:
    """Carry flights until the server has accepted. Returns: (bytes sent, bytes received, round trips of TLS)"""
    sent = received = flights = 0
    while exchange.advance() is not State.ACCEPTED:
        said = _move(carrier, wire)
        sent += said
        flights += said > 0
        if flights > _MAX_FLIGHTS:
            raise Rejected(Reason.HANDSHAKE_FAILED, "the handshake does not come to an end")
        if not select.select([wire], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise exchange.why_late()
        heard = _take(wire)
        received += len(heard)
        if heard:
            carrier.sendall(heard)
        else:
            carrier.shutdown(socket.SHUT_WR)
    return sent + _move(carrier, wire), received, flights


def _move(carrier: socket.socket, wire: socket.socket) -> int:
    """Everything that the client has said, onto the wire. Returns: how many bytes"""
    said = _all(lambda: carrier.recv(_CHUNK_BYTES))
    try:
        wire.sendall(said)
    except OSError:
        pass  # the server has closed; what it said before is still to be read
    return len(said)


def _take(wire: socket.socket) -> bytes:
    try:
        return wire.recv(_CHUNK_BYTES)
    except BlockingIOError:
        return b""
    except OSError:
        return b""  # reset: the client sees an end, and names it


def _all(receive: Callable[[], bytes]) -> bytes:
    parts = []
    while True:
        try:
            part = receive()
        except BlockingIOError:
            break
        if not part:
            break
        parts.append(part)
    return b"".join(parts)
