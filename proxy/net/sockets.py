"""
Listening sockets: opened from an address, or inherited by socket activation.

A worker opens all of them before any starts to accept, so that a port in use refuses a configuration as a whole. Unix
sockets on the data path get mode 0660: the sidecar and the app usually run as two users with one group (fsGroup).
"""

import errno
import fcntl
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from proxy.core.addresses import want_same_socket
from proxy.core.config import ListenAddress, SystemdAddress, TcpAddress, UnixAddress
from proxy.net import unixsocket
from proxy.net.dialer import format_address

BACKLOG = 4096  # connections that wait while `limits.handshakes` is reached; the kernel caps it at net.core.somaxconn
UNIX_MODE = 0o660
EVERY_IPV4 = "0.0.0.0"  # noqa: S104  what [::] is on a kernel without IPv6
FIRST_INHERITED = 3  # SD_LISTEN_FDS_START, sd_listen_fds(3)


class ListenFault(Exception):  # noqa: N818  # the operator's, as ConfigFault is
    """An address cannot be listened on; the message is one sentence that says what to do."""


@dataclass(frozen=True, slots=True)
class ListeningSocket:
    """A non-blocking socket that listens (or will). address: as configured; bound: where it really is, "HOST:PORT"."""

    address: ListenAddress
    sock: socket.socket
    file: unixsocket.Listening | None = None

    @property
    def bound(self) -> str:
        """The address with the port that the kernel chose for port 0."""
        return format_address(self.sock.getsockname())

    def listen(self) -> None:
        """Let clients come, where the socket was only bound; again is harmless. Raises: ListenFault."""
        try:
            self.sock.listen(BACKLOG)
        except OSError as error:
            raise ListenFault(_explain(self.address, error)) from None

    def close(self) -> None:
        """Stop listening, and remove the file of a unix socket of our own."""
        self.sock.close()
        if self.file is not None:
            self.file.unlink()


def open_socket(
    address: ListenAddress, inherited: Mapping[str, socket.socket], *, backlog: int | None = BACKLOG
) -> ListeningSocket:
    """
    Listen on an address.

    inherited: sockets of `inherited_sockets`, for systemd:NAME
    backlog:   None: only take the address; clients are refused until somebody calls `listen`
    Raises:    ListenFault
    """
    try:
        match address:
            case SystemdAddress():
                return ListeningSocket(address, _inherited(address, inherited))
            case UnixAddress():
                file = unixsocket.listen(address.path, mode=UNIX_MODE, backlog=backlog)
                return ListeningSocket(address, file.socket, file)
            case TcpAddress():
                return ListeningSocket(address, _bind_tcp(address, backlog))
    except OSError as error:
        raise ListenFault(_explain(address, error)) from None


def open_beside(
    address: ListenAddress, ours: Iterable[ListenAddress], open_one: Callable[[ListenAddress], ListeningSocket]
) -> ListeningSocket:
    """
    Listen on a further address.

    ours:   what this process listens on already, which may be what is in the way: 0.0.0.0:PORT beside 127.0.0.1:PORT
    Raises: ListenFault
    """
    try:
        return open_one(address)
    except ListenFault:
        own = next((one for one in ours if want_same_socket(one, address)), None)
        if own is None:
            raise
        raise ListenFault(
            f"cannot listen on {address} while this sidecar itself listens on {own}, which has the same port: "
            f"restart it, or move the listener to another port and then back"
        ) from None


def _bind_tcp(address: TcpAddress, backlog: int | None) -> socket.socket:
    infos = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, sockaddr = infos[0]
    try:
        sock = socket.socket(family, kind, protocol)
    except OSError as error:
        if address.host != "::" or error.errno != errno.EAFNOSUPPORT:
            raise
        # A kernel without IPv6: every interface is then every IPv4 interface, and one configuration serves all nodes.
        family, sockaddr = socket.AF_INET, (EVERY_IPV4, address.port)
        sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # [::]:PORT takes IPv4 as well, as operators expect; a particular address is only itself.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if address.host == "::" else 1)
        sock.bind(sockaddr)
        if backlog is not None:
            sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def _inherited(address: SystemdAddress, inherited: Mapping[str, socket.socket]) -> socket.socket:
    sock = inherited.get(address.name)
    if sock is None:
        known = ", ".join(sorted(inherited)) or "none"
        raise ListenFault(
            f"no socket named {address.name!r} was inherited (there is: {known}): "
            f"set FileDescriptorName={address.name} in the .socket unit"
        )
    return sock.dup()


def inherited_sockets(environment: Mapping[str, str], pid: int) -> dict[str, socket.socket]:
    """
    The listening sockets that a service manager passed to this very process; empty without socket activation.

    environment: LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES. Source: sd_listen_fds_with_names(3)
    Raises:      ListenFault when a passed descriptor is not a listening stream socket, or two have one name
    """
    count = environment.get("LISTEN_FDS", "")
    if environment.get("LISTEN_PID") != str(pid) or not count.isdecimal():
        return {}
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    found: dict[str, socket.socket] = {}
    for position in range(int(count)):
        descriptor = FIRST_INHERITED + position
        name = names[position] if position < len(names) and names[position] else "unknown"
        if name in found:
            raise ListenFault(f"two inherited sockets are named {name!r}: give each .socket unit a FileDescriptorName=")
        try:
            sock = socket.socket(fileno=descriptor)
            listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError as error:
            raise ListenFault(f"inherited descriptor {descriptor} ({name}) is no socket: {error.strerror}") from None
        if not listening or sock.type != socket.SOCK_STREAM:
            raise ListenFault(f"inherited descriptor {descriptor} ({name}) is no listening stream socket")
        fcntl.fcntl(descriptor, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
        sock.setblocking(False)
        found[name] = sock
    return found


def _explain(address: ListenAddress, error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return f"cannot listen on {address}: the host name has no address ({error.strerror})"
    match error.errno:
        case errno.EADDRINUSE:
            ss = "ss -lxp" if isinstance(address, UnixAddress) else "ss -ltnp"
            return f"cannot listen on {address}: another process has it ({ss} shows which); stop it or take another"
        case errno.EACCES | errno.EPERM:
            return (
                f"cannot listen on {address}: not permitted for uid {os.getuid()}. Ports below 1024 need "
                f"CAP_NET_BIND_SERVICE; a unix path needs a folder that this user may write to"
            )
        case errno.EADDRNOTAVAIL:
            return f"cannot listen on {address}: this host has no such address (ip addr shows them)"
        case errno.EEXIST:
            return f"cannot listen on {address}: a file that is no socket is in the way; move it or choose another path"
        case errno.ENOENT | errno.ENOTDIR:
            return f"cannot listen on {address}: its folder does not exist"
        case _:
            return f"cannot listen on {address}: {error.strerror or error}"
