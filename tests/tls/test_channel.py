"""Bytes through a channel, in the clear and through TLS 1.2 and 1.3: whole, in order, and with the right end."""

import random
import select
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxy.tls.authority import Svid
from proxy.tls.channel import ALERTS, SCRATCH_BYTES, Channel, End, PlainChannel, Scratch, TlsChannel, alert_name
from proxy.tls.contexts import ClientContext
from proxy.tls.handshake import Step
from tests import minting
from tests.tls.meetings import connected_by_tcp
from tests.tls.pairs import client, connected, engine, server, shake, version

CA = minting.authority()
SVID = minting.svid(CA)
KINDS = ("plain", "1.2", "1.3")
EVERY = pytest.mark.parametrize("kind", KINDS)
TLS = pytest.mark.parametrize("kind", KINDS[1:])
SCRATCH = Scratch()
GARBAGE = b"\x17\x03\x03\x00\x20" + bytes(32)  # looks like a record, and is none of this connection


@contextmanager
def channels(kind: str, *, small: bool = False) -> Iterator[tuple[Channel, Channel]]:
    """A client's and a server's channel over loopback. small: with little room in the kernel."""
    with connected_by_tcp() as (ours, theirs):
        if small:
            for sock in (ours, theirs):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        if kind == "plain":
            yield PlainChannel(ours), PlainChannel(theirs)
            return
        ends = _shaken(kind, ours, theirs)
        yield ends
        for end in ends:
            end.reset()


def _shaken(kind: str, ours: socket.socket, theirs: socket.socket) -> tuple[TlsChannel, TlsChannel]:
    caller, answerer = client(CA, svid=SVID, tls=version(kind)).connect(ours), server(CA, svid=SVID).accept(theirs)
    done = set()
    while len(done) < 2:
        for end in (caller, answerer):
            if end not in done and end.step().name == "DONE":
                done.add(end)
    return caller.channel, answerer.channel


def look(channel: Channel) -> bytes:
    """Wait for readiness, and read once."""
    ready, _, _ = select.select([channel.fd], [], [], 5)
    assert ready, "nothing came within 5 s"
    n = channel.receive(SCRATCH)
    return bytes(SCRATCH.view[:n])


def end_of(channel: Channel) -> tuple[bytes, End]:
    """Read to the end."""
    seen = bytearray()
    while channel.end is None:
        seen += look(channel)
    return bytes(seen), channel.end


def transfer(source: Channel, sink: Channel, data: bytes) -> bytes:
    """Send everything, offering again what was not taken from wherever it lies, and read everything."""
    seen, rest = bytearray(), data
    while len(seen) < len(data):
        if rest:
            taken = source.send_bytes(rest)
            assert taken >= 0
            rest = bytes(bytearray(rest[taken:]))  # a copy: the same bytes at another address
        seen += look(sink)
    return bytes(seen)


@EVERY
def test_nothing_to_read_is_neither_bytes_nor_an_end(kind):
    with channels(kind) as ends:
        for end in ends:
            assert (end.receive(SCRATCH), end.end) == (0, None)


@EVERY
@pytest.mark.parametrize(
    "length", [1, 2, 4095, 4096, 16383, 16384, 16385, 65536, SCRATCH_BYTES, SCRATCH_BYTES + 1, 10**6]
)
def test_a_message_of_any_length_arrives_byte_for_byte_in_both_directions(kind, length):
    data = random.Random(length).randbytes(length)
    with channels(kind) as (ours, theirs):
        assert transfer(ours, theirs, data) == data
        assert transfer(theirs, ours, data) == data
        assert (ours.end, theirs.end) == (None, None)


@EVERY
def test_many_small_messages_keep_their_order(kind):
    with channels(kind) as (ours, theirs):
        for number in range(300):
            assert ours.send_bytes(bytes([number % 256])) == 1
        seen = b""
        while len(seen) < 300:
            seen += look(theirs)
    assert seen == bytes(number % 256 for number in range(300))


