"""The network steps of `probe`: every address has its line, and every wait its end."""

import socket
import threading
from contextlib import ExitStack

import pytest

from proxy.cli import probe_network
from proxy.cli.probe_network import Ending, Target, converse, dial, dial_all, look_up
from proxy.core.config import TcpAddress, UnixAddress
from proxy.core.reasons import Reason, Rejected
from proxy.tls.probing import Offer, ProbeContext


def test_a_literal_and_a_path_are_their_own_address() -> None:
    assert [target.text for target in look_up(TcpAddress("127.0.0.1", 8080), 5)] == ["127.0.0.1:8080"]
    assert [target.text for target in look_up(TcpAddress("::1", 8080), 5)] == ["[::1]:8080"]
    assert look_up(UnixAddress("/run/x"), 5) == [Target(socket.AF_UNIX, "/run/x", "unix:/run/x")]


def test_a_resolver_that_does_not_answer_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        answered.wait(60)
        return []

    monkeypatch.setattr(probe_network.socket, "getaddrinfo", hang)
    with pytest.raises(Rejected) as refusal:
        look_up(TcpAddress("payments.shop.svc", 443), 0.05)
    answered.set()
    assert refusal.value.reason is Reason.UPSTREAM_TIMEOUT
    assert "payments.shop.svc" in refusal.value.detail


def test_a_name_without_an_address_is_unresolved(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(probe_network.socket, "getaddrinfo", fail)
    with pytest.raises(Rejected) as refusal:
        look_up(TcpAddress("payments", 443), 5)
    assert (refusal.value.reason, refusal.value.detail) == (
        Reason.UPSTREAM_UNRESOLVED,
        "payments: Name or service not known",
    )


def tcp(address: tuple[str, int]) -> Target:
    return Target(socket.AF_INET, address, f"{address[0]}:{address[1]}")


def test_each_address_is_dialled_and_has_its_own_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as closed, ExitStack() as stack:
        closed.bind(("127.0.0.1", 0))
        answers = dial_all([tcp(closed.getsockname()), tcp(listener.getsockname())], 5)
        for answer in answers:
            if answer.sock is not None:
                stack.enter_context(answer.sock)
        assert [answer.sock is not None for answer in answers] == [False, True]
        assert answers[0].refusal is not None
        assert answers[0].refusal.reason is Reason.UPSTREAM_REFUSED


def test_an_address_that_does_not_answer_ends_with_the_deadline() -> None:
    """A listener whose backlog is full drops what comes, as a firewall does."""
    with socket.socket() as listener, ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        refusal = None
        while refusal is None:  # until the backlog is full
            (answer,) = dial_all([tcp(listener.getsockname())], 0.1)
            refusal = answer.refusal
            if answer.sock is not None:
                stack.enter_context(answer.sock)
        assert refusal.reason is Reason.UPSTREAM_TIMEOUT
        assert "within 0.1 s" in refusal.detail
        with pytest.raises(Rejected):
            dial(tcp(listener.getsockname()), 0.05)


@pytest.mark.parametrize(("act", "ending"), [("close", Ending.CLOSED), ("reset", Ending.RESET), ("", Ending.SILENT)])
def test_a_conversation_ends_however_the_peer_does(act: str, ending: Ending) -> None:
    attempt = ProbeContext(Offer(version="1.3"), None).attempt()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
        with ours, theirs:
            if act == "reset":
                theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
                theirs.close()
            elif act == "close":
                theirs.shutdown(socket.SHUT_WR)
            assert converse(ours, attempt, lambda: False, 0.1) is ending


def test_a_peer_that_feeds_byte_after_byte_does_not_move_the_deadline() -> None:
    attempt = ProbeContext(Offer(version="1.3"), None).attempt()
    ours, theirs = socket.socketpair()
    ended = threading.Event()

    def drip() -> None:
        record = iter(b"\x16\x03\x03\x3f\xff" + bytes(16000))
        while not ended.wait(0.01):
            theirs.send(bytes([next(record)]))

    with ours, theirs:
        thread = threading.Thread(target=drip)
        thread.start()
        assert converse(ours, attempt, lambda: False, 0.2) is Ending.SILENT
        ended.set()
        thread.join()
