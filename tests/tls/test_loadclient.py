"""The laboratory's client over a pair of sockets, with a server that is driven by hand."""

import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.core.reasons import Reason, Rejected
from proxy.tls.loadclient import LoadConnection, LoadContext, Want
from proxy.tls.loadcontext import Offer
from tests.lab.tlsserver import DEADLINE_S, Ends, make_ends, server_context

BOTH = pytest.mark.parametrize("version", ["1.2", "1.3"])


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Ends:
    return make_ends(tmp_path_factory.mktemp("ends"))


class Pair:
    """A client that is stepped by the test, and the other socket."""

    def __init__(self, ends: Ends, version: str = "1.3", **offer: str) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.theirs.settimeout(DEADLINE_S)
        self.client: LoadConnection = LoadContext(ends.credentials(), Offer(version=version, **offer)).connect(
            self.ours
        )

    def __enter__(self) -> "Pair":
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.theirs.close()

    def shake(self, context: ssl.SSLContext) -> ssl.SSLSocket:
        """Both ends of a whole handshake."""
        made: list[ssl.SSLSocket] = []
        thread = threading.Thread(target=lambda: made.append(context.wrap_socket(self.theirs, server_side=True)))
        thread.start()
        self.until(lambda: self.client.handshake() is Want.NOTHING)
        thread.join(DEADLINE_S)
        return made[0]

    def until(self, is_so: Callable[[], bool]) -> None:
        """Step until it is so, or raises; the other end's thread runs meanwhile."""
        beat = threading.Event()
        for _ in range(int(DEADLINE_S / 0.002)):
            if is_so():
                return
            beat.wait(0.002)
        raise AssertionError("it never came to be")


@BOTH
def test_bytes_go_both_ways_and_an_orderly_end_is_empty(ends: Ends, version: str) -> None:
    with Pair(ends, version) as pair, pair.shake(server_context(ends)) as server:
        assert pair.client.negotiated().version == version
        assert pair.client.write(b"question") == 8
        assert server.recv(100) == b"question"
        server.sendall(b"answer")
        received: list[bytes] = []
        pair.until(lambda: bool(received.append(pair.client.read(100) or b"") or b"".join(received)))
        assert b"".join(received) == b"answer"
        assert pair.client.read(100) is None
        pair.client.finish()
        server.unwrap()
        pair.until(lambda: pair.client.read(100) == b"")
        assert pair.client.read_into(memoryview(bytearray(10))) == 0


def test_large_reads_go_into_the_callers_buffer(ends: Ends) -> None:
    with Pair(ends) as pair, pair.shake(server_context(ends)) as server:
        assert pair.client.read_into(memoryview(bytearray(10))) is None
        server.sendall(b"x" * 10_000)
        buffer = memoryview(bytearray(100_000))
        got: list[int] = []
        pair.until(lambda: sum(got) == 10_000 or bool(got.append(pair.client.read_into(buffer) or 0)))
        assert bytes(buffer[:10]) == b"x" * 10


def test_the_end_of_the_clients_handshake_is_no_ticket(ends: Ends) -> None:
    """Python's server sends its tickets with the handshake, so they are there for the first read and not before it."""
    with Pair(ends) as pair, pair.shake(server_context(ends)):
        assert pair.client.done
        assert not pair.client.ticket_has_come()
        pair.until(lambda: pair.client.read(1) is None and pair.client.ticket_has_come())
        assert pair.client.session() is not None


def test_in_tls_1_2_there_is_no_ticket_to_wait_for(ends: Ends) -> None:
    with Pair(ends, "1.2") as pair, pair.shake(server_context(ends)):
        assert pair.client.read(1) is None
        assert not pair.client.ticket_has_come()


def test_one_group_and_one_suite_are_offered_and_come_out(ends: Ends) -> None:
    with Pair(ends, group="P-384", cipher="TLS_CHACHA20_POLY1305_SHA256") as pair, pair.shake(server_context(ends)):
        settled = pair.client.negotiated()
    assert (settled.group, settled.cipher) == ("P-384", "TLS_CHACHA20_POLY1305_SHA256")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"HTTP/1.0 400 Bad Request\r\n\r\n", Reason.NOT_TLS),
        (b"\x15\x03\x03\x00\x02\x02\x28", Reason.NO_SHARED_CIPHER),  # handshake_failure
        (b"\x15\x03\x03\x00\x02\x02\x46", Reason.UNSUPPORTED_TLS_VERSION),  # protocol_version
        (b"\x15\x03\x03\x00\x02\x02\x50", Reason.HANDSHAKE_FAILED),  # internal_error
        (b"", Reason.RESET),
    ],
)
def test_what_a_server_says_instead_of_its_hello_has_a_reason(ends: Ends, said: bytes, reason: Reason) -> None:
    with Pair(ends) as pair:
        assert pair.client.handshake() is Want.READ
        pair.theirs.sendall(said)
        pair.theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(Rejected) as refused:
            pair.client.handshake()
    assert refused.value.reason is reason


def test_a_server_that_leaves_after_it_saw_our_certificate_has_rejected_us(ends: Ends) -> None:
    with Pair(ends) as pair:
        pair.shake(server_context(ends)).close()  # without close_notify
        with pytest.raises(Rejected) as refused:
            pair.until(lambda: pair.client.read(1) == b"never")
    assert refused.value.reason is Reason.UPSTREAM_REJECTED_US
    assert "without an alert" in refused.value.detail


def test_an_alert_that_came_before_a_reset_is_not_lost_to_a_write(ends: Ends, tmp_path: Path) -> None:
    """The server says why, closes, and the byte that we send meanwhile makes its kernel reset the connection."""
    stranger = tmp_path / "stranger.crt"
    stranger.write_bytes((make_ends(tmp_path / "other").server / "ca.crt").read_bytes())
    context = server_context(ends, trusted=stranger)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sock = socket.create_connection(listener.getsockname())
        sock.setblocking(False)
        client = LoadContext(ends.credentials(), Offer()).connect(sock)
        theirs, _ = listener.accept()
        theirs.settimeout(DEADLINE_S)

        def refuse() -> None:
            with pytest.raises(ssl.SSLError), theirs:
                context.wrap_socket(theirs, server_side=True, do_handshake_on_connect=True)

        thread = threading.Thread(target=refuse)
        thread.start()
        beat = threading.Event()
        while client.handshake() is not Want.NOTHING:
            beat.wait(0.002)
        thread.join(DEADLINE_S)
        theirs.close()

        def write_on() -> None:
            while client.write(b"P"):
                beat.wait(0.002)

        with pytest.raises(Rejected) as refused:
            write_on()
        client.close()
    assert refused.value.detail == "the server sent the alert unknown_ca"


def test_closing_twice_is_closing_once(ends: Ends) -> None:
    with Pair(ends) as pair:
        pair.client.close()
        pair.client.close()
