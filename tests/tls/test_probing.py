"""One probing handshake against Python's own ssl, byte by byte: what is offered, what is seen, what is never sent."""

import ssl
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.config import CIPHER_SUITES
from proxy.core.reasons import Reason, Rejected
from proxy.tls.authority import Svid
from proxy.tls.probing import MAX_RECEIVED_BYTES, Attempt, Extent, Offer, OwnSvid, ProbeContext, judge_server
from tests import minting
from tests.tls.chains import ders, trusting

AUTHORITY = minting.authority()
CLIENT = minting.svid(AUTHORITY)
SERVER = minting.svid(AUTHORITY, "spiffe://example.org/ns/shop/sa/payments")
each_version = pytest.mark.parametrize("version", ["1.2", "1.3"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("identity")


class Server:
    """A server in memory. words: what it raised, e.g. "PEER_DID_NOT_RETURN_A_CERTIFICATE"."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=True)
        self._done = False
        self.received = b""
        self.words: str | None = None
        self.closed = False

    def answer(self, data: bytes) -> bytes:
        self._in.write(data)
        try:
            if not self._done:
                self._tls.do_handshake()
                self._done = True
            self._read()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self.words = error.reason
        return self._out.read()

    def _read(self) -> None:
        data = self._tls.read(1000)
        self.received += data
        if not data:  # close_notify
            self.closed = True
            self._tls.unwrap()

    def say(self, data: bytes) -> bytes:
        self._tls.write(data)
        return self._out.read()


def context_of(folder: Path, *, demand: ssl.VerifyMode = ssl.CERT_REQUIRED, **settings: object) -> ssl.SSLContext:
    identity = minting.write_identity(folder, SERVER, {minting.DOMAIN: AUTHORITY})
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.cert, identity.key)
    context.load_verify_locations(identity.bundles[minting.DOMAIN])
    context.verify_mode = demand
    for name, value in settings.items():
        setattr(context, name, value)
    return context


def ours(svid: Svid = CLIENT) -> OwnSvid:
    return OwnSvid(svid.chain, svid.key)


def meet(attempt: Attempt, server: Server) -> Attempt:
    """Carry bytes until neither has anything to say."""
    to_server = attempt.advance()
    while to_server:
        to_client = server.answer(to_server)
        if not to_client:
            break
        to_server = attempt.advance(to_client)
    return attempt


@each_version
def test_a_whole_handshake_is_seen(folder: Path, version: str) -> None:
    server = Server(context_of(folder))
    attempt = meet(ProbeContext(Offer(version=version), ours()).attempt(), server)
    assert attempt.done
    assert attempt.certificate_asked
    assert attempt.certificate_sent
    assert attempt.tickets > 0
    assert not attempt.fault
    assert attempt.chain()[0] == ders(SERVER.chain)[0]
    assert attempt.ca_names() == ()  # Python's ssl names none; tests/e2e/test_probe.py has a server that does
    chosen = attempt.negotiated()
    assert chosen is not None
    assert (chosen.cipher or "").startswith("TLS_")
    assert server.received == b""


@each_version
def test_without_a_certificate_the_alert_is_seen(folder: Path, version: str) -> None:
    attempt = meet(ProbeContext(Offer(version=version), None).attempt(), Server(context_of(folder)))
    assert attempt.alert == (116 if version == "1.3" else 40)
    assert attempt.over
    assert attempt.certificate_asked
    assert not attempt.certificate_sent


@each_version
def test_a_session_is_taken_up_again(folder: Path, version: str) -> None:
    server_context = context_of(folder)
    context = ProbeContext(Offer(version=version), ours())
    first = meet(context.attempt(), Server(server_context))
    again = meet(context.attempt(first.session()), Server(server_context))
    chosen = again.negotiated()
    assert chosen is not None
    assert chosen.resumed


@each_version
def test_an_attempt_for_the_server_flight_leaves_before_anybody_is_judged(folder: Path, version: str) -> None:
    server = Server(context_of(folder))
    attempt = ProbeContext(Offer(version=version), None).attempt(extent=Extent.SERVER_FLIGHT)
    assert meet(attempt, server).over
    assert attempt.negotiated() is not None
    assert attempt.advance() == b""
    assert server.words is None
    assert attempt.close_notify() == b""


def test_the_suite_that_is_offered_alone_is_the_one_that_is_chosen(folder: Path) -> None:
    suite = CIPHER_SUITES[2]
    attempt = meet(
        ProbeContext(Offer(version="1.2", cipher_suites=(suite,)), ours()).attempt(), Server(context_of(folder))
    )
    chosen = attempt.negotiated()
    assert chosen is not None
    assert chosen.cipher == suite


@pytest.mark.parametrize("group", ["X25519", "P-256"])
def test_the_group_that_is_offered_alone_is_the_one_that_is_chosen(folder: Path, group: str) -> None:
    attempt = meet(ProbeContext(Offer(version="1.3", groups=(group,)), ours()).attempt(), Server(context_of(folder)))
    chosen = attempt.negotiated()
    assert chosen is not None
    assert chosen.group == group


def test_alpn_is_offered_and_the_choice_seen(folder: Path) -> None:
    server_context = context_of(folder)
    server_context.set_alpn_protocols(["h2"])
    attempt = meet(
        ProbeContext(Offer(version="1.3", alpn=("http/1.1", "h2")), ours()).attempt(), Server(server_context)
    )
    chosen = attempt.negotiated()
    assert chosen is not None
    assert chosen.alpn == "h2"


def test_a_server_of_another_version_is_seen_as_one(folder: Path) -> None:
    server = Server(context_of(folder, maximum_version=ssl.TLSVersion.TLSv1_2))
    assert meet(ProbeContext(Offer(version="1.3"), None).attempt(), server).alert == 70


def test_close_notify_is_answered_and_nothing_else_was_ever_sent(folder: Path) -> None:
    server = Server(context_of(folder, num_tickets=0))
    attempt = meet(ProbeContext(Offer(version="1.3"), ours()).attempt(), server)
    assert attempt.tickets == 0
    assert not attempt.closed
    attempt.advance(server.answer(attempt.close_notify()))
    assert (server.closed, attempt.closed) == (True, True)
    assert server.received == b""


def test_application_data_is_noticed_and_not_kept(folder: Path) -> None:
    server = Server(context_of(folder, num_tickets=0))
    attempt = meet(ProbeContext(Offer(version="1.3"), ours()).attempt(), server)
    attempt.advance(server.say(b"220 ready"))
    assert attempt.data_came
    assert "220 ready" not in repr(vars(attempt))


def test_a_peer_that_is_not_trusted_is_let_in_to_be_looked_at_and_judged_as_everywhere(folder: Path) -> None:
    attempt = meet(ProbeContext(Offer(version="1.3"), ours()).attempt(), Server(context_of(folder)))
    stranger = trusting(minting.authority().certificate)
    with pytest.raises(Rejected) as refusal:
        judge_server(stranger, attempt.chain(), minting.now_s())
    assert refusal.value.reason is Reason.UNKNOWN_AUTHORITY
    assert str(judge_server(trusting(AUTHORITY.certificate), attempt.chain(), minting.now_s()).spiffe_id).endswith(
        "payments"
    )


def test_a_certificate_that_openssl_does_not_take_is_refused_in_a_sentence() -> None:
    with pytest.raises(Rejected) as refusal:
        ProbeContext(Offer(version="1.3"), OwnSvid(CLIENT.chain, SERVER.key))
    assert refusal.value.reason is Reason.KEY_MISMATCH


def test_the_key_is_not_in_the_repr_of_what_we_present() -> None:
    assert repr(ours()) == "OwnSvid(...)"


def test_an_answer_that_is_not_tls_is_kept_for_its_quotation() -> None:
    attempt = ProbeContext(Offer(version="1.3"), None).attempt()
    attempt.advance()
    assert attempt.advance(b"HTTP/1.1 400 Bad Request\r\n\r\n") != b"" or attempt.fault
    assert attempt.over
    assert attempt.first_bytes.startswith(b"HTTP/1.1 400")


def test_a_peer_that_never_stops_is_cut_off() -> None:
    attempt = ProbeContext(Offer(version="1.3"), None).attempt()
    attempt.advance()
    # Records of a ServerHello that is always one byte short of its length.
    attempt.advance(b"\x16\x03\x03\x00\x04\x02\x00\xff\xff")
    for _ in range(MAX_RECEIVED_BYTES // 16384 + 1):
        attempt.advance(b"\x16\x03\x03\x00\x01\x00" * 2730)
    assert attempt.over
    assert attempt.fault


@cache
def flight_of(version: str, folder: str) -> bytes:
    attempt = ProbeContext(Offer(version=version), None).attempt()
    return Server(context_of(Path(folder))).answer(attempt.advance())


@each_version
def test_every_prefix_of_an_answer_leaves_it_waiting(folder: Path, version: str) -> None:
    server = Server(context_of(folder))
    attempt = ProbeContext(Offer(version=version), ours()).attempt()
    flight = server.answer(attempt.advance())
    for byte in flight[:-1]:
        assert not attempt.over
        attempt.advance(bytes([byte]))
    attempt.advance(flight[-1:])
    assert not attempt.fault
    assert attempt.hello_came


@given(junk=st.binary(max_size=200), cut=st.integers(0, 3000), version=st.sampled_from(["1.2", "1.3"]))
def test_junk_is_a_fault_and_never_an_exception(folder: Path, junk: bytes, cut: int, version: str) -> None:
    attempt = ProbeContext(Offer(version=version), None).attempt()
    attempt.advance()
    attempt.advance(flight_of(version, str(folder))[:cut] + junk)
    attempt.negotiated()
    attempt.chain()
    attempt.ca_names()


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 300), st.binary(max_size=40)), max_size=8))
def test_what_openssl_tells_of_is_never_believed_in_its_lengths(messages: list[tuple[bool, int, bytes]]) -> None:
    attempt = ProbeContext(Offer(version="1.3"), None).attempt()
    for mine, content_type, message in messages:
        attempt.note(ours=mine, content_type=content_type, message=message)
    for kind in range(256):
        for size in range(4):
            attempt.note(ours=False, content_type=22, message=bytes([kind]) + bytes(size))
    assert attempt.ticket_lifetime_s is None
