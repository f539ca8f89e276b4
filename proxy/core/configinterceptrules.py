"""
The rules between the keys of `intercept`, in the manner of configrules.py.

Most of them keep a connection from going round in circles, or a route and a port from standing there without effect:
what the rules of the kernel send here can be anything, so what is not clearly meant is better found in the file.
"""

from ipaddress import IPv4Network, IPv6Network

from proxy.core.config import AdminConfig, TcpAddress
from proxy.core.configkinds import BAD
from proxy.core.configsections import Section
from proxy.core.configyaml import Faults
from proxy.core.entrances import INTERCEPT, PREFIX


def interceptions(root: Section) -> list[Section]:
    """`intercept.inbound` and `intercept.outbound`, as far as they are there."""
    return [
        section
        for intercept in root.sections("intercept")
        for direction in ("inbound", "outbound")
        for section in intercept.sections(direction)
    ]


def intercepted_policies(root: Section) -> list[Section]:
    """The policy of each intercepted port, and the default."""
    return [
        policy
        for intercept in root.sections("intercept")
        for inbound in intercept.sections("inbound")
        for policy in [*inbound.sections("ports"), *inbound.sections("default")]
    ]


def named_routes(root: Section) -> list[Section]:
    """The routes that have a name of their own."""
    return [route for route in _routes(root) if "name" in route.lines]


def check_interception(root: Section, faults: Faults) -> None:
    """Note every broken rule."""
    for intercept in root.sections("intercept"):
        if intercept.get("inbound") is None and intercept.get("outbound") is None:
            faults.add(intercept.path, intercept.line, "nothing is intercepted: write `inbound`, `outbound` or both")
        for inbound in intercept.sections("inbound"):
            if inbound.get("ports") == () and inbound.get("default") is None:
                faults.add(inbound.path, inbound.line, "no port would be let in: write `ports`, `default` or both")
        _check_names(root, faults)
        _check_ports(root, intercept, faults)
        _check_routes(_routes(root), faults)


def _routes(root: Section) -> list[Section]:
    return [
        route
        for intercept in root.sections("intercept")
        for outbound in intercept.sections("outbound")
        for route in outbound.sections("routes")
    ]


def _check_names(root: Section, faults: Faults) -> None:
    """The names that logs and metrics have for what is intercepted are nobody else's."""
    for section in [*root.sections("inbound"), *root.sections("outbound"), *named_routes(root)]:
        name = section.get("name")
        if name is not BAD and (name == INTERCEPT or name.startswith(PREFIX)):
            path, line = section.where("name")
            faults.add(path, line, f"names that begin with {INTERCEPT} are those of `intercept`; take another")


def _check_ports(root: Section, intercept: Section, faults: Faults) -> None:
    """A port of our own is not the app's: what is sent there by the rules would only come back."""
    own: dict[int, str] = {}
    if isinstance(default := root.get("admin"), AdminConfig) and isinstance(default.listen, TcpAddress):
        own[default.listen.port] = "the default of `admin`"
    others = [section for name in ("inbound", "outbound", "admin", "health") for section in root.sections(name)]
    for section in [*others, *interceptions(root)]:
        listen = section.get("listen")
        if isinstance(listen, TcpAddress) and listen.port:
            own.setdefault(listen.port, section.where("listen")[0])
    for inbound in intercept.sections("inbound"):
        for policy in inbound.sections("ports"):
            if (port := policy.get("port")) in own:
                message = f"{port} is a port of the sidecar itself ({own[port]}); here stand the app's"
                faults.add(policy.path, policy.where("port")[1], message)


def _check_routes(routes: list[Section], faults: Faults) -> None:
    """A route behind one that covers all of it is never asked."""
    before: list[tuple[Section, IPv4Network | IPv6Network, frozenset[int]]] = []
    for route in routes:
        to, ports = route.get("to"), route.get("ports")
        if BAD in (to, ports):
            continue
        wanted = frozenset(ports)
        for owner, other_to, other_ports in before:
            if _covers(other_to, to) and (not other_ports or (wanted and wanted <= other_ports)):
                path, line = route.where("to")
                message = f"{owner.path} covers this route, so it is never asked; put it first"
                faults.add(path, line, message)
                break
        before.append((route, to, wanted))


def _covers(one: IPv4Network | IPv6Network, other: IPv4Network | IPv6Network) -> bool:
    if isinstance(one, IPv4Network) and isinstance(other, IPv4Network):
        return other.subnet_of(one)
    return isinstance(one, IPv6Network) and isinstance(other, IPv6Network) and other.subnet_of(one)