@EVERY
def test_no_bytes_are_sent_without_harm(kind):
    with channels(kind) as (ours, theirs):
        assert ours.send_bytes(b"") == 0
        assert transfer(ours, theirs, b"x") == b"x"
        assert transfer(theirs, ours, b"y") == b"y"


@EVERY
def test_the_scratch_is_sent_from_its_beginning(kind):
    with channels(kind) as (ours, theirs):
        SCRATCH.view[:5] = b"hello"
        assert ours.send(SCRATCH, 5) == 5
        assert look(theirs) == b"hello"


@EVERY
def test_a_full_kernel_takes_a_part_and_the_rest_may_move_before_it_is_offered_again(kind):
    data = random.Random(1).randbytes(3 * 10**6)
    with channels(kind, small=True) as (ours, theirs):
        first = ours.send_bytes(data)
        assert 0 <= first < len(data)
        rest = data[first:]
        assert ours.send_bytes(bytearray(rest)) < len(rest)  # again, at another address
        assert ours.end is None
    with channels(kind, small=True) as (ours, theirs):
        assert transfer(ours, theirs, data) == data


@EVERY
def test_while_our_direction_is_stuck_the_other_still_flows(kind):
    with channels(kind, small=True) as (ours, theirs):
        data = bytes(3 * 10**6)
        while (taken := ours.send_bytes(data)) > 0:
            data = data[taken:]
        assert transfer(theirs, ours, b"meanwhile") == b"meanwhile"
        assert ours.end is None


# Ends.


@EVERY
def test_our_direction_ends_and_the_other_goes_on(kind):
    for first in (0, 1):
        with channels(kind) as ends:
            finisher, other = ends[first], ends[1 - first]
            assert transfer(finisher, other, b"last word") == b"last word"
            assert finisher.finish() is True
            assert finisher.finish() is True
            assert end_of(other) == (b"", End.CLEAN)
            answer = bytes(200_000)
            assert transfer(other, finisher, answer) == answer
            assert other.finish() is True
            assert end_of(finisher) == (b"", End.CLEAN)


@EVERY
def test_a_close_in_order_is_a_clean_end(kind):
    with channels(kind) as (ours, theirs):
        assert ours.send_bytes(b"bye") == 3
        ours.close()
        assert end_of(theirs) == (b"bye", End.CLEAN)


@EVERY
def test_a_reset_is_no_clean_end(kind):
    with channels(kind) as (ours, theirs):
        ours.reset()
        assert end_of(theirs) == (b"", End.RESET)
        assert theirs.end_detail != ""


@TLS
def test_a_stream_that_ends_without_close_notify_was_truncated_and_all_its_bytes_count(kind):
    for length in (3, 100_000):
        with channels(kind) as (ours, theirs):
            assert ours.send_bytes(bytes(length)) == length
            ours.sock.shutdown(socket.SHUT_WR)
            assert end_of(theirs) == (bytes(length), End.TRUNCATED)
            assert theirs.finish() is True  # nothing more is said on a broken channel
            theirs.close()


@TLS
def test_an_end_behind_bytes_is_reported_in_the_same_call(kind):
    with channels(kind) as (ours, theirs):
        assert transfer(theirs, ours, b"x") == b"x"  # and with it the tickets: unread, they would make it a reset
        assert ours.send_bytes(bytes(20_000)) == 20_000
        ours.close()
        _until_closed(theirs.sock)

        assert (theirs.receive(SCRATCH), theirs.end) == (20_000, End.CLEAN)
        assert (theirs.receive(SCRATCH), theirs.end) == (0, End.CLEAN)


def _until_closed(sock: socket.socket) -> None:
    poll = select.poll()
    poll.register(sock, select.POLLRDHUP)
    assert poll.poll(5000)


@TLS
def test_garbage_in_the_stream_is_a_breach_of_the_protocol_and_the_peer_is_told(kind):
    with channels(kind) as (ours, theirs):
        ours.sock.send(GARBAGE)
        assert end_of(theirs) == (b"", End.PROTOCOL)
        assert theirs.end_detail != ""
        assert end_of(ours) == (b"", End.ALERT)
        assert (alert_name(ours.alert), ours.end_detail) == (
            "bad_record_mac",
            "the peer sent the alert bad_record_mac",
        )


