"""Handshakes that go wrong: peers that leave or speak something else, bytes at random, and faults of our own."""

import socket
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.reasons import Reason, Rejected
from proxy.tls import binding
from proxy.tls.handshake import Basis, Step
from tests import minting
from tests.tls.chains import der
from tests.tls.meetings import SCRATCH, Foreign, accept, drive, foreign_client
from tests.tls.pairs import client, connected, read, server, version

CA = minting.authority()
SERVER = server(CA)
CLIENT = client(CA)
VERSIONS = pytest.mark.parametrize("tls_version", ["1.2", "1.3"])


def refusal(handshake) -> Rejected:
    with pytest.raises(Rejected) as caught:
        drive(handshake)
    return caught.value


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n",
        b"POST / HTTP/1.1\r\n\r\n",
        b"CONNECT example.org:443 HTTP/1.1\r\n\r\n",
        b"HEAD / HTTP/1.1\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
        b"\xff" * 64,
        b"\x16\x05\x00\x00\x10" + bytes(64),
    ],
)
def test_a_client_that_does_not_speak_tls_is_told_so(sent):
    with connected() as (ours, theirs):
        ours.send(sent)
        assert refusal(SERVER.accept(theirs)).reason == Reason.NOT_TLS


@pytest.mark.parametrize("sent", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"220 smtp.example ESMTP\r\n", b"\0" * 16])
def test_an_upstream_that_does_not_speak_tls_is_told_apart(sent):
    with connected() as (ours, theirs):
        theirs.send(sent)
        assert refusal(CLIENT.connect(ours)).reason == Reason.NOT_TLS


@VERSIONS
@pytest.mark.parametrize("flights", [0, 1])
def test_a_client_that_leaves_in_mid_handshake_has_left(flights, tls_version):
    with connected() as (ours, theirs):
        caller, answerer = client(CA, tls=version(tls_version)).connect(ours), SERVER.accept(theirs)
        for _ in range(flights):
            caller.step()
            answerer.step()
        ours.close()

        refused = refusal(answerer)

    assert refused.reason == Reason.CLIENT_LEFT
    assert refused.detail.startswith("the client left in mid-handshake (")


def test_an_upstream_that_leaves_before_it_has_shown_a_certificate_did_not_judge_ours():
    with connected() as (ours, theirs):
        caller = CLIENT.connect(ours)
        assert caller.step() is Step.WANT_READ
        theirs.shutdown(socket.SHUT_WR)

        refused = refusal(caller)

    assert (refused.reason, refused.detail) == (
        Reason.HANDSHAKE_FAILED,
        "the stream ended without close_notify",
    )


def test_an_upstream_that_leaves_after_it_has_seen_our_certificate_has_refused_us():
    with connected() as (ours, theirs):
        caller, answerer = CLIENT.connect(ours), server(CA, tls=version("1.2")).accept(theirs)
        for end in (caller, answerer, caller):
            assert end.step() is Step.WANT_READ
        theirs.shutdown(socket.SHUT_WR)

        assert refusal(caller).reason == Reason.UPSTREAM_REJECTED_US


# Faults of our own must refuse the peer, tell it, and surface; never pass silently, and never as words on stderr.


def raising(error):
    def judge(*_arguments):
        raise error

    return judge


