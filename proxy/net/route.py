"""
Which service judges a connection that was just accepted, and where it leads.

For a listener of its own both stand in the configuration. For an intercepted connection both follow from its original
destination, and that is where the proxy could be made to go round in circles or to relay for strangers. So it refuses,
before a byte is read:

- who was not redirected but came straight to the port, which nobody has a reason to;
- inbound, a destination that is no address of this Pod: the sidecar stands in front of its own app, and must not carry
  a neighbour's packets past the policy of theirs;
- outbound, a connection of the sidecar itself. The rules know it by its uid, and where it runs as another one they send
  its connections back to it; each would open the next.

Inbound goes on to the address that the client meant and not to 127.0.0.1: an app that listens on the Pod's address
alone is reached, and one that listens on 127.0.0.1 alone stays as unreachable from outside as it was without a sidecar
(Istio has done the same since 1.10). The kernel takes both over `lo`, which the rules leave alone.
"""

import socket
from typing import NamedTuple

from proxy.core.config import InboundConfig, OutboundConfig, TcpAddress, UpstreamAddress
from proxy.core.events import Direction, Listener
from proxy.core.reasons import Reason, Rejected
from proxy.net.originaldst import original_destination
from proxy.tls.interception import Interception
from proxy.tls.store import Generation, Service

_MAPPED = "::ffff:"
End = tuple[str, int]  # host and port of one end of a connection


class Routed(NamedTuple):
    """meant: the original destination of an intercepted connection; None for any other."""

    service: Service
    target: UpstreamAddress
    meant: TcpAddress | None


class Router:
    """
    What a worker has to remember to route.

    own_ends: our ends of connections to upstreams, where outbound is intercepted
    """

    __slots__ = ("_local_hosts", "own_ends")

    def __init__(self) -> None:
        self.own_ends: set[End] = set()
        self._local_hosts: set[str] = set()

    def direct(self, generation: Generation, listener: Listener) -> Routed | None:
        """Where a listener of its own leads; None for one of an interception, which leads where the client meant."""
        service = generation.services.get(listener)
        if service is None:
            return None
        assert isinstance(service.config, InboundConfig | OutboundConfig), "a listener has one upstream"
        return Routed(service, service.config.upstream, None)

    def meant(self, sock: socket.SocketType) -> TcpAddress:
        """
        The original destination of a connection that an interception accepted.

        Raises: Rejected(NOT_ALLOWED | CLIENT_LEFT)
        """
        try:
            meant = original_destination(sock)
        except OSError as error:
            raise Rejected(Reason.CLIENT_LEFT, f"the client left before it was looked at ({error.strerror})") from None
        if meant is None:
            raise Rejected(
                Reason.NOT_ALLOWED,
                "this connection was not redirected but came straight to the interception's own port: connect to the "
                "port of the app or of the upstream, and `mtls-sidecar intercept apply` if the rules are missing",
            )
        return meant

    def route(self, generation: Generation, listener: Listener, meant: TcpAddress, address: object) -> Routed:
        """
        Find the service of a connection that was intercepted.

        meant:   its original destination
        address: of the client, as `accept` returned it
        Raises:  Rejected(NOT_ALLOWED | OVERLOADED)
        """
        self._check(listener.direction, meant, address)
        return Routed(generation.interceptions[listener.direction].service_for(meant), meant, meant)

    def _check(self, direction: Direction, meant: TcpAddress, address: object) -> None:
        if direction is Direction.INBOUND:
            if not self._is_local(meant.host):
                raise Rejected(
                    Reason.NOT_ALLOWED,
                    f"{meant} is no address of this host, and the sidecar stands in front of its own app",
                )
        elif self.own_ends and isinstance(address, tuple) and end_of(address) in self.own_ends:
            raise Rejected(
                Reason.NOT_ALLOWED,
                f"the rules redirected the sidecar's own connection to {meant} back to it: run it as the uid that they "
                "exempt (1337, or intercept apply --proxy-uid)",
            )

    def _is_local(self, host: str) -> bool:
        """
        Whether packets to this address stay here: the kernel then takes the address itself for their source.

        Remembered while it is so, which costs a set of a Pod's few addresses. Raises: Rejected(OVERLOADED)
        """
        if host in self._local_hosts:
            return True
        try:
            probe = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        except OSError as error:  # strangers can use up our descriptors: it is no bug of ours
            why = f"no socket to look up {host} with: {(error.strerror or str(error)).lower()}"
            raise Rejected(Reason.OVERLOADED, why) from None
        with probe:
            try:
                probe.connect((host, 9))  # the discard port; a datagram socket sends nothing by being connected
                is_local = bool(probe.getsockname()[0] == host)
            except OSError:
                return False
        if is_local:
            self._local_hosts.add(host)
        return is_local


def end_of(address: tuple[object, ...]) -> End:
    """A socket's address as host and port, the same whether an IPv6 socket reports it or an IPv4 one."""
    return str(address[0]).removeprefix(_MAPPED), int(str(address[1]))


def route_again(generation: Generation, listener: Listener, meant: TcpAddress | None) -> Service | None:
    """
    The service that a live connection has in a later generation; None when it has none any more.

    Raises: Rejected(NOT_ALLOWED) with why not
    """
    if meant is None:
        return generation.services.get(listener)
    interception: Interception | None = generation.interceptions.get(listener.direction)
    return interception.service_for(meant) if interception is not None else None
