"""Listening: every kind of address, inherited sockets, and one sentence for each way in which it fails."""

import errno
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.core.config import SystemdAddress, TcpAddress, UnixAddress
from proxy.net.sockets import ListenFault, inherited_sockets, open_socket
from tests.net.peers import dial


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_an_address_is_listened_on(host: str) -> None:
    listening = open_socket(TcpAddress(host, 0), {})
    try:
        dial(listening.sock.getsockname()[:2]).close()
        assert not listening.sock.getblocking()
        assert listening.bound.startswith("[::1]:" if ":" in host else "127.0.0.1:")
    finally:
        listening.close()


def test_the_wildcard_of_v6_takes_v4_as_well() -> None:
    listening = open_socket(TcpAddress("::", 0), {})
    port = listening.sock.getsockname()[1]
    dial(("127.0.0.1", port)).close()
    dial(("::1", port)).close()
    listening.close()


@pytest.fixture
def without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that was started with ipv6.disable=1."""
    real = socket.socket

    def refuse(family: int = socket.AF_INET, *more: int, **keys: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        return real(family, *more, **keys)

    monkeypatch.setattr(socket, "socket", refuse)


@pytest.mark.usefixtures("without_ipv6")
def test_without_ipv6_its_wildcard_is_that_of_v4() -> None:
    listening = open_socket(TcpAddress("::", 0), {})
    assert listening.bound.startswith("0.0.0.0:")
    listening.close()


@pytest.mark.usefixtures("without_ipv6")
def test_without_ipv6_a_particular_address_of_it_cannot_be_had() -> None:
    with pytest.raises(ListenFault, match="cannot listen on"):
        open_socket(TcpAddress("::1", 0), {})


def test_a_unix_socket_is_for_its_group_and_gone_when_closed(tmp_path: Path) -> None:
    listening = open_socket(UnixAddress(str(tmp_path / "s")), {})
    dial(str(tmp_path / "s")).close()
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o660
    assert listening.bound == f"unix:{tmp_path}/s"
    listening.close()
    assert not (tmp_path / "s").exists()


def test_a_port_in_use_is_one_sentence_that_says_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = TcpAddress(*taken.getsockname())
        with pytest.raises(ListenFault, match=rf"^cannot listen on {address}: another process has it .*; stop it or"):
            open_socket(address, {})


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (TcpAddress("192.0.2.1", 0), "no such address"),
        (TcpAddress("no-such-host.invalid", 0), "has no address"),
        (UnixAddress("/nowhere/at/all/s"), "folder does not exist"),
        (
            SystemdAddress("http"),
            r"no socket named 'http' was inherited \(there is: none\): set FileDescriptorName=http",
        ),
    ],
)
def test_what_cannot_be_listened_on_is_said_in_words(address, words: str) -> None:
    with pytest.raises(ListenFault, match=words):
        open_socket(address, {})


def test_a_file_in_the_way_of_a_unix_socket_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("precious")
    with pytest.raises(ListenFault, match="in the way"):
        open_socket(UnixAddress(str(tmp_path / "s")), {})
    assert (tmp_path / "s").read_text() == "precious"


PROGRAM = """
import os, sys
from proxy.core.config import SystemdAddress
from proxy.net.sockets import ListenFault, inherited_sockets, open_socket
handed = int(sys.argv[1])
os.dup2(handed, 3)
os.environ["LISTEN_PID"] = str(os.getpid())
try:
    found = inherited_sockets(os.environ, os.getpid())
    listening = open_socket(SystemdAddress("http"), found)
    print(sorted(found), listening.bound, os.get_inheritable(3), listening.sock.getblocking())
except ListenFault as fault:
    print(fault)
sys.stdout.flush()
os._exit(0)
"""


def run_activated(sock: socket.socket, **environment: str) -> str:
    os.set_inheritable(sock.fileno(), True)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(sock.fileno())],
        env=os.environ | {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "http"} | environment,
        pass_fds=[sock.fileno()],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stderr == ""
    return done.stdout.strip()


def test_a_socket_of_the_service_manager_is_taken_over() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        assert run_activated(sock) == f"['http'] 127.0.0.1:{port} False False"


def test_an_inherited_socket_that_does_not_listen_is_refused() -> None:
    with socket.socket() as sock:
        assert run_activated(sock) == "inherited descriptor 3 (http) is no listening stream socket"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        assert "(http) is no" in run_activated(sock)


def test_an_inherited_socket_of_another_name_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        assert "(there is: admin)" in run_activated(sock, LISTEN_FDNAMES="admin")
        assert "(there is: unknown)" in run_activated(sock, LISTEN_FDNAMES="")


def test_a_descriptor_that_is_no_socket_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        assert run_activated(sock, LISTEN_FDS="40").startswith("inherited descriptor ")


@pytest.mark.parametrize(
    "environment", [{}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}, {"LISTEN_PID": "7", "LISTEN_FDS": "many"}]
)
def test_what_was_not_meant_for_this_process_is_not_taken(environment: dict[str, str]) -> None:
    assert inherited_sockets(environment, 7) == {}
