"""The client of relaying, against a real sidecar in both modes, and against servers that misbehave."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.core.reasons import Reason
from proxy.lab.generator import LoadFault
from proxy.lab.latencies import Latencies
from proxy.lab.sides import Side, Stranger, direct, offer, sidecar
from proxy.lab.streams import StreamClient, StreamReport
from proxy.lab.testbed import Testbed, split_cores

KEY = "ecdsa-p256"
DEADLINE_S = 20.0


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    with Testbed(tmp_path_factory.mktemp("bed"), split_cores()) as bed:
        yield bed


@pytest.fixture(scope="module")
def client() -> Iterator[StreamClient]:
    with StreamClient() as client:
        yield client


@pytest.fixture(scope="module", params=["direct", "DISABLE", "STRICT"])
def side(bed: Testbed, request: pytest.FixtureRequest) -> Side:
    return direct(bed) if request.param == "direct" else sidecar(bed, KEY, "openssl", mode=request.param)


def aim(client: StreamClient, side: Side, version: str = "1.3") -> None:
    client.aim(side.address, side.credentials, offer(version, KEY))


def held(report: StreamReport) -> int:
    return Latencies.decode(report.latency).count


def test_connections_are_opened_asked_and_closed(client: StreamClient, side: Side) -> None:
    aim(client, side)
    opened = client.open(20, 8)
    assert (opened.count, held(opened)) == (20, 20)
    asked = client.requests(0.1)
    assert asked.count == held(asked) >= 20
    assert 0.1 <= asked.seconds < DEADLINE_S
    assert asked.cpu_s > 0
    client.close_streams()
    with pytest.raises(LoadFault, match="no connection is open"):
        client.requests(0.1)


def test_a_transfer_moves_every_byte_in_both_directions(client: StreamClient, side: Side) -> None:
    aim(client, side)
    client.open(1)
    assert client.transfer(3_000_001, upload=True).seconds > 0
    assert client.transfer(3_000_001, upload=False).seconds > 0
    client.close_streams()


def test_connections_live_from_their_first_byte_to_their_end(client: StreamClient, side: Side) -> None:
    aim(client, side)
    done = client.exchange(30, 8)
    assert (done.count, held(done), done.resumed) == (30, 30, 0)
    with pytest.raises(LoadFault, match="no connection is open"):
        client.requests(0.1)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_sessions_are_resumed_where_that_is_asked(bed: Testbed, client: StreamClient, version: str) -> None:
    aim(client, sidecar(bed, KEY, "openssl"), version)
    assert client.exchange(4, 1, resume=True).resumed == 3  # the first had none to offer
    assert client.exchange(8, 4, resume=True).resumed == 8
    assert client.exchange(4, 1, resume=False).resumed == 0


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_what_was_negotiated_is_reported(bed: Testbed, client: StreamClient, version: str) -> None:
    aim(client, sidecar(bed, KEY, "openssl"), version)
    found = client.open(1).negotiated
    assert found is not None
    assert (found.version, found.group) == (version, "X25519")
    assert "AES_128_GCM" in (found.cipher or "")
    client.close_streams()


@contextlib.contextmanager
def server(serve: Callable[[socket.socket], None]) -> Iterator[tuple[str, int]]:
    """One connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.settimeout(DEADLINE_S)
                serve(sock)

        thread = threading.Thread(target=accept)
        thread.start()
        yield listener.getsockname()
        thread.join(DEADLINE_S)


def first_byte(sock: socket.socket) -> None:
    assert sock.recv(1) == b"P"
    sock.sendall(b"P")


def test_a_server_that_ends_before_the_first_byte_is_refused(client: StreamClient) -> None:
    with server(lambda sock: None) as address:
        client.aim(address, None, offer("1.3", KEY))
        with pytest.raises(LoadFault) as caught:
            client.open(1)
    assert caught.value.reason in (Reason.UPSTREAM_REJECTED_US, Reason.RESET)


def test_an_answer_that_differs_from_its_request_is_a_fault(client: StreamClient) -> None:
    def serve(sock: socket.socket) -> None:
        first_byte(sock)
        asked = b""
        while len(asked) < 1024:
            asked += sock.recv(4096)
        sock.sendall(asked[:-1] + bytes([asked[-1] ^ 1]))

    with server(serve) as address:
        client.aim(address, None, offer("1.3", KEY))
        client.open(1)
        with pytest.raises(LoadFault, match="an answer differs from its request"):
            client.requests(5.0)


def test_a_download_that_ends_early_is_a_fault_with_the_missing_bytes(client: StreamClient) -> None:
    def serve(sock: socket.socket) -> None:
        first_byte(sock)
        assert sock.recv(9)[:1] == b"G"
        sock.sendall(bytes(400))

    with server(serve) as address:
        client.aim(address, None, offer("1.3", KEY))
        client.open(1)
        with pytest.raises(LoadFault, match="the connection ended 600 bytes early"):
            client.transfer(1000, upload=False)


def test_nobody_listening_is_a_fault_with_advice(client: StreamClient) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        client.aim(nobody.getsockname(), None, offer("1.3", KEY))
        with pytest.raises(LoadFault, match="nothing accepts connections at this address") as caught:
            client.open(1)
    assert caught.value.reason is Reason.UPSTREAM_REFUSED


def test_a_client_that_is_refused_opens_nothing(bed: Testbed, client: StreamClient, tmp_path: Path) -> None:
    side = sidecar(bed, KEY, "openssl")
    assert side.credentials is not None
    client.aim(side.address, Stranger(tmp_path / "stranger", KEY).instead_of(side.credentials), offer("1.3", KEY))
    with pytest.raises(LoadFault) as caught:
        client.open(3, 3)
    assert caught.value.reason is Reason.UPSTREAM_REJECTED_US


def test_a_client_that_was_not_aimed_says_so() -> None:
    with StreamClient() as fresh, pytest.raises(LoadFault, match="not aimed"):
        fresh.open(1)
