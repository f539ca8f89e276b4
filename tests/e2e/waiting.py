"""
Waiting for facts, never for time: every wait here has a deadline and says what did not come.

HOST is this process's own loopback address (Linux answers on all of 127.0.0.0/8). A port that was free on it stays
free until the test uses it, whatever other test processes do: nobody else binds there, and outgoing connections start
at 127.0.0.1.
"""

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Address = tuple[str, int]
Fact = TypeVar("Fact")

PATIENCE_S = 40.0  # far beyond what anything here takes; a loaded machine may be slow, a hang must still end
_POLL_S = 0.01
_LISTEN_STATE = "0A"  # TCP_LISTEN, as /proc/net/tcp has it

_pid = os.getpid()
HOST = f"127.{64 + (_pid >> 16) % 128}.{(_pid >> 8) % 256}.{_pid % 256}"
_given: set[int] = set()


def free_address() -> Address:
    """An address that nobody listens on, a new one at each call."""
    while True:
        with socket.socket() as sock:
            sock.bind((HOST, 0))
            port = sock.getsockname()[1]
        if port not in _given:
            _given.add(port)
            return HOST, port


def text_of(address: Address) -> str:
    """HOST:PORT."""
    return f"{address[0]}:{address[1]}"


def until(fact: Callable[[], Fact], what: str, *, within_s: float = PATIENCE_S) -> Fact:
    """Ask until the answer is true, and return it. Raises: AssertionError naming `what` when time is over."""
    deadline = time.monotonic() + within_s
    while not (answer := fact()):
        assert time.monotonic() < deadline, f"{what}: not within {within_s:g} s"
        time.sleep(_POLL_S)
    return answer


def is_listening(address: Address) -> bool:
    """Whether somebody listens there; asked of the kernel, since a connection to find out would be one to explain."""
    wanted = f"{int.from_bytes(socket.inet_aton(address[0]), 'little'):08X}:{address[1]:04X}"
    rows = (row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return any(row[1] == wanted and row[3] == _LISTEN_STATE for row in rows)
