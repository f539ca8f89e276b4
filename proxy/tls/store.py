"""
One trust generation: everything that a new connection needs to be judged, made whole and published by one assignment.

A connection takes `current` when it is accepted and keeps it for its whole life, so it never sees half of a reload.
What must reach live connections as well (a peer that is no longer trusted or allowed) is net/server.py's to carry out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from proxy.core.config import (
    Config,
    InboundConfig,
    InboundPolicy,
    InterceptConfig,
    Mode,
    OutboundConfig,
    Route,
    TcpAddress,
)
from proxy.core.entrances import INTERCEPT, listener_of_port, listener_of_route, own_ports
from proxy.core.events import Direction, Listener
from proxy.core.policy import Policy, ServerPolicy
from proxy.tls.contexts import ClientContext, Clock, ServerContext, prove
from proxy.tls.interception import InboundInterception, Interception, PassthroughService, intercept_outbound
from proxy.tls.material import Material
from proxy.tls.verdicts import MAX_VERDICTS
from proxy.tls.verify import Verifier

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.core.spiffe import SpiffeId


@dataclass(frozen=True, slots=True)
class InboundService:
    """An inbound listener, or an intercepted port, in one generation. context: None for DISABLE."""

    listener: Listener
    config: InboundConfig | InboundPolicy
    policy: Policy
    context: ServerContext | None


@dataclass(frozen=True, slots=True)
class OutboundService:
    """An outbound listener, or a route, in one generation."""

    listener: Listener
    config: OutboundConfig | Route
    policy: ServerPolicy
    context: ClientContext


Service = InboundService | OutboundService | PassthroughService


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """
    number:        counts up from 1 with every publication
    services:      of the listeners that have one upstream
    interceptions: of those whose connections lead to wherever they were going
    """

    number: int
    config: Config
    material: Material
    verifier: Verifier
    services: "Mapping[Listener, InboundService | OutboundService]"
    interceptions: "Mapping[Direction, Interception]"


class Store:
    """Holds the generation in force. Publishing is one assignment, so whoever reads `current` has a whole one."""

    __slots__ = ("_current",)

    def __init__(self, first: Generation) -> None:
        self._current = first

    @property
    def current(self) -> Generation:
        """The generation in force."""
        return self._current

    def publish(self, generation: Generation) -> None:
        """Put a new generation in force; it must be younger than the one before."""
        if generation.number <= self._current.number:
            raise ValueError(f"generation {generation.number} is not younger than {self._current.number}")
        self._current = generation


def build_generation(number: int, config: Config, material: Material, clock: Clock) -> Generation:
    """
    Make a generation aside and prove it by a handshake with itself.

    Raises: Rejected when OpenSSL does not take the material or the words, or the handshake fails
    """
    verifier = Verifier(material.bundles, verdicts=MAX_VERDICTS if config.tls.verdict_cache else 0)
    prove(material, config.tls, verifier, clock)
    services: dict[Listener, InboundService | OutboundService] = {}
    for inbound in config.inbound:
        listener = Listener(Direction.INBOUND, inbound.name)
        services[listener] = _inbound(listener, inbound, config, material, verifier, clock)
    for outbound in config.outbound:
        listener = Listener(Direction.OUTBOUND, outbound.name)
        services[listener] = _outbound(listener, outbound, config, material, verifier, clock)
    interceptions: dict[Direction, Interception] = {}
    if config.intercept is not None:
        interceptions = _interceptions(config.intercept, config, material, verifier, clock)
    return Generation(
        number=number,
        config=config,
        material=material,
        verifier=verifier,
        services=MappingProxyType(services),
        interceptions=MappingProxyType(interceptions),
    )


def _interceptions(
    intercept: InterceptConfig, config: Config, material: Material, verifier: Verifier, clock: Clock
) -> dict[Direction, Interception]:
    found: dict[Direction, Interception] = {}
    if intercept.inbound is not None:
        listener = Listener(Direction.INBOUND, INTERCEPT)
        ports = {
            policy.port: _inbound(listener_of_port(policy.port), policy, config, material, verifier, clock)
            for policy in intercept.inbound.ports
        }
        rest = intercept.inbound.default
        default = _inbound(listener, rest, config, material, verifier, clock) if rest is not None else None
        found[Direction.INBOUND] = InboundInterception(listener, ports, default, own_ports(config))
    if intercept.outbound is not None:
        services = [
            _outbound(listener_of_route(route), route, config, material, verifier, clock)
            for route in intercept.outbound.routes
        ]
        listener = Listener(Direction.OUTBOUND, INTERCEPT)
        found[Direction.OUTBOUND] = intercept_outbound(intercept.outbound, listener, services)
    return found


def _inbound(
    listener: Listener,
    inbound: InboundConfig | InboundPolicy,
    config: Config,
    material: Material,
    verifier: Verifier,
    clock: Clock,
) -> InboundService:
    policy = Policy(inbound.allow, inbound.deny)
    context = None
    if inbound.mode is not Mode.DISABLE:
        context = ServerContext(
            material, config.tls, verifier, lambda peer: policy.authorize(peer, listener), clock, alpn=inbound.alpn
        )
    return InboundService(listener, inbound, policy, context)


def _outbound(
    listener: Listener,
    outbound: OutboundConfig | Route,
    config: Config,
    material: Material,
    verifier: Verifier,
    clock: Clock,
) -> OutboundService:
    policy = ServerPolicy(outbound.server_ids)
    context = ClientContext(
        material,
        config.tls,
        verifier,
        _server_admission(policy, listener),
        clock,
        server_name=server_name(outbound),
        alpn=outbound.alpn,
        resume=outbound.resume,
    )
    return OutboundService(listener, outbound, policy, context)


def _server_admission(policy: ServerPolicy, listener: Listener) -> "Callable[[SpiffeId], None]":
    def admit(peer: "SpiffeId") -> None:
        policy.authorize(peer, listener)  # a server gets no Permit: nothing is dialed for it

    return admit


def server_name(outbound: OutboundConfig | Route) -> str | None:
    """
    The SNI to send: the configured one, else the upstream's host name; None for an IP address, which is all that is
    known of an intercepted destination.

    The dot that ends a name in DNS (and keeps a resolver from its search list) is not part of it. Source: RFC 6066 3
    """
    if outbound.sni is not None:
        return outbound.sni
    if isinstance(outbound, Route):
        return None
    upstream = outbound.upstream
    return upstream.host.rstrip(".") if isinstance(upstream, TcpAddress) and not upstream.is_literal else None
