"""
The network part of `probe`: from a name to connected sockets, and one conversation on a socket, each with a deadline.

Sockets block here, with what is left of the deadline as their time-out: `probe` does one thing after the other, so a
loop would only hide the order. All addresses of a name are dialled at once, because each deserves its line.
"""

import errno
import os
import queue
import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from enum import Enum
from typing import NamedTuple

from proxy.core.config import TcpAddress, UnixAddress, UpstreamAddress
from proxy.core.reasons import Reason, Rejected
from proxy.net.dialer import format_address
from proxy.tls.probing import Attempt

_READ_BYTES = 65536
_MAX_ADDRESSES = 16

_WHY = {
    errno.ECONNREFUSED: "refused: nothing listens on this port there",
    errno.EHOSTUNREACH: "no route to this host",
    errno.ENETUNREACH: "no route to this network",
    errno.EACCES: "permission denied: a local rule, or the mode of the socket",
    errno.EPERM: "a local firewall rule forbids it",
    errno.ENOENT: "there is no such socket",
    errno.EAGAIN: "the backlog of the socket is full",
    errno.ETIMEDOUT: "timed out: packets are dropped (a firewall, a NetworkPolicy) or the host is down",
}


class Target(NamedTuple):
    """One address to connect to. text: "HOST:PORT" or "unix:/path"."""

    family: int
    address: tuple[object, ...] | str
    text: str


class Dialed(NamedTuple):
    """What came of one target: a socket, or why there is none."""

    target: Target
    sock: socket.socket | None
    seconds: float
    refusal: Rejected | None


class Ending(Enum):
    """Why a conversation is over."""

    ENOUGH = "enough"  # what was waited for is there, or the attempt is over
    CLOSED = "closed"
    RESET = "reset"
    SILENT = "silent"


def look_up(upstream: UpstreamAddress, timeout_s: float) -> list[Target]:
    """
    The addresses behind a name; of a literal or a unix path the one that it is.

    Raises: Rejected(UPSTREAM_UNRESOLVED | UPSTREAM_TIMEOUT)
    """
    if isinstance(upstream, UnixAddress):
        return [Target(socket.AF_UNIX, upstream.path, str(upstream))]
    answers: queue.SimpleQueue[list[Target] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(_resolve(upstream))
        except OSError as error:
            answers.put(error)

    # The resolver cannot be interrupted: it is left behind, and the exit of the process does not wait for it.
    threading.Thread(target=ask, daemon=True).start()
    try:
        found = answers.get(timeout=timeout_s)
    except queue.Empty:
        raise Rejected(
            Reason.UPSTREAM_TIMEOUT, f"the look-up of {upstream.host} was not answered within {timeout_s:g} s"
        ) from None
    if isinstance(found, OSError):
        raise Rejected(Reason.UPSTREAM_UNRESOLVED, f"{upstream.host}: {found.strerror or found}")
    return found[:_MAX_ADDRESSES]


def _resolve(upstream: TcpAddress) -> list[Target]:
    infos = socket.getaddrinfo(upstream.host, upstream.port, type=socket.SOCK_STREAM)
    targets = [Target(family, address, format_address(address)) for family, _, _, _, address in infos]
    return list(dict.fromkeys(targets))


def dial_all(targets: Sequence[Target], timeout_s: float) -> list[Dialed]:
    """Connect to all targets at once. Returns: one result each, in order; whoever called closes the sockets."""
    began = time.monotonic()
    results: dict[int, Dialed] = {}
    with selectors.DefaultSelector() as selector:
        for number, target in enumerate(targets):
            outcome = _begin(target, began)
            if isinstance(outcome, Dialed):
                results[number] = outcome
            else:
                selector.register(outcome, selectors.EVENT_WRITE, number)
        while selector.get_map() and (left_s := began + timeout_s - time.monotonic()) > 0:
            for key, _ in selector.select(left_s):
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                selector.unregister(sock)
                results[key.data] = _ended(targets[key.data], sock, began)
        for key in list(selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
            words = (
                f"no answer within {timeout_s:g} s: packets are dropped (a firewall, a NetworkPolicy), or it is down"
            )
            refusal = Rejected(Reason.UPSTREAM_TIMEOUT, words)
            results[key.data] = Dialed(targets[key.data], None, time.monotonic() - began, refusal)
    return [results[number] for number in range(len(targets))]


def dial(target: Target, timeout_s: float) -> socket.socket:
    """Connect to one target. Raises: Rejected(UPSTREAM_REFUSED | UPSTREAM_TIMEOUT)"""
    (dialed,) = dial_all([target], timeout_s)
    if dialed.sock is None:
        raise dialed.refusal or Rejected(Reason.UPSTREAM_REFUSED, "no connection")
    return dialed.sock


def _begin(target: Target, began: float) -> "Dialed | socket.socket":
    try:
        sock = socket.socket(target.family, socket.SOCK_STREAM)
    except OSError as error:  # a machine without IPv6
        return _failed(target, error.errno or errno.EAFNOSUPPORT, began)
    sock.setblocking(False)
    code = sock.connect_ex(target.address)
    if code == errno.EINPROGRESS:
        return sock
    if code == 0:
        return Dialed(target, sock, time.monotonic() - began, None)
    sock.close()
    return _failed(target, code, began)


def _ended(target: Target, sock: socket.socket, began: float) -> Dialed:
    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code == 0:
        return Dialed(target, sock, time.monotonic() - began, None)
    sock.close()
    return _failed(target, code, began)


def _failed(target: Target, code: int, began: float) -> Dialed:
    reason = Reason.UPSTREAM_TIMEOUT if code == errno.ETIMEDOUT else Reason.UPSTREAM_REFUSED
    words = _WHY.get(code, os.strerror(code).lower())
    return Dialed(target, None, time.monotonic() - began, Rejected(reason, words))


def converse(
    sock: socket.socket, attempt: Attempt, enough: Callable[[], bool], seconds: float, *, first: bytes | None = None
) -> Ending:
    """
    Carry bytes between a socket and an attempt until there is `enough`, or the attempt is over, or `seconds` are.

    first: what to send to begin with; None: whatever the attempt has to say
    """
    deadline, was_cut = time.monotonic() + seconds, False
    to_send = attempt.advance() if first is None else first
    try:
        while True:
            was_cut |= _send(sock, to_send, deadline)
            if enough() or attempt.over:
                return Ending.ENOUGH
            sock.settimeout(_left(deadline))
            data = sock.recv(_READ_BYTES)
            if not data:
                return Ending.RESET if was_cut else Ending.CLOSED
            to_send = attempt.advance(data)
    except TimeoutError:
        return Ending.SILENT
    except OSError:
        return Ending.RESET


def _send(sock: socket.socket, data: bytes, deadline: float) -> bool:
    """Returns: whether the connection was found reset; what the peer said before that is still to be read."""
    if data:
        sock.settimeout(_left(deadline))
        try:
            sock.sendall(data)
        except BrokenPipeError:
            pass  # it has closed, and reads no more
        except ConnectionResetError:
            return True  # the kernel tells it once, and then a read looks as if the peer had closed
    return False


def _left(deadline: float) -> float:
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s
