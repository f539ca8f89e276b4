"""
A last word and a reset right behind it: both arrive before the sidecar looks, and it must see both.

Real programs do this: a server that leaves while its client is still saying goodbye (PostgreSQL with TLS), a process
that is killed. An event loop may tell of an error only once, together with the bytes before it.
"""

import socket
import struct
from collections.abc import Callable

import pytest

from tests.e2e.apps import App, Serve, exchange
from tests.e2e.pki import Pki
from tests.e2e.sidecar import Sidecar, inbound, outbound

LAST_WORD = b"goodbye"
TIMES = 20  # it is a race between two arrivals and one wake-up


def leave_with_a_reset(sock: socket.socket) -> None:
    """Answer the first bytes, and reset without a pause."""
    sock.recv(65536)
    sock.sendall(LAST_WORD)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@pytest.mark.parametrize("mode", ["PERMISSIVE", "DISABLE"])
def test_an_app_that_resets_after_its_last_word_leaves_no_client_waiting(
    start_sidecar: Callable[..., Sidecar], start_app: Callable[[Serve], App], pki: Pki, mode: str
) -> None:
    app = start_app(leave_with_a_reset)
    sidecar = start_sidecar(pki.identity("app"), inbound=[inbound("in", app.address, mode=mode)])
    for _ in range(TIMES):
        exchange(sidecar.at("in"), b"hello", expect=1000)
    assert {line["reason"] for line in sidecar.closed(TIMES)} == {"RESET"}


def test_a_reset_after_the_last_word_crosses_two_sidecars(
    start_sidecar: Callable[..., Sidecar], start_app: Callable[[Serve], App], pki: Pki
) -> None:
    app = start_app(leave_with_a_reset)
    theirs = start_sidecar(pki.identity("app"), inbound=[inbound("in", app.address)])
    ours = start_sidecar(pki.identity("cart"), outbound=[outbound("out", theirs.at("in"))])
    for _ in range(TIMES):
        exchange(ours.at("out"), b"hello", expect=1000)
    assert {line["reason"] for line in theirs.closed(TIMES)} == {"RESET"}
    assert "COMPLETED" not in {line["reason"] for line in ours.closed(TIMES)}
