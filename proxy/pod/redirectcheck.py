"""
Whether the rules do what they say: a connection of our own through each chain, to a listener of our own behind it.

It runs where the rules were written, in the init container, so that a Pod whose traffic would go around the sidecar
fails before its app starts. What arrives at the redirect port must know by SO_ORIGINAL_DST where it was going, since
that is all that the sidecar will have.

Outbound, the probe goes to an address for documentation (RFC 5737, RFC 3849), which no rule need let out and no host
answers. Inbound, nothing inside a Pod can send what comes from outside: the probe goes to the Pod itself, and one rule,
there for as long as the probe takes, leads it through the inbound chain. So the chain and the kernel's part are proven;
that PREROUTING leads into the chain is read back and not travelled.
"""

import errno
import os
import selectors
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from proxy.core.config import TcpAddress
from proxy.core.events import Direction
from proxy.net.originaldst import original_destination
from proxy.pod.netfilter import Backend, RulesFault
from proxy.pod.redirect import Family, Network, PortRange, Redirect, plan

PROBE_S = 3.0
FIRST_PROBE_PORT = 15002
LAST_PROBE_PORT = 15999

_DOCUMENTATION: dict[Family, Network] = {
    Family.IPV4: IPv4Network("192.0.2.0/24"),
    Family.IPV6: IPv6Network("2001:db8::/32"),
}
_LOOPBACK = {Family.IPV4: "127.0.0.1", Family.IPV6: "::1"}
_NO_ROUTE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL)


@dataclass(frozen=True, slots=True)
class Finding:
    """One probe: what it showed, or (`proven` False) why there was nothing to show."""

    direction: Direction
    family: Family
    proven: bool
    detail: str


class _Skipped(Exception):  # noqa: N818  # no error: it cannot be shown here
    """Why there is no probe."""


def check(redirect: Redirect, families: Sequence[Family], backend: Backend, gone: Sequence[Family]) -> list[Finding]:
    """
    Probe rules that are in force; while it runs, the rule for the inbound probe is in force too.

    Raises: RulesFault when a connection was not redirected as it should have been
    """
    if os.geteuid() == redirect.proxy_uid or os.getegid() == redirect.proxy_gid:
        better = (
            "give the sidecar a uid and a gid that are not root's (--proxy-uid, --proxy-gid)"
            if 0 in (redirect.proxy_uid, redirect.proxy_gid)
            else "run the init container as `runAsUser: 0, runAsGroup: 0`"
        )
        raise RulesFault(
            f"uid {os.geteuid()}, gid {os.getegid()} is the sidecar's own, which the rules let through, so nothing can "
            f"be proven: {better}"
        )
    port = _inbound_probe_port(redirect)
    findings = []
    try:
        backend.apply([plan(redirect, family, probe_port=port) for family in families], gone)
        for family in families:
            for direction, to_port in (
                (Direction.INBOUND, redirect.inbound_port),
                (Direction.OUTBOUND, redirect.outbound_port),
            ):
                if to_port is not None:
                    findings.append(_probe(redirect, direction, family, to_port, port))
    finally:
        backend.apply([plan(redirect, family) for family in families], gone)
    return findings


def _probe(redirect: Redirect, direction: Direction, family: Family, to_port: int, port: int | None) -> Finding:
    try:
        if direction is Direction.OUTBOUND:
            meant = _outbound_target(redirect, family)
        elif port is None:
            raise _Skipped("every port that could be probed is excluded")
        else:
            meant = TcpAddress(_LOOPBACK[family], port)
        _travel(meant, to_port, direction, family)
    except _Skipped as skipped:
        return Finding(direction, family, proven=False, detail=str(skipped))
    return Finding(direction, family, proven=True, detail=f"{meant} came to port {to_port}")


