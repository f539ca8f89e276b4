"""
From a Permit to a connected socket: no permit, no dial.

A name is looked up at every dial (net/resolver.py; Kubernetes changes addresses under a name), and every address is
tried in happy-eyeballs order (RFC 8305, by aiohappyeyeballs) until one answers or the deadline is over. An IP literal
and a unix path skip all that: for the app beside us, the ordinary case, a dial is one system call, since the loopback
handshake is over when `connect` returns.
"""

import asyncio
import errno
import os
import socket
from functools import lru_cache
from typing import NamedTuple

import aiohappyeyeballs

from proxy.core.config import TcpAddress, UnixAddress, UpstreamAddress
from proxy.core.policy import Permit
from proxy.core.reasons import Reason, Rejected
from proxy.net.readiness import Readiness, deadline_in
from proxy.net.resolver import AddressInfo, Resolver

HAPPY_EYEBALLS_DELAY_S = 0.25  # RFC 8305 5: how long an address may keep the next one waiting

_BEGINS_NONBLOCKING = hasattr(socket, "SOCK_NONBLOCK")  # a system call less, where the kernel knows the flag
_STREAM = socket.SOCK_STREAM | (socket.SOCK_NONBLOCK if _BEGINS_NONBLOCKING else 0)
_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


class Dialed(NamedTuple):
    """A connected, non-blocking socket and the address that answered, "HOST:PORT" or "unix:/path"."""

    sock: socket.SocketType
    address: str


async def dial(
    readiness: Readiness, resolver: Resolver, permit: Permit, target: UpstreamAddress, connect_s: float
) -> Dialed:
    """
    Connect to the upstream of the permit's listener.

    connect_s: for the look-up and all addresses together; 0 waits without end
    Raises:    Rejected(UPSTREAM_REFUSED | UPSTREAM_TIMEOUT | UPSTREAM_UNRESOLVED | OVERLOADED)
    """
    if not isinstance(permit, Permit):
        raise TypeError("dial takes a Permit")
    try:
        if (direct := _direct(target)) is None:
            return await _connect_by_name(readiness.loop, resolver, target, connect_s)
        family, address, words = direct
        sock = socket.SocketType(family, _STREAM)  # as for what is accepted (net/listener.py)
        if not _BEGINS_NONBLOCKING:
            sock.setblocking(False)
        try:
            code = sock.connect_ex(address)
            if code and not (code == errno.EINPROGRESS and _is_connected(sock)):
                await _connected(readiness, sock, address, code, connect_s)
            if family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            sock.close()
            raise
        return Dialed(sock, words)
    except TimeoutError:
        raise Rejected(Reason.UPSTREAM_TIMEOUT, f"{target} did not answer within {connect_s:g} s") from None
    except OSError as error:
        if error.errno in _NO_DESCRIPTORS:
            raise Rejected(Reason.OVERLOADED, f"no file descriptor left to dial {target}") from None
        raise Rejected(Reason.UPSTREAM_REFUSED, f"{target}: {_words(error)}") from None


@lru_cache(256)  # asked at every dial, of the few addresses that a configuration names
def _direct(target: UpstreamAddress) -> tuple[int, tuple[str, int] | str, str] | None:
    """How to dial what needs no look-up: the family, the address as `connect` takes it, and in words."""
    if isinstance(target, UnixAddress):
        return socket.AF_UNIX, target.path, str(target)
    if target.is_literal and "%" not in target.host:  # the number of a zone is the system's to look up (RFC 4007 11)
        family = socket.AF_INET6 if ":" in target.host else socket.AF_INET
        return family, (target.host, target.port), str(target)
    return None


async def _connected(
    readiness: Readiness, sock: socket.SocketType, address: tuple[str, int] | str, code: int, connect_s: float
) -> None:
    """Wait for the end of a connect that has begun with `code`. Raises: OSError, TimeoutError."""
    deadline = deadline_in(readiness.loop, connect_s)
    # A unix socket whose backlog is full says EAGAIN and offers nothing to wait for.
    while code == errno.EAGAIN and isinstance(address, str):
        if deadline is not None and readiness.loop.time() > deadline:
            raise TimeoutError
        await asyncio.sleep(0.01)
        code = sock.connect_ex(address)
    if code == errno.EINPROGRESS:
        await readiness.writable(sock.fileno(), deadline)
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))


def _is_connected(sock: socket.SocketType) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


async def _connect_by_name(
    loop: asyncio.AbstractEventLoop, resolver: Resolver, target: UpstreamAddress, connect_s: float
) -> Dialed:
    assert isinstance(target, TcpAddress), "a path needs no look-up"
    infos: list[AddressInfo] | None = None
    try:
        async with asyncio.timeout(connect_s or None):
            infos = await resolver.addresses(target.host, target.port)
            if not infos:
                raise Rejected(Reason.UPSTREAM_UNRESOLVED, f"{target.host} has no address")
            sock = await aiohappyeyeballs.start_connection(
                infos, happy_eyeballs_delay=HAPPY_EYEBALLS_DELAY_S, interleave=1, loop=loop
            )
    except socket.gaierror as error:
        raise Rejected(Reason.UPSTREAM_UNRESOLVED, f"{target.host}: {error.strerror}") from None
    except TimeoutError:
        if infos is not None:
            raise
        silent = f"{target.host}: its look-up was not over within {connect_s:g} s (is the name server reachable?)"
        raise Rejected(Reason.UPSTREAM_UNRESOLVED, silent) from None
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Dialed(sock, format_address(sock.getpeername()))


def format_address(address: object) -> str:
    """
    A socket's address as the log has it: "HOST:PORT", "[v6]:PORT", or "unix:/path" ("unix:" when unnamed).

    An IPv4 address is shown as one, also where an IPv6 socket took the connection (::ffff:a.b.c.d, RFC 4291 2.5.5.2).
    """
    if isinstance(address, tuple):
        host, port = address[0].removeprefix("::ffff:"), address[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    name = os.fsdecode(address) if isinstance(address, (bytes, str)) else ""
    return f"unix:{name}"


def _words(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
