"""
The clients of the demo's refusals: what they see is what came, on a busy machine too.
"""

import socket

import pytest

from proxy.cli.demo_refusals import CLOSED, plaintext_client


def failing_with(error: OSError) -> type[socket.socket]:
    class Failing(socket.socket):
        def connect(self, address: object) -> None:
            raise error

    return Failing


def test_a_reset_that_connect_itself_tells_of_is_a_closed_connection_with_an_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket, "socket", failing_with(ConnectionResetError()))
    seen = plaintext_client(("127.0.0.1", 1))
    assert seen.words == CLOSED
    host, _, port = seen.client.rpartition(":")
    assert host == "127.0.0.1"
    assert int(port) > 0


def test_a_port_on_which_nobody_listens_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", failing_with(ConnectionRefusedError()))
    with pytest.raises(ConnectionRefusedError):
        plaintext_client(("127.0.0.1", 1))