@TLS
def test_plaintext_in_the_stream_is_a_breach_of_the_protocol(kind):
    with channels(kind) as (ours, theirs):
        ours.sock.send(b"GET / HTTP/1.1\r\n\r\n")
        assert end_of(theirs) == (b"", End.PROTOCOL)


@TLS
def test_bytes_before_garbage_are_delivered(kind):
    with channels(kind) as (ours, theirs):
        assert ours.send_bytes(bytes(8000)) == 8000
        ours.sock.send(GARBAGE)
        assert end_of(theirs) == (bytes(8000), End.PROTOCOL)


@TLS
def test_an_alert_that_was_read_is_not_hidden_by_a_write_that_fails_after(kind):
    with channels(kind) as (ours, theirs):
        ours.sock.send(GARBAGE)
        assert end_of(theirs)[1] is End.PROTOCOL
        assert end_of(ours)[1] is End.ALERT
        theirs.reset()

        assert ours.send_bytes(b"more") == -1
        ours.give_up()

        assert (ours.end, ours.alert) == (End.ALERT, 20)


@TLS
@pytest.mark.engine("openssl")
def test_after_a_failed_write_openssl_reads_no_more_and_the_end_is_no_clean_one(kind):
    with channels(kind) as (ours, theirs):
        assert theirs.send_bytes(b"a last word") == 11
        theirs.close()
        ours.sock.shutdown(socket.SHUT_WR)
        assert ours.send_bytes(b"more") == -1

        assert (look(ours), ours.end) == (b"", End.RESET)


@TLS
@pytest.mark.engine("boringssl")
def test_after_a_failed_write_boringssl_reads_what_the_peer_had_said(kind):
    with channels(kind) as (ours, theirs):
        assert theirs.send_bytes(b"a last word") == 11
        theirs.close()
        ours.sock.shutdown(socket.SHUT_WR)
        assert ours.send_bytes(b"more") == -1

        assert end_of(ours) == (b"a last word", End.CLEAN)
        ours.give_up()
        assert ours.end is End.RESET


@pytest.mark.parametrize("length", [1, 5000, 50_000])
def test_bytes_that_came_with_the_last_flight_of_the_handshake_are_announced_and_read(length):
    """A TLS 1.3 client may speak at once behind its Finished, and an engine that reads ahead then has it already."""
    data = random.Random(length).randbytes(length)
    with connected_by_tcp() as (ours, theirs):
        caller, answerer = client(CA, svid=SVID).connect(ours), server(CA, svid=SVID).accept(theirs)
        for end in (caller, answerer):
            assert end.step() is Step.WANT_READ
        assert caller.step() is Step.DONE
        assert caller.channel.send_bytes(data) == length
        caller.channel.finish()
        _until_closed(theirs)
        assert answerer.step() is Step.DONE

        assert answerer.channel.buffered is (engine().name == "boringssl")
        n = answerer.channel.receive(SCRATCH)
        assert (bytes(SCRATCH.view[:n]), answerer.channel.buffered) == (data, False)
        assert end_of(answerer.channel) == (b"", End.CLEAN)
        for end in (caller, answerer):
            end.channel.close()


@TLS
def test_a_write_to_a_peer_that_is_gone_is_a_reset_when_it_said_nothing(kind):
    with channels(kind) as (ours, _theirs):
        ours.sock.shutdown(socket.SHUT_WR)
        assert ours.send_bytes(b"more") == -1
        assert ours.end is None
        ours.give_up()
        assert (ours.end, ours.alert) == (End.RESET, None)


@TLS
def test_a_clean_end_of_reading_does_not_hide_that_a_write_failed(kind):
    with channels(kind) as (ours, theirs):
        theirs.finish()
        assert end_of(ours) == (b"", End.CLEAN)
        ours.sock.shutdown(socket.SHUT_WR)
        assert ours.send_bytes(b"more") == -1
        ours.give_up()
        assert ours.end is End.RESET