def _travel(meant: TcpAddress, to_port: int, direction: Direction, family: Family) -> None:
    """Connect to `meant` and see it arrive. Raises: RulesFault, _Skipped."""
    kind = socket.AF_INET if family is Family.IPV4 else socket.AF_INET6
    with socket.socket(kind) as listener, socket.socket(kind) as client, selectors.DefaultSelector() as waiting:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is Family.IPV6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            listener.bind((_LOOPBACK[family], to_port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise _Skipped(f"port {to_port} is in use, so a sidecar runs already") from None
            raise _Skipped(f"cannot listen on {_LOOPBACK[family]}:{to_port}: {error.strerror}") from None
        listener.listen(8)
        listener.setblocking(False)
        client.setblocking(False)
        code = client.connect_ex((meant.host, meant.port))
        if code in _NO_ROUTE:
            raise _Skipped(f"this Pod has no {family} route to {meant.host}")
        waiting.register(listener, selectors.EVENT_READ)
        waiting.register(client, selectors.EVENT_WRITE)
        deadline = time.monotonic() + PROBE_S
        while (left_s := deadline - time.monotonic()) > 0:
            for key, _ in waiting.select(left_s):
                if key.fileobj is listener:
                    _judge(listener, meant, direction, family)
                    return
                waiting.unregister(client)  # connected or refused; what counts is whether it arrives here
                if client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    deadline = min(deadline, time.monotonic() + PROBE_S / 10)
    raise RulesFault(
        f"the rules are in force, and yet an {direction} {family} connection to {meant} did not come to port "
        f"{to_port}, so this Pod's traffic would go around the sidecar. Either other rules of this Pod come first (a "
        "CNI plugin, another mesh; `nft list ruleset` or `iptables-save` shows them), or the nat of this kernel does "
        "not work (nf_nat, nft_redir or xt_REDIRECT is missing, or it is gVisor's)"
    )


def _judge(listener: socket.socket, meant: TcpAddress, direction: Direction, family: Family) -> None:
    accepted, _ = listener.accept()
    with accepted:
        found = original_destination(accepted)
    if found != meant:
        what = f"as {found}" if found is not None else "without its original destination"
        raise RulesFault(
            f"an {direction} {family} connection to {meant} arrived {what}: SO_ORIGINAL_DST does not work here "
            "(nf_conntrack is missing, or another proxy redirects this Pod as well), and the sidecar depends on it"
        )


def _inbound_probe_port(redirect: Redirect) -> int | None:
    """A port that the rules are to catch and that nobody is likely to use; None when there is none."""
    if redirect.inbound_port is None:
        return None
    own = {*redirect.own_ports, redirect.inbound_port, redirect.outbound_port}
    ranges = redirect.include_inbound_ports or (PortRange(FIRST_PROBE_PORT, LAST_PROBE_PORT),)
    candidates = (port for one in ranges for port in range(one.first, one.last + 1))
    return next(
        (port for port in candidates if port not in own and not _in(port, redirect.exclude_inbound_ports)), None
    )


def _outbound_target(redirect: Redirect, family: Family) -> TcpAddress:
    """An address that the rules are to catch. Raises: _Skipped"""
    networks = [one for one in redirect.include_outbound_cidrs if one.version == family.version]
    if redirect.include_outbound_cidrs and not networks and not redirect.include_outbound_ports:
        raise _Skipped(f"no {family} network is included")
    use_ports = redirect.include_outbound_ports and not networks
    ranges = redirect.include_outbound_ports if use_ports else (PortRange(FIRST_PROBE_PORT, LAST_PROBE_PORT),)
    ports = (port for one in ranges for port in range(one.first, one.last + 1))
    port = next((port for port in ports if not _in(port, redirect.exclude_outbound_ports)), None)
    network: Network = networks[0] if networks else _DOCUMENTATION[family]
    excluded = [one for one in redirect.exclude_outbound_cidrs if one.version == family.version]
    hosts = (network[number] for number in range(min(network.num_addresses, 256)))
    host = next((host for host in reversed(list(hosts)) if not any(host in one for one in excluded)), None)
    if port is None or host is None:
        raise _Skipped("every address that could be probed is excluded")
    return TcpAddress(str(host), port)


def _in(port: int, ranges: Sequence[PortRange]) -> bool:
    return any(one.first <= port <= one.last for one in ranges)
