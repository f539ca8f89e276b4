"""
Where a redirected connection was going before the kernel sent it here.

The nat table's REDIRECT rewrites the destination of a connection and remembers the old one; SO_ORIGINAL_DST tells it, a
sockaddr_in or a sockaddr_in6. IPv4 and IPv6 have an option each, of the same number at two levels, and an IPv6 socket
that took an IPv4 connection (::ffff:a.b.c.d) is asked at the level of IPv4.

A connection that was not redirected has none, or its own address for one: that is the sign by which a client that came
straight to the port is told from one that the rules sent.
"""

import errno
import socket
import struct
from ipaddress import IPv4Address, IPv6Address

from proxy.core.config import TcpAddress

SO_ORIGINAL_DST = 80  # linux/netfilter_ipv4.h, and IP6T_SO_ORIGINAL_DST in linux/netfilter_ipv6/ip6_tables.h
SOCKADDR_IN_BYTES = 16
SOCKADDR_IN6_BYTES = 28

_NEVER_REDIRECTED = (errno.ENOENT, errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.EINVAL)
_MAPPED = "::ffff:"


def original_destination(sock: socket.SocketType) -> TcpAddress | None:
    """
    The address that the client of an accepted connection meant.

    Returns: None when the connection was not redirected
    Raises:  OSError when the connection is gone already
    """
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    host, port = sock.getsockname()[:2]
    is_v6 = sock.family == socket.AF_INET6 and not host.startswith(_MAPPED)
    try:
        if is_v6:
            raw = sock.getsockopt(socket.IPPROTO_IPV6, SO_ORIGINAL_DST, SOCKADDR_IN6_BYTES)
        else:
            raw = sock.getsockopt(socket.IPPROTO_IP, SO_ORIGINAL_DST, SOCKADDR_IN_BYTES)
    except OSError as error:
        if error.errno in _NEVER_REDIRECTED:
            return None
        raise
    meant = parse_sockaddr(raw)
    return meant if meant != TcpAddress(host.removeprefix(_MAPPED).partition("%")[0], port) else None


def parse_sockaddr(raw: bytes) -> TcpAddress | None:
    """Read a sockaddr_in or sockaddr_in6, in the byte orders of Linux; None when it is neither."""
    if len(raw) < SOCKADDR_IN_BYTES:
        return None
    (family,) = struct.unpack_from("=H", raw)
    (port,) = struct.unpack_from("!H", raw, 2)
    if family == socket.AF_INET:
        return TcpAddress(str(IPv4Address(raw[4:8])), port)
    if family == socket.AF_INET6 and len(raw) >= SOCKADDR_IN6_BYTES:
        return TcpAddress(str(IPv6Address(raw[8:24])), port)
    return None