def test_a_plain_write_to_a_peer_that_is_gone_leaves_what_it_had_said_readable():
    with channels("plain") as (ours, theirs):
        assert theirs.send_bytes(b"a last word") == 11
        theirs.reset()
        _until_closed(ours.sock)
        assert ours.send_bytes(b"x") == -1
        assert (look(ours), ours.end) == (b"a last word", None)
        ours.give_up()
        assert ours.end is End.RESET


@TLS
def test_close_notify_waits_for_room_in_the_kernel(kind):
    with channels(kind, small=True) as (ours, theirs):
        sent, seen, record = 0, 0, bytes(16384)
        while ours.send_bytes(record) == 16384:
            sent += 16384
        while ours.send_bytes(record) != 16384:  # what was begun has to be finished first
            seen += len(look(theirs))
        while not ours.finish():
            seen += len(look(theirs))
        rest, end = end_of(theirs)
        assert (seen + len(rest), end) == (sent + 16384, End.CLEAN)


# After the end.


@EVERY
@pytest.mark.parametrize("first", ["close", "reset", "release"])
def test_a_channel_that_is_closed_stays_closed_whatever_is_asked_of_it(kind, first):
    if (kind, first) == ("plain", "release"):
        return
    with channels(kind) as (ours, theirs):
        getattr(ours, first)()
        assert ours.fd == -1
        assert ours.receive(SCRATCH) == 0
        assert ours.send_bytes(b"x") == -1
        assert ours.send(SCRATCH, 1) == -1
        assert ours.finish() is True
        ours.give_up()
        ours.close()
        ours.reset()
        assert ours.fd == -1
        if first == "close":
            assert end_of(theirs) == (b"", End.CLEAN)


@TLS
def test_of_a_closed_handshake_only_what_was_kept_can_be_asked(kind):
    with connected_by_tcp() as (ours, theirs):
        ends = shake(client(CA, svid=SVID, tls=version(kind)), server(CA, svid=SVID), ours, theirs)
        for end in ends:
            end.channel.close()
            facts = end.facts()
            assert (facts.version, facts.cipher, facts.sni) == (None, None, None)
            assert facts.peer_spiffe_id == minting.CART
            assert (end.version, end.session(), end.ticket_has_come()) == ("unknown", None, False)


def test_every_alert_has_the_name_of_the_standard_and_the_others_a_number():
    names = (ALERTS[42], alert_name(49), alert_name(116), alert_name(200))
    assert names == ("bad_certificate", "access_denied", "certificate_required", "number 200")


def end_after_tickets(caller: ClientContext, svid: Svid, folder: Path, tickets: int) -> End | None:
    """How a TLS 1.3 connection stands for its client when the server has sent this many session tickets."""
    pem = folder / "svid.pem"
    pem.write_bytes(svid.cert_pem + svid.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    context.num_tickets = tickets
    coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
    talker = context.wrap_bio(coming, going, server_side=True)
    with connected() as (ours, theirs):
        handshake = caller.connect(ours)
        while handshake.step() is not Step.DONE:
            coming.write(theirs.recv(65536))
            with pytest.raises(ssl.SSLWantReadError):
                talker.do_handshake()
            theirs.sendall(going.read())
        coming.write(theirs.recv(65536))
        talker.do_handshake()
        theirs.sendall(going.read())
        assert handshake.channel.receive(Scratch()) == 0
        handshake.channel.reset()
        return handshake.channel.end


def test_messages_without_application_data_are_bounded_since_one_read_goes_through_all_of_them(tmp_path):
    if engine().name != "openssl":
        pytest.skip("BoringSSL counts them by itself")
    issuer = minting.authority()
    caller, svid = client(issuer, tls=version("1.3")), minting.svid(issuer)

    assert end_after_tickets(caller, svid, tmp_path, 250) is End.PROTOCOL
    # Nor are many connections, one after the other and each at the address of the last, taken for one.
    assert [end_after_tickets(caller, svid, tmp_path, 20) for _ in range(20)] == [None] * 20
