"""
The rules that send a Pod's TCP to its sidecar, as data; iptables.py and nftables.py only write them down.

Two chains for each IP family. The first rule that matches decides, and RETURN leaves a connection as it is:

    INBOUND    what arrives from outside the Pod (the nat hook PREROUTING), to the sidecar's inbound port
    OUTBOUND   what processes of the Pod open (the nat hook OUTPUT), to its outbound port

The kernel asks them for the first packet of a connection and remembers the answer, so connections that exist stay as
they are. What is let through, and why:

- The loopback interface. The app that calls itself, by localhost or by the Pod's own address, stays in the Pod, and so
  does the sidecar when it hands a connection to the app: Linux routes both over `lo`.
- The sidecar's own connections, by uid and by gid, or they would come back to it for ever. Nobody else in the Pod may
  run as that uid: it could go around the sidecar.
- Inbound, the sidecar's own ports. They are for kubelet and Prometheus, or refuse whoever was not sent there.

Everything else is the operator's, as includes and excludes; an exclude always wins.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network

from proxy.core.addresses import AddressFault, parse_network
from proxy.core.events import Direction

INBOUND_PORT = 15006
OUTBOUND_PORT = 15001
PROXY_UID = 1337
PROXY_GID = 1337
OWN_PORTS: tuple[int, ...] = (15000, 15001, 15006, 15021)  # admin, outbound, inbound, health
LOOPBACK = "lo"

Network = IPv4Network | IPv6Network


class Family(StrEnum):
    """One of the two IP families: each has tables of its own in the kernel."""

    IPV4 = "IPv4"
    IPV6 = "IPv6"

    @property
    def version(self) -> int:
        """4 or 6."""
        return 4 if self is Family.IPV4 else 6


@dataclass(frozen=True, slots=True, order=True)
class PortRange:
    """Ports `first` to `last`, both included; one port where they are equal."""

    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect:
    """
    What is to be caught.

    inbound_port:   where inbound connections go; None leaves inbound alone. outbound_port likewise
    include_*:      empty means everything. Outbound, a connection is included by its port or by its address
    own_ports:      ports of the sidecar itself, never redirected inbound
    """

    inbound_port: int | None = INBOUND_PORT
    outbound_port: int | None = OUTBOUND_PORT
    proxy_uid: int = PROXY_UID
    proxy_gid: int = PROXY_GID
    include_inbound_ports: tuple[PortRange, ...] = ()
    exclude_inbound_ports: tuple[PortRange, ...] = ()
    include_outbound_ports: tuple[PortRange, ...] = ()
    exclude_outbound_ports: tuple[PortRange, ...] = ()
    include_outbound_cidrs: tuple[Network, ...] = ()
    exclude_outbound_cidrs: tuple[Network, ...] = ()
    own_ports: tuple[int, ...] = OWN_PORTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """
    One rule; every condition that is set has to hold, and without any it always does.

    interface: the one that the packet came in by (INBOUND) or leaves by (OUTBOUND)
    to_port:   the port to redirect to; None: RETURN
    to_chain:  instead of either, go on in the chain of this direction
    why:       a few words for whoever reads the rules
    """

    interface: str = ""
    uid: int | None = None
    gid: int | None = None
    cidr: Network | None = None
    ports: tuple[PortRange, ...] = ()
    to_port: int | None = None
    to_chain: Direction | None = None
    why: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The chains of one family. A direction that is left alone has no chain."""

    family: Family
    chains: dict[Direction, tuple[Rule, ...]]


def plan(redirect: Redirect, family: Family, *, probe_port: int | None = None) -> Plan:
    """
    The rules of one IP family.

    probe_port: for the self-validation: what the Pod sends to this port of itself is judged as if it came from outside
    """
    chains: dict[Direction, tuple[Rule, ...]] = {}
    if redirect.inbound_port is not None:
        chains[Direction.INBOUND] = tuple(_inbound(redirect, redirect.inbound_port))
    if redirect.outbound_port is not None:
        chains[Direction.OUTBOUND] = tuple(_outbound(redirect, redirect.outbound_port, family))
    if probe_port is not None and Direction.INBOUND in chains:
        probe = Rule(
            interface=LOOPBACK,
            ports=(PortRange(probe_port, probe_port),),
            to_chain=Direction.INBOUND,
            why="the self-validation, for as long as it takes",
        )
        chains[Direction.OUTBOUND] = (probe, *chains.get(Direction.OUTBOUND, ()))
    return Plan(family, chains)


