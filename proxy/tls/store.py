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
from proxy.tls.contexts import ClientContext, Clock, ServerContext
from proxy.tls.engine import TlsEngine, find_engine, prove
from proxy.tls.interception import InboundInterception, Interception, PassthroughService, intercept_outbound
from proxy.tls.material import Material
from proxy.tls.ticketkeys import derive, new_secret
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
    engine: TlsEngine
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


def build_generation(
    number: int, config: Config, material: Material, clock: Clock, ticket_secret: bytes | None = None
) -> Generation:
    """
    Make a generation aside and prove it by a handshake with itself.

    ticket_secret: what the workers of a sidecar share (tls/ticketkeys.py); None draws one that nobody shares
    Raises:        Rejected when the engine does not take the material or the words, or the handshake fails
    """
    engine = find_engine(config.tls)
    verifier = engine.verifier(material.bundles, verdicts=None if config.tls.verdict_cache else 0)
    prove(engine, material, config.tls, verifier, clock)
    maker = _Maker(config, material, engine, verifier, clock, ticket_secret or new_secret())
    services: dict[Listener, InboundService | OutboundService] = {}
    for inbound in config.inbound:
        listener = Listener(Direction.INBOUND, inbound.name)
        services[listener] = maker.inbound(listener, inbound)
    for outbound in config.outbound:
        listener = Listener(Direction.OUTBOUND, outbound.name)
        services[listener] = maker.outbound(listener, outbound)
    return Generation(
        number=number,
        config=config,
        material=material,
        engine=engine,
        verifier=verifier,
        services=MappingProxyType(services),
        interceptions=MappingProxyType(maker.interceptions(config.intercept) if config.intercept is not None else {}),
    )


@dataclass(frozen=True, slots=True)
class _Maker:
    """What all services of a generation are made of."""

    config: Config
    material: Material
    engine: TlsEngine
    verifier: Verifier
    clock: Clock
    ticket_secret: bytes

    def inbound(self, listener: Listener, inbound: InboundConfig | InboundPolicy) -> InboundService:
        policy = Policy(inbound.allow, inbound.deny)
        context = None
        if inbound.mode is not Mode.DISABLE:
            facts = (self.material.digest, repr(inbound).encode(), repr(self.config.tls).encode())
            context = self.engine.server_context(
                self.material,
                self.config.tls,
                self.verifier,
                lambda peer: policy.authorize(peer, listener),
                self.clock,
                ticket_key=derive(self.ticket_secret, *facts),
                alpn=inbound.alpn,
            )
        return InboundService(listener, inbound, policy, context)

    def outbound(self, listener: Listener, outbound: OutboundConfig | Route) -> OutboundService:
        policy = ServerPolicy(outbound.server_ids)
        context = self.engine.client_context(
            self.material,
            self.config.tls,
            self.verifier,
            _server_admission(policy, listener),
            self.clock,
            server_name=server_name(outbound),
            alpn=outbound.alpn,
            resume=outbound.resume,
        )
        return OutboundService(listener, outbound, policy, context)

    def interceptions(self, intercept: InterceptConfig) -> dict[Direction, Interception]:
        found: dict[Direction, Interception] = {}
        if intercept.inbound is not None:
            listener = Listener(Direction.INBOUND, INTERCEPT)
            ports = {
                policy.port: self.inbound(listener_of_port(policy.port), policy) for policy in intercept.inbound.ports
            }
            rest = intercept.inbound.default
            default = self.inbound(listener, rest) if rest is not None else None
            found[Direction.INBOUND] = InboundInterception(listener, ports, default, own_ports(self.config))
        if intercept.outbound is not None:
            services = [self.outbound(listener_of_route(route), route) for route in intercept.outbound.routes]
            listener = Listener(Direction.OUTBOUND, INTERCEPT)
            found[Direction.OUTBOUND] = intercept_outbound(intercept.outbound, listener, services)
        return found


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
