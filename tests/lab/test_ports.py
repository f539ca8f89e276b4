"""A port for a program that has to be told one."""

import os
import socket

import pytest

from proxy.lab.ports import PORTS, free_port, is_free

HOST = "127.0.0.1"


def test_a_port_that_somebody_has_is_not_free() -> None:
    with socket.create_server((HOST, 0)) as server:
        assert not is_free(*server.getsockname())
    assert is_free(HOST, free_port(HOST))


def test_an_address_of_another_machine_is_an_error() -> None:
    with pytest.raises(OSError, match=os.strerror(99)):
        is_free("192.0.2.1", 443)


def test_a_chosen_port_is_none_that_the_kernel_gives_to_clients() -> None:
    assert all(free_port(HOST) in PORTS for _ in range(20))
    assert PORTS[-1] < 32768  # where the ephemeral range of Linux begins; that of RFC 6335 8.1.2 begins later
