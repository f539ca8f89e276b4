"""
The services behind an interception: one for each port and each route that the configuration names, and the default.

One socket takes connections to every port and every destination, and which service judges a connection follows from
where it was going before the rules redirected it. What no service is for is refused here, before a byte is read: a port
that the configuration does not name, a destination without a route, and whatever would only come back to us.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from proxy.core.config import InterceptOutbound, OutboundDefault, Route, TcpAddress
from proxy.core.events import Listener
from proxy.core.reasons import Reason, Rejected

if TYPE_CHECKING:
    from proxy.tls.store import InboundService, OutboundService


@dataclass(frozen=True, slots=True)
class PassthroughService:
    """What our own app opens to where no route leads: relayed as it is."""

    listener: Listener
    default: OutboundDefault


@dataclass(frozen=True, slots=True)
class InboundInterception:
    """
    What arrives at the Pod.

    listener: what a connection that no service takes is counted under
    own:      port -> what of ours is there: the key of the configuration
    """

    listener: Listener
    ports: "Mapping[int, InboundService]"
    default: "InboundService | None"
    own: Mapping[int, str]

    def service_for(self, meant: TcpAddress) -> "InboundService":
        """The service of the port that the client meant. Raises: Rejected(NOT_ALLOWED)"""
        if meant.port in self.own:
            raise Rejected(
                Reason.NOT_ALLOWED,
                f"{meant} is a port of this sidecar itself ({self.own[meant.port]}) and not the app's: the rules "
                f"should leave it alone (intercept apply --exclude-inbound-ports {meant.port})",
            )
        service = self.ports.get(meant.port, self.default)
        if service is None:
            raise Rejected(
                Reason.NOT_ALLOWED,
                f"port {meant.port} is not in `intercept.inbound.ports`, and there is no `default`",
            )
        return service


@dataclass(frozen=True, slots=True)
class OutboundInterception:
    """What our own app opens. default None: what no route covers is refused."""

    listener: Listener
    routes: "tuple[tuple[Route, OutboundService], ...]"
    default: PassthroughService | None

    def service_for(self, meant: TcpAddress) -> "OutboundService | PassthroughService":
        """The first route that covers the destination, else the default. Raises: Rejected(NOT_ALLOWED)"""
        address = ip_address(meant.host)
        for route, service in self.routes:
            if (not route.ports or meant.port in route.ports) and address in route.to:
                return service
        if self.default is None:
            raise Rejected(
                Reason.NOT_ALLOWED,
                f"no route of `intercept.outbound` covers {meant}, and its `default` is refuse",
            )
        return self.default


Interception = InboundInterception | OutboundInterception


def intercept_outbound(
    section: InterceptOutbound, listener: Listener, services: "Sequence[OutboundService]"
) -> OutboundInterception:
    """The outbound interception of a generation. services: of the routes, in their order"""
    # Named, so that a default added later is refused until somebody decides about it here.
    passes = section.default is OutboundDefault.PASSTHROUGH
    default = PassthroughService(listener, section.default) if passes else None
    return OutboundInterception(listener, tuple(zip(section.routes, services, strict=True)), default)