def _inbound(redirect: Redirect, to_port: int) -> list[Rule]:
    own = merge_ports(
        PortRange(port, port)
        for port in {*redirect.own_ports, redirect.inbound_port, redirect.outbound_port}
        if port is not None
    )
    rules = [
        Rule(interface=LOOPBACK, why="what the Pod sends to itself"),
        Rule(ports=own, why="the sidecar's own ports"),
    ]
    if redirect.exclude_inbound_ports:
        rules.append(Rule(ports=merge_ports(redirect.exclude_inbound_ports), why="excluded"))
    if redirect.include_inbound_ports:
        rules.append(Rule(ports=merge_ports(redirect.include_inbound_ports), to_port=to_port, why="included"))
    else:
        rules.append(Rule(to_port=to_port, why="everything else"))
    return rules


def _outbound(redirect: Redirect, to_port: int, family: Family) -> list[Rule]:
    def of_family(networks: tuple[Network, ...]) -> list[Network]:
        return [network for network in dict.fromkeys(networks) if network.version == family.version]

    rules = [
        Rule(interface=LOOPBACK, why="what the Pod sends to itself"),
        Rule(uid=redirect.proxy_uid, why="the sidecar"),
        Rule(gid=redirect.proxy_gid, why="the sidecar"),
    ]
    rules += [Rule(cidr=network, why="excluded") for network in of_family(redirect.exclude_outbound_cidrs)]
    if redirect.exclude_outbound_ports:
        rules.append(Rule(ports=merge_ports(redirect.exclude_outbound_ports), why="excluded"))
    if not redirect.include_outbound_ports and not redirect.include_outbound_cidrs:
        return [*rules, Rule(to_port=to_port, why="everything else")]
    if redirect.include_outbound_ports:
        rules.append(Rule(ports=merge_ports(redirect.include_outbound_ports), to_port=to_port, why="included"))
    rules += [
        Rule(cidr=network, to_port=to_port, why="included") for network in of_family(redirect.include_outbound_cidrs)
    ]
    return rules


def merge_ports(ports: Iterable[PortRange]) -> tuple[PortRange, ...]:
    """Sort ranges and join those that overlap or touch: nftables refuses a set whose members overlap."""
    merged: list[PortRange] = []
    for one in sorted(ports):
        if merged and one.first <= merged[-1].last + 1:
            merged[-1] = PortRange(merged[-1].first, max(merged[-1].last, one.last))
        else:
            merged.append(one)
    return tuple(merged)


def parse_ports(text: str) -> tuple[PortRange, ...]:
    """
    Parse "80,8000-8080"; "*" and "" are all ports, which is no range at all.

    Raises: ValueError with a sentence
    """
    if text.strip() in ("", "*"):
        return ()
    return merge_ports([_parse_range(item.strip()) for item in text.split(",")])


def _parse_range(text: str) -> PortRange:
    first, dash, last = text.partition("-")
    ports = [first, last] if dash else [first, first]
    if not all(port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535 for port in ports):
        raise ValueError(f"{text!r} is no port: write numbers from 1 to 65535 and ranges, e.g. 80,8000-8080")
    if int(ports[0]) > int(ports[1]):
        raise ValueError(f"{text!r} is a range that ends before it begins")
    return PortRange(int(ports[0]), int(ports[1]))


def parse_cidrs(text: str) -> tuple[Network, ...]:
    """
    Parse "10.0.0.0/8,fd00::/8"; "*" and "" are every address, which is no network at all.

    Raises: ValueError with a sentence
    """
    if text.strip() in ("", "*"):
        return ()
    return tuple(dict.fromkeys(_parse_cidr(item.strip()) for item in text.split(",")))


def _parse_cidr(text: str) -> Network:
    try:
        return parse_network(text)
    except AddressFault as fault:
        raise ValueError(f"{text!r} cannot be taken: {fault}") from None
