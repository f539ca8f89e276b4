"""
Where connections come in, and the listeners that they are counted under: the two differ where connections are
intercepted, since one address then takes the connections of many ports and destinations.

A label is always one that the configuration names (an intercepted port, a route, the default), never a destination that
turned up: a label that grew with the traffic would be the end of the metrics.
"""

from proxy.core.config import Config, InterceptConfig, ListenAddress, Mode, Route, TcpAddress
from proxy.core.events import Direction, Listener

INTERCEPT = "intercept"  # the name of what no port and no route names
PREFIX = "intercept-"


def entrances(config: Config) -> dict[ListenAddress, Listener]:
    """Every address that is listened on, with the listener that accepts there."""
    found: dict[ListenAddress, Listener] = {}
    for inbound in config.inbound:
        found[inbound.listen] = Listener(Direction.INBOUND, inbound.name)
    for outbound in config.outbound:
        found[outbound.listen] = Listener(Direction.OUTBOUND, outbound.name)
    if config.intercept is not None and config.intercept.inbound is not None:
        found[config.intercept.inbound.listen] = Listener(Direction.INBOUND, INTERCEPT)
    if config.intercept is not None and config.intercept.outbound is not None:
        found[config.intercept.outbound.listen] = Listener(Direction.OUTBOUND, INTERCEPT)
    return found


def listeners(config: Config) -> list[Listener]:
    """Every listener that a connection can be counted under."""
    found = list(entrances(config).values())
    if config.intercept is not None and config.intercept.inbound is not None:
        found += [listener_of_port(policy.port) for policy in config.intercept.inbound.ports]
    if config.intercept is not None and config.intercept.outbound is not None:
        found += [listener_of_route(route) for route in config.intercept.outbound.routes]
    return found


def modes(config: Config) -> list[tuple[Listener, Mode | None, ListenAddress]]:
    """Every listener with its mode (None for outbound, and where nothing is let in) and the address it is behind."""
    of = {Listener(Direction.INBOUND, inbound.name): inbound.mode for inbound in config.inbound}
    found = [(listener, of.get(listener), address) for address, listener in entrances(config).items()]
    intercept = config.intercept or InterceptConfig()
    if (inbound := intercept.inbound) is not None:
        found = [row for row in found if row[0] != Listener(Direction.INBOUND, INTERCEPT)]
        default = inbound.default.mode if inbound.default is not None else None
        found.append((Listener(Direction.INBOUND, INTERCEPT), default, inbound.listen))
        found += [(listener_of_port(policy.port), policy.mode, inbound.listen) for policy in inbound.ports]
    if (outbound := intercept.outbound) is not None:
        found += [(listener_of_route(route), None, outbound.listen) for route in outbound.routes]
    return found


def own_ports(config: Config) -> dict[int, str]:
    """TCP port -> what listens there of this sidecar: `admin`, `health`, or the name of a listener."""
    at = entrances(config)
    found = {address.port: listener.name for address, listener in at.items() if isinstance(address, TcpAddress)}
    for name, endpoint in (("admin", config.admin), ("health", config.health)):
        if endpoint is not None and isinstance(endpoint.listen, TcpAddress):
            found[endpoint.listen.port] = name
    found.pop(0, None)  # the kernel's choice is not known here
    return found


def listener_of_port(port: int) -> Listener:
    """`intercept-8080`."""
    return Listener(Direction.INBOUND, f"{PREFIX}{port}")


def listener_of_route(route: Route) -> Listener:
    """The route's own name, else `intercept-10.96.0.0/12` or `intercept-10.96.0.0/12:8080,9090`."""
    ports = f":{','.join(map(str, route.ports))}" if route.ports else ""
    return Listener(Direction.OUTBOUND, route.name or f"{PREFIX}{route.to}{ports}")
