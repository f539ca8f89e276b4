"""Where a connection was going: the kernel's two structures, and what tells that there was no redirection."""

import errno
import socket
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.config import TcpAddress
from proxy.net.originaldst import original_destination, parse_sockaddr

V4 = struct.pack("=H", socket.AF_INET) + struct.pack("!H", 8080) + socket.inet_aton("10.1.2.3") + bytes(8)
V6 = (
    struct.pack("=H", socket.AF_INET6)
    + struct.pack("!H", 443)
    + bytes(4)
    + socket.inet_pton(socket.AF_INET6, "fd00::7")
    + bytes(4)
)


class Accepted:
    """A socket as far as it is asked. answer: of getsockopt, or the error that it raises"""

    def __init__(self, family: int, local: tuple[object, ...], answer: bytes | int) -> None:
        self.family = family
        self._local = local
        self._answer = answer
        self.asked: tuple[int, ...] = ()

    def getsockname(self) -> tuple[object, ...]:
        return self._local

    def getsockopt(self, *asked: int) -> bytes:
        self.asked = asked
        if isinstance(self._answer, int):
            raise OSError(self._answer, "no")
        return self._answer


def found(sock: Any) -> TcpAddress | None:
    return original_destination(sock)


def test_both_structures_are_read() -> None:
    assert parse_sockaddr(V4) == TcpAddress("10.1.2.3", 8080)
    assert parse_sockaddr(V6) == TcpAddress("fd00::7", 443)


@pytest.mark.parametrize("whole", [V4, V6])
def test_a_prefix_is_no_address(whole: bytes) -> None:
    assert {parse_sockaddr(whole[:length]) for length in range(len(whole))} == {None}


@given(st.binary(max_size=64))
def test_junk_is_no_address_or_one_of_a_known_family(junk: bytes) -> None:
    address = parse_sockaddr(junk)
    assert address is None or junk[:2] in (V4[:2], V6[:2])


def test_each_family_is_asked_at_its_own_level() -> None:
    v4 = Accepted(socket.AF_INET, ("10.1.2.3", 15006), V4)
    assert (found(v4), v4.asked) == (TcpAddress("10.1.2.3", 8080), (socket.IPPROTO_IP, 80, 16))
    v6 = Accepted(socket.AF_INET6, ("fd00::7", 15006, 0, 0), V6)
    assert (found(v6), v6.asked) == (TcpAddress("fd00::7", 443), (socket.IPPROTO_IPV6, 80, 28))
    mapped = Accepted(socket.AF_INET6, ("::ffff:10.1.2.3", 15006, 0, 0), V4)
    assert (found(mapped), mapped.asked) == (TcpAddress("10.1.2.3", 8080), (socket.IPPROTO_IP, 80, 16))


@pytest.mark.parametrize("local", [("10.1.2.3", 8080), ("::ffff:10.1.2.3", 8080, 0, 0)])
def test_its_own_address_is_no_redirection(local: tuple[object, ...]) -> None:
    family = socket.AF_INET if len(local) == 2 else socket.AF_INET6
    assert found(Accepted(family, local, V4)) is None


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ENOPROTOOPT, errno.EOPNOTSUPP])
def test_a_kernel_that_knows_of_none_says_so(code: int) -> None:
    assert found(Accepted(socket.AF_INET, ("10.1.2.3", 15006), code)) is None


def test_a_connection_that_is_gone_is_an_error() -> None:
    with pytest.raises(OSError, match="no"):
        found(Accepted(socket.AF_INET, ("10.1.2.3", 15006), errno.ENOTCONN))


def test_an_unredirected_connection_of_this_kernel_has_none() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as accepted,
    ):
        assert original_destination(accepted) is None


def test_a_unix_socket_has_none() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert original_destination(one) is None