@VERSIONS
@pytest.mark.parametrize("error", [RuntimeError("boom"), MemoryError(), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("where", ["verify", "admit", "leaf_facts"])
@pytest.mark.parametrize("side", ["client", "server"])
def test_a_bug_in_the_judge_lets_nobody_in_and_comes_out_of_step(side, where, error, tls_version, monkeypatch, capfd):
    contexts = {"client": client(CA, tls=version(tls_version)), "server": server(CA)}
    monkeypatch.setattr(contexts[side], where, raising(error))
    with connected() as (ours, theirs):
        ends = {"client": contexts["client"].connect(ours), "server": contexts["server"].accept(theirs)}
        ours_, theirs_ = ends[side], ends["server" if side == "client" else "client"]
        with pytest.raises(type(error)):
            drive(theirs_, ours_)

        assert (ours_.peer, ours_.permit) == (None, None)
        assert "internal_error" in _alert_seen_by(theirs_)
        with pytest.raises(Rejected):  # and it stays closed
            ours_.step()
        assert ours_.peer is None
    assert capfd.readouterr() == ("", "")


def _alert_seen_by(end) -> str:
    try:
        if end.step() is Step.DONE:
            read(end.channel, SCRATCH)
            return end.channel.end_detail
    except Rejected as rejected:
        return rejected.detail
    return ""


@VERSIONS
@pytest.mark.engine("openssl")
def test_a_context_whose_callback_was_lost_lets_nobody_in(tls_version):
    careless = server(CA)
    binding.set_verify(careless._ssl_context, binding.ffi.NULL)
    with connected() as (ours, theirs):
        caller, answerer = client(CA, tls=version(tls_version)).connect(ours), careless.accept(theirs)
        with pytest.raises(Rejected) as caught:
            drive(caller, answerer)

    assert caught.value.reason in (Reason.HANDSHAKE_FAILED, Reason.UPSTREAM_REJECTED_US)
    assert answerer.peer is None


@VERSIONS
@pytest.mark.engine("openssl")
def test_a_peer_that_was_never_judged_is_refused_whatever_openssl_thinks_of_it(tls_version):
    careless = server(CA)
    careless._ssl_context.set_verify(0)  # it does not even ask for a certificate
    with connected() as (ours, theirs):
        caller, answerer = client(CA, tls=version(tls_version)).connect(ours), careless.accept(theirs)
        with pytest.raises(Rejected) as caught:
            drive(caller, answerer)

    assert (caught.value.reason, caught.value.detail) == (
        Reason.HANDSHAKE_FAILED,
        "the peer's certificate was never judged",
    )
    assert (answerer.peer, answerer.permit) == (None, None)


@VERSIONS
@pytest.mark.engine("boringssl")
def test_a_handshake_that_ends_before_anybody_judged_is_refused_whatever_boringssl_thinks_of_it(
    tls_version, monkeypatch
):
    monkeypatch.setattr("proxy.tls.boringhandshake.BoringHandshake._judge_chain", _let_in_unjudged)
    with connected() as (ours, theirs):
        caller, answerer = client(CA, tls=version(tls_version)).connect(ours), server(CA).accept(theirs)
        with pytest.raises(Rejected, match="was never judged"):
            drive(caller, answerer)
    assert (answerer.peer, answerer.permit) == (None, None)


def _let_in_unjudged(_handshake, connection) -> None:
    from proxy.tls import boringbinding

    boringbinding.bs_decide(connection, boringbinding.YES)


@pytest.mark.engine("openssl")
def test_a_verdict_on_a_session_says_nothing_of_a_chain_that_comes_after():
    with connected() as (ours, theirs):
        caller, answerer = client(CA, svid=minting.svid(minting.authority())).connect(ours), SERVER.accept(theirs)
        good = minting.svid(CA)
        answerer._form_verdict(Basis.SESSION, lambda: SERVER.verify([binding.x509_of(der(good.leaf))]))
        assert answerer._permit is not None
        with pytest.raises(Rejected) as caught:
            drive(caller, answerer)

    assert caught.value.reason == Reason.UNKNOWN_AUTHORITY
    assert (answerer.peer, answerer.permit) == (None, None)


# Bytes at random.


@given(sent=st.binary(min_size=1, max_size=600))
def test_random_bytes_give_a_refusal_or_a_wish_for_more(sent):
    with connected() as (ours, theirs):
        ours.send(sent)
        handshake = SERVER.accept(theirs)
        try:
            step = handshake.step()
        except Rejected:
            step = None
        assert step in (None, Step.WANT_READ)
        if step is Step.WANT_READ:
            ours.close()
            refusal(handshake)
        assert handshake.peer is None


def flights_of(tls_version: str) -> list[bytes]:
    """The client's two flights, taken off the wire."""
    flights = []
    with connected() as (ours, tapped), connected() as (sent_on, theirs):
        caller, answerer = client(CA, tls=version(tls_version)).connect(ours), SERVER.accept(theirs)
        for _ in range(2):
            caller.step()
            flights.append(tapped.recv(65536))
            sent_on.send(flights[-1])
            answerer.step()
            try:
                tapped.send(sent_on.recv(65536))
            except BlockingIOError:
                pass
    return flights


HELLO = flights_of("1.3")[0]


@given(at=st.integers(0, len(HELLO) - 1), byte=st.integers(0, 255), tail=st.binary(max_size=40))
def test_a_hello_with_one_byte_changed_and_junk_behind_never_lets_anybody_in(at, byte, tail):
    with connected() as (ours, theirs):
        ours.send(HELLO[:at] + bytes([byte]) + HELLO[at + 1 :] + tail)
        ours.shutdown(socket.SHUT_WR)
        handshake = SERVER.accept(theirs)
        refusal(handshake)
        assert handshake.peer is None


@VERSIONS
@given(changes=st.dictionaries(st.integers(0, 650), st.integers(1, 255), min_size=1, max_size=8))
def test_a_second_flight_with_bytes_changed_never_lets_anybody_in(changes, tls_version):
    # In TLS 1.2 the certificate goes in the clear: the changes reach OpenSSL's and our own parsers.
    with connected() as (ours, tapped), connected() as (sent_on, theirs):
        caller, answerer = client_of(tls_version).connect(ours), SERVER.accept(theirs)
        caller.step()
        sent_on.send(tapped.recv(65536))
        answerer.step()
        tapped.send(sent_on.recv(65536))
        caller.step()
        flight = bytearray(tapped.recv(65536))
        for at, change in changes.items():
            flight[at % len(flight)] ^= change
        sent_on.send(bytes(flight))
        sent_on.shutdown(socket.SHUT_WR)

        refusal(answerer)
        assert (answerer.peer, answerer.permit) == (None, None)


def test_a_certificate_that_cannot_be_read_is_not_taken_for_another_protocol():
    flight = flights_of("1.2")[1]
    leaf = flight.index(b"\x30\x82", 10)  # where the certificate's DER begins
    with connected() as (ours, tapped), connected() as (sent_on, theirs):
        caller, answerer = client_of("1.2").connect(ours), SERVER.accept(theirs)
        caller.step()
        sent_on.send(tapped.recv(65536))
        answerer.step()
        sent_on.send(flight[: leaf + 2] + b"\x7f" + flight[leaf + 3 :])

        refused = refusal(answerer)

    assert (refused.reason, refused.detail) == (Reason.HANDSHAKE_FAILED, "too long")


_CLIENTS = {text: client(CA, tls=version(text)) for text in ("1.2", "1.3")}


def client_of(tls_version: str):
    return _CLIENTS[tls_version]


def test_a_foreign_client_without_a_certificate_leaves_no_trace_on_stderr(capfd):
    with connected() as (ours, theirs):
        peer, answerer = Foreign(foreign_client(), ours), SERVER.accept(theirs)
        peer.step()
        with pytest.raises(Rejected):
            drive(answerer, peer)
        peer.close()
    assert capfd.readouterr() == ("", "")


@VERSIONS
def test_what_a_client_says_in_the_clear_when_it_gives_up_on_us_is_read(tls_version, tmp_path):
    """OpenSSL's clients have no keys of their own yet when they look at our certificate in TLS 1.3."""
    context = foreign_client(tmp_path, minting.svid(CA), least=f"TLSv{tls_version.replace('.', '_')}")
    context.maximum_version = context.minimum_version
    context.verify_mode = ssl.CERT_REQUIRED  # and it trusts nobody
    with connected() as (ours, theirs):
        peer = Foreign(context, ours)
        refused = accept(server(CA), theirs, peer)
        peer.close()

    assert isinstance(refused, Rejected)
    assert refused.reason == Reason.HANDSHAKE_FAILED
    assert refused.detail == "the peer sent the alert unknown_ca: the client does not accept our certificate"
