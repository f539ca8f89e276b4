"""The delay line as a process: how exact it is, and that a connection through it is a connection."""

import contextlib
import os
import queue
import select
import socket
import statistics
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from proxy.lab.delayline import DelayLine, DelayLines, LineReport
from proxy.lab.generator import LoadFault

Address = tuple[str, int]
DEADLINE_S = 20.0
RTT_S = 0.03
LATE_S = 0.02  # a machine that does other things wakes us late; being early is never forgiven


@contextlib.contextmanager
def target(serve: Callable[[socket.socket], None], *, count: int = 1) -> Iterator[Address]:
    """A listener that hands each of `count` connections to `serve`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(DEADLINE_S)

        def accept() -> None:
            for _ in range(count):
                sock, _ = listener.accept()
                with sock:
                    sock.settimeout(DEADLINE_S)
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    serve(sock)

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            thread.join(DEADLINE_S)


def connect(address: Address) -> socket.socket:
    sock = socket.create_connection(address, timeout=DEADLINE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def echo(sock: socket.socket) -> None:
    while data := sock.recv(65536):
        sock.sendall(data)


def everything(sock: socket.socket) -> bytes:
    received = b""
    while data := sock.recv(65536):
        received += data
    return received


def round_trips_s(sock: socket.socket, count: int) -> list[float]:
    found = []
    for _ in range(count):
        began_s = time.monotonic()
        sock.sendall(b"?")
        assert sock.recv(1) == b"?"
        found.append(time.monotonic() - began_s)
    return found


@pytest.mark.parametrize("rtt_s", [0.001, RTT_S])
def test_a_round_trip_takes_what_was_asked_for_and_is_never_short(rtt_s: float) -> None:
    with target(echo) as address, DelayLine(address, rtt_s) as line, connect(line.address) as sock:
        round_trips_s(sock, 3)
        found = round_trips_s(sock, 15)
        report = line.report()
        sock.shutdown(socket.SHUT_WR)
    assert min(found) >= rtt_s
    assert statistics.median(found) < rtt_s + LATE_S
    assert report.deliveries >= 2 * 17
    assert report.late_p50_s < LATE_S


def test_connecting_costs_a_round_trip_and_the_first_answer_another() -> None:
    with target(echo) as address, DelayLine(address, RTT_S) as line:
        began_s = time.monotonic()
        with connect(line.address) as sock:
            sock.sendall(b"?")
            assert sock.recv(1) == b"?"
            took_s = time.monotonic() - began_s
    assert 2 * RTT_S <= took_s < 2 * RTT_S + 2 * LATE_S


def test_a_server_that_speaks_first_is_heard_after_two_round_trips() -> None:
    """SYN, SYN-ACK, ACK, and then its words."""
    with target(lambda sock: sock.sendall(b"hello")) as address, DelayLine(address, RTT_S) as line:
        began_s = time.monotonic()
        with connect(line.address) as sock:
            assert sock.recv(5) == b"hello"
            took_s = time.monotonic() - began_s
    assert 2 * RTT_S <= took_s < 2 * RTT_S + 2 * LATE_S


def test_both_directions_carry_every_byte_at_the_same_time() -> None:
    there, back, received = os.urandom(3_000_000), os.urandom(3_000_000), []

    def serve(sock: socket.socket) -> None:
        sender = threading.Thread(target=sock.sendall, args=[back])
        sender.start()
        received.append(everything(sock))
        sender.join(DEADLINE_S)

    with target(serve) as address, DelayLine(address, 0.002) as line, connect(line.address) as sock:
        sender = threading.Thread(target=lambda: (sock.sendall(there), sock.shutdown(socket.SHUT_WR)))
        sender.start()
        assert everything(sock) == back
        sender.join(DEADLINE_S)
        assert line.report().delivered_bytes == len(there) + len(back)
    assert received == [there]


def test_a_half_close_reaches_the_target_and_leaves_the_other_direction_open() -> None:
    def serve(sock: socket.socket) -> None:
        sock.sendall(everything(sock).upper())

    with target(serve) as address, DelayLine(address, 0.002) as line, connect(line.address) as sock:
        sock.sendall(b"question")
        sock.shutdown(socket.SHUT_WR)
        assert everything(sock) == b"QUESTION"


def test_a_reset_is_passed_on_as_a_reset() -> None:
    ends: queue.Queue[bytes | type[BaseException]] = queue.Queue()

    def serve(sock: socket.socket) -> None:
        sock.recv(1)
        try:
            ends.put(sock.recv(1))
        except ConnectionResetError:
            ends.put(ConnectionResetError)

    with target(serve) as address, DelayLine(address, 0.002) as line:
        sock = connect(line.address)
        sock.sendall(b"x")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
        assert ends.get(timeout=DEADLINE_S) is ConnectionResetError


def test_a_target_that_refuses_is_a_reset_no_earlier_than_a_round_trip() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with DelayLine(nobody.getsockname(), RTT_S) as line:
            began_s = time.monotonic()
            with connect(line.address) as sock, pytest.raises(ConnectionResetError):
                sock.recv(1)
    assert time.monotonic() - began_s >= RTT_S


def test_a_receiver_that_does_not_read_stops_the_sender() -> None:
    """What is under way is bounded: of 64 MiB only so much is taken, and none of it is lost afterwards."""
    may_read, received = threading.Event(), []

    def serve(sock: socket.socket) -> None:
        may_read.wait(DEADLINE_S)
        received.append(len(everything(sock)))

    sent, chunk = 0, bytes(1 << 20)
    with target(serve) as address, DelayLine(address, 0.001) as line, connect(line.address) as sock:
        sock.setblocking(False)
        while sent < 64 << 20 and select.select([], [sock], [], 0.5)[1]:
            sent += sock.send(chunk)
        assert line.report().connections == 1
        assert sent < 32 << 20
        may_read.set()
        sock.shutdown(socket.SHUT_WR)
        sock.setblocking(True)
        assert sock.recv(1) == b""
    assert received == [sent]


def test_the_line_ends_with_all_its_connections() -> None:
    with target(echo) as address:
        with DelayLine(address, 0.001) as line:
            sock = connect(line.address)
            round_trips_s(sock, 1)
        with sock, contextlib.suppress(ConnectionResetError):
            assert sock.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            connect(line.address)


@pytest.mark.parametrize("rtt_s", [-0.001, 10.5, float("nan")])
def test_a_round_trip_out_of_range_is_refused_in_a_sentence(rtt_s: float) -> None:
    with pytest.raises(LoadFault, match="out of range"):
        DelayLine(("127.0.0.1", 1), rtt_s)


def test_a_name_without_an_address_is_refused_in_a_sentence() -> None:
    with pytest.raises(LoadFault, match=r"the name no-such-host\.invalid has no address"):
        DelayLine(("no-such-host.invalid", 1), 0.001)


def test_lines_are_shared_by_target_and_round_trip_and_end_together() -> None:
    with target(echo) as address:
        with DelayLines() as lines:
            assert lines.address(address, 0.0) == address
            near, far = lines.address(address, 0.001), lines.address(address, RTT_S)
            assert len({address, near, far}) == 3
            assert lines.address(address, RTT_S) == far
            with connect(near) as sock:
                round_trips_s(sock, 1)
        for gone in (near, far):
            with pytest.raises(ConnectionRefusedError):
                connect(gone)


def test_a_line_that_was_late_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    report = LineReport(
        connections=1, delivered_bytes=1, deliveries=1, late_p50_s=0.0, late_p99_s=0.0041, late_max_s=0.0041
    )
    monkeypatch.setattr(DelayLine, "report", lambda self: report)
    with DelayLines() as lines:
        for rtt_s in (0.02, 0.08):
            lines.address(("127.0.0.1", 1), rtt_s)
        (note,) = lines.notes()
    assert note.startswith("The delay line of 20 ms was late by 4.1 ms or more in 1 % of all it delivered")
