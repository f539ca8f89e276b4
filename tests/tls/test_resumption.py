"""Resumption that cannot outlive trust: what a ticket brings back, where it opens, and who is judged again."""

import select
import types

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.clienthello import MAX_HELLO_BYTES
from proxy.core.config import TlsConfig
from proxy.core.reasons import Reason, Rejected
from proxy.tls import binding, contexts
from proxy.tls.channel import End, alert_name
from proxy.tls.handshake import Step
from proxy.tls.ticketkeys import TicketKey
from tests import minting
from tests.tls.chains import chain_of, der
from tests.tls.meetings import SCRATCH, connected_by_tcp, drive, meet, pass_bytes
from tests.tls.pairs import client, connected, engine, policy_alert, read, server, shake, version

CA = minting.authority()
KEY = TicketKey.random()
VERSIONS = pytest.mark.parametrize("tls_version", ["1.2", "1.3"])


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = minting.now_s()

    def __call__(self) -> float:
        return self.now


def talk(caller, answerer) -> "Conversation":
    """A handshake, a message from the server (with which TLS 1.3 tickets come), and the session kept."""
    with connected() as (ours, theirs):
        ends = shake(caller, answerer, ours, theirs)
        assert not any(isinstance(end, Rejected) for end in ends), ends
        assert pass_bytes(ends[1].channel, ends[0].channel, b"hello") == b"hello"
        caller.keep_session(ends[0])
        facts = [end.facts() for end in ends]
        for end in ends:
            end.channel.close()
    return Conversation(*ends, *facts)


def alert_seen_by(end) -> str:
    """
    What the client was told when its resumption was refused.

    OpenSSL's server refuses it before its own first flight. BoringSSL's does not take the ticket, and judges what the
    client then presents: in TLS 1.3 the client is done before that, and reads the alert afterwards.
    """
    if not isinstance(end, Rejected):
        try:
            assert end.step() is Step.DONE
        except Rejected as rejected:
            end = rejected
        else:
            read(end.channel, SCRATCH)
            return alert_name(end.channel.alert)
    return end.detail.removeprefix("the peer sent the alert ").split()[0].rstrip(",")


class Conversation:
    """Both ends of a conversation that is over, and the facts that they had."""

    def __init__(self, caller, answerer, caller_facts, answerer_facts) -> None:
        self.client, self.server = caller, answerer
        self.client_facts, self.server_facts = caller_facts, answerer_facts

    @property
    def resumed(self) -> bool:
        assert self.client.resumed == self.server.resumed
        return self.client.resumed


@VERSIONS
@pytest.mark.parametrize("key_type", ["ecdsa-p256", "rsa-2048", "ed25519"])
def test_a_known_client_resumes_again_and_again_with_every_fact(key_type, tls_version):
    low = chain_of(1, CA)
    words = {"tls": version(tls_version), "alpn": ("h2", "http/1.1")}
    caller = client(CA, svid=minting.svid(low, key_type=key_type), server_name="payments.example", **words)
    answerer = server(CA, svid=minting.svid(low, key_type=key_type, slot=1), **words)

    first, *others = [talk(caller, answerer) for _ in range(4)]

    assert [first.resumed, *(other.resumed for other in others)] == [False, True, True, True]
    for other in others:
        for before, after in (
            (first.client_facts, other.client_facts),
            (first.server_facts, other.server_facts),
        ):
            assert after.resumed is True
            expected = {name: getattr(before, name) for name in before.__struct_fields__ if name != "resumed"}
            assert {name: getattr(after, name) for name in expected} == expected
        assert other.server.peer == first.server.peer  # the path with its intermediate too
        assert other.server.permit == first.server.permit
        assert len(other.server.peer.path) == 3


@VERSIONS
def test_a_new_context_is_a_new_generation_and_opens_no_old_ticket(tls_version):
    caller, svid = client(CA, tls=version(tls_version)), minting.svid(CA)
    old, new = server(CA, svid=svid), server(CA, svid=svid)

    assert [talk(caller, old).resumed, talk(caller, old).resumed, talk(caller, new).resumed] == [False, True, False]


@VERSIONS
def test_a_ticket_of_one_listener_gives_nothing_on_another_with_other_rules(tls_version):
    caller = client(CA, tls=version(tls_version))
    talk(caller, server(CA))

    met = meet(caller, server(CA, allow=("spiffe://example.org/other",)))

    assert met.reasons[1] == Reason.NOT_ALLOWED
    assert met.alert_to_client == policy_alert()


@VERSIONS
def test_a_new_client_context_has_no_session_to_offer(tls_version):
    answerer = server(CA, tls=version(tls_version))
    talk(client(CA), answerer)

    assert talk(client(CA), answerer).resumed is False


@VERSIONS
@pytest.mark.parametrize(
    ("offset_s", "reason"),
    [(+2 * minting.HOUR_S, Reason.CERTIFICATE_EXPIRED), (-2 * minting.HOUR_S, Reason.CERTIFICATE_NOT_YET_VALID)],
)
def test_a_resumed_client_whose_time_is_over_is_refused_with_an_alert(offset_s, reason, tls_version):
    clock = Clock()
    caller, answerer = client(CA, tls=version(tls_version)), server(CA, clock=clock)
    assert [talk(caller, answerer).resumed for _ in range(2)] == [False, True]
    clock.now += offset_s

    with connected() as (ours, theirs):
        caller_end, answerer_end = shake(caller, answerer, ours, theirs)
        assert alert_seen_by(caller_end) == "certificate_expired"

    assert isinstance(answerer_end, Rejected)
    assert answerer_end.reason == reason


@VERSIONS
@pytest.mark.parametrize("reason", [Reason.NOT_ALLOWED, Reason.DENIED])
def test_a_resumed_client_that_policy_no_longer_allows_is_refused_with_an_alert(reason, tls_version):
    caller, answerer = client(CA, tls=version(tls_version)), server(CA)
    talk(caller, answerer)

    def admit(_peer):
        raise Rejected(reason, "the rules have changed")

    answerer.admit = admit
    with connected() as (ours, theirs):
        handshake = answerer.accept(theirs)
        caller_end = caller.connect(ours)
        with pytest.raises(Rejected) as caught:
            drive(caller_end, handshake)
        assert alert_seen_by(caller_end) == policy_alert()

    assert caught.value.reason == reason
    assert (handshake.peer, handshake.permit) == (None, None)
    assert handshake.facts().peer_spiffe_id == minting.CART


@VERSIONS
@pytest.mark.engine("openssl")
def test_a_resumed_clients_chain_lapses_with_its_intermediate_and_not_with_its_leaf(tls_version):
    clock = Clock()
    caller, answerer = client(CA, tls=version(tls_version)), server(CA, clock=clock)
    talk(caller, answerer)
    (leaf_digest, peer), *_ = answerer.peers.remembered.items()
    path = (peer.path[0], der(minting.expired(CA).leaf))
    answerer.peers.remembered[leaf_digest] = type(peer)(
        svid=peer.svid, valid_from=peer.valid_from, lapses_at=clock.now - 1, path=path
    )

    met = meet(caller, answerer)

    assert met.reasons[1] == Reason.CERTIFICATE_EXPIRED
    assert met.server.detail.startswith("the CA certificate 1 above the leaf: ")


@VERSIONS
@pytest.mark.engine("openssl")
def test_a_leaf_that_is_not_remembered_is_judged_alone_and_an_anchor_must_have_issued_it(tls_version):
    low = chain_of(1, CA)
    for issuer, reason in ((CA, None), (low, Reason.UNKNOWN_AUTHORITY)):
        caller = client(CA, svid=minting.svid(issuer), tls=version(tls_version))
        answerer = server(CA)
        talk(caller, answerer)
        answerer.peers.remembered.clear()

        assert meet(caller, answerer).reasons[1] == reason


@VERSIONS
def test_after_a_refusal_the_client_comes_back_with_a_full_handshake(tls_version):
    clock = Clock()
    caller, answerer = client(CA, tls=version(tls_version)), server(CA, clock=clock)
    talk(caller, answerer)
    clock.now += 2 * minting.HOUR_S
    assert meet(caller, answerer).reasons[1] == Reason.CERTIFICATE_EXPIRED
    caller.forget_session()
    clock.now -= 2 * minting.HOUR_S

    assert [talk(caller, answerer).resumed for _ in range(2)] == [False, True]


@VERSIONS
@pytest.mark.parametrize("offset_s", [+2 * minting.HOUR_S, -2 * minting.HOUR_S])
def test_a_client_does_not_offer_the_session_of_a_server_whose_time_is_over(offset_s, tls_version):
    clock = Clock()
    caller = client(CA, tls=version(tls_version), clock=clock)
    old = server(CA)
    assert [talk(caller, old).resumed for _ in range(2)] == [False, True]
    clock.now += offset_s

    met = meet(caller, old)  # not resumed: the certificate is shown, and refused for what it is

    assert met.reasons[0] in (Reason.CERTIFICATE_EXPIRED, Reason.CERTIFICATE_NOT_YET_VALID)
    clock.now -= offset_s
    assert talk(caller, old).resumed is False  # and it is forgotten


@VERSIONS
def test_a_client_that_does_not_resume_never_does(tls_version):
    caller, answerer = client(CA, tls=version(tls_version), resume=False), server(CA)

    assert [talk(caller, answerer).resumed for _ in range(3)] == [False, False, False]


def test_a_route_keeps_the_sessions_of_its_latest_destinations(monkeypatch):
    monkeypatch.setattr(contexts, "_KEPT_SESSIONS", 2)
    caller, answerer = client(CA), server(CA)
    with connected() as (ours, theirs):
        ends = shake(caller, answerer, ours, theirs)
        pass_bytes(ends[1].channel, ends[0].channel, b"hello")
        for destination in ("a", "b", "a", "c"):
            caller.keep_session(ends[0], destination)
        for end in ends:
            end.channel.close()
    assert list(caller._sessions) == ["a", "c"]
    caller.forget_session("a")
    assert list(caller._sessions) == ["c"]


@VERSIONS
def test_a_forgotten_session_is_not_offered(tls_version):
    caller, answerer = client(CA, tls=version(tls_version)), server(CA)
    talk(caller, answerer)
    caller.forget_session()

    assert talk(caller, answerer).resumed is False


@VERSIONS
@pytest.mark.parametrize("cut", ["client resets", "server resets"])
def test_a_session_stays_resumable_after_its_connection_was_reset(cut, tls_version):
    caller, answerer = client(CA, tls=version(tls_version)), server(CA)
    with connected_by_tcp() as (ours, theirs):
        ends = shake(caller, answerer, ours, theirs)
        pass_bytes(ends[1].channel, ends[0].channel, b"hello")
        caller.keep_session(ends[0])
        first, second = ends if cut == "client resets" else reversed(ends)
        first.channel.reset()
        select.select([second.channel.fd], [], [], 5)
        assert (read(second.channel, SCRATCH), second.channel.end) == (b"", End.RESET)
        second.channel.reset()

    assert talk(caller, answerer).resumed is True


@VERSIONS
def test_a_session_whose_connection_ended_in_an_alert_is_not_resumed(tls_version):
    caller, answerer = client(CA, tls=version(tls_version)), server(CA)
    with connected() as (ours, theirs):
        ends = shake(caller, answerer, ours, theirs)
        pass_bytes(ends[1].channel, ends[0].channel, b"hello")
        caller.keep_session(ends[0])
        ours.send(b"\x17\x03\x03\x00\x20" + bytes(32))  # no record of this connection
        read(ends[1].channel, SCRATCH)
        read(ends[0].channel, SCRATCH)
        assert ends[0].channel.alert == 20
        for end in ends:
            end.channel.close()

    assert talk(caller, answerer).resumed is False


def test_a_tls_1_3_client_knows_that_it_was_accepted_when_a_ticket_comes_whatever_the_number_of_tickets():
    caller, answerer = client(CA, tls=version("1.3")), server(CA)
    with connected() as (ours, theirs):
        ends = shake(caller, answerer, ours, theirs)
        assert ends[0].ticket_has_come() is False
        if engine().name == "openssl":
            assert read(ends[0].channel, SCRATCH) == b""  # both tickets are read here, and no bytes behind them
        else:
            assert pass_bytes(ends[1].channel, ends[0].channel, b"x") == b"x"  # with which the ticket comes
        assert ends[0].ticket_has_come() is True
        for end in ends:
            end.channel.close()
        assert ends[0].ticket_has_come() is False
        assert ends[0].session() is None


def test_a_session_before_any_ticket_resumes_nothing():
    caller, answerer = client(CA, tls=version("1.3")), server(CA)
    with connected() as (ours, theirs):
        ends = shake(caller, answerer, ours, theirs)
        caller.keep_session(ends[0])
        for end in ends:
            end.channel.close()

    assert talk(caller, answerer).resumed is False


def test_a_resumption_after_a_hello_retry_is_judged_too():
    caller = client(CA, tls=TlsConfig(min_version="1.3", groups=("X25519", "P-384")))
    answerer = server(CA, tls=TlsConfig(groups=("P-384",)))
    first, second = talk(caller, answerer), talk(caller, answerer)

    assert [first.resumed, second.resumed] == [False, True]
    assert second.server_facts.group == "P-384"
    answerer.admit = lambda peer: (_ for _ in ()).throw(Rejected(Reason.DENIED, "changed"))
    assert meet(caller, answerer).reasons[1] == Reason.DENIED


@VERSIONS
@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt()], ids=repr)
def test_a_bug_while_a_resumed_peer_is_judged_lets_nobody_in(error, tls_version, capfd):
    caller, answerer = client(CA, tls=version(tls_version)), server(CA)
    talk(caller, answerer)

    def judge(*_presented):
        raise error

    if engine().name == "openssl":
        answerer.peers.remembered = types.SimpleNamespace(get=judge)
    else:
        answerer.verifier = types.SimpleNamespace(recall=judge)
    with connected() as (ours, theirs):
        caller_end, answerer_end = caller.connect(ours), answerer.accept(theirs)
        with pytest.raises(type(error)):
            drive(caller_end, answerer_end)
        if engine().name == "openssl":  # BoringSSL can end a handshake at a ticket, and says nothing then, or not much
            with pytest.raises(Rejected, match="internal_error"):
                caller_end.step()
        assert (answerer_end.peer, answerer_end.permit) == (None, None)
    assert capfd.readouterr() == ("", "")


@VERSIONS
@pytest.mark.engine("openssl")
def test_a_resumed_peer_is_judged_also_when_the_hello_callback_was_lost(tls_version):
    caller, answerer = client(CA, tls=version(tls_version)), server(CA)
    talk(caller, answerer)
    binding.lib.SSL_CTX_set_tlsext_servername_callback(answerer._ssl_context._context, binding.ffi.NULL)

    def admit(_peer):
        raise Rejected(Reason.DENIED, "changed")

    answerer.admit = admit

    assert meet(caller, answerer).reasons[1] == Reason.DENIED


@VERSIONS
def test_no_ticket_allows_early_data(tls_version):
    caller, answerer = client(CA, tls=version(tls_version)), server(CA)
    talk(caller, answerer)
    session = caller._sessions[""].session

    if engine().name == "openssl":
        assert binding.lib.SSL_SESSION_get_max_early_data(session) == 0
    else:
        from proxy.tls import boringbinding

        assert boringbinding.lib.bs_session_early_data(session) == 0


# BoringSSL: the chain is in the ticket, and the key is ours.


@VERSIONS
@pytest.mark.engine("boringssl")
def test_a_ticket_opens_in_another_context_with_the_same_key_as_in_another_worker(tls_version):
    low, key = chain_of(2, CA), TicketKey.random()
    caller, svid = client(CA, svid=minting.svid(low), tls=version(tls_version)), minting.svid(CA)
    workers = [server(CA, svid=svid, ticket_key=key) for _ in range(3)]

    talks = [talk(caller, worker) for worker in workers]

    assert [one.resumed for one in talks] == [False, True, True]
    assert [len(one.server.peer.path) for one in talks] == [4, 4, 4]  # judged in full, with its intermediates


@VERSIONS
@pytest.mark.engine("boringssl")
def test_a_client_whose_certificate_lapsed_since_comes_in_with_the_one_that_it_has_now(tls_version):
    clock, key = Clock(), TicketKey.random()
    short = minting.svid(CA, lifetime_s=60)
    caller, answerer = client(CA, svid=short, tls=version(tls_version)), server(CA, clock=clock, ticket_key=key)
    talk(caller, answerer)
    clock.now += 120
    rotated = client(CA, tls=version(tls_version))
    rotated._sessions = dict(caller._sessions)  # as a client that keeps its sessions over a rotation

    assert talk(rotated, answerer).resumed is False
    assert meet(caller, answerer).reasons[1] == Reason.CERTIFICATE_EXPIRED


@VERSIONS
@pytest.mark.engine("boringssl")
@pytest.mark.parametrize("trusted", [True, False])
def test_a_resumed_peer_is_judged_by_the_bundle_of_now(trusted, tls_version):
    key, other = TicketKey.random(), minting.authority()
    caller, svid = client(CA, tls=version(tls_version)), minting.svid(CA)
    talk(caller, server(CA, svid=svid, ticket_key=key))
    answerer = server(CA, svid=svid, ticket_key=key, bundles={"example.org": CA if trusted else other})

    assert meet(caller, answerer).reasons[1] == (None if trusted else Reason.UNKNOWN_AUTHORITY)


@VERSIONS
@pytest.mark.engine("boringssl")
@given(at=st.integers(0, 2000), change=st.integers(1, 255))
def test_a_ticket_with_any_byte_changed_is_no_ticket(at, change, tls_version):
    caller, answerer = client(CA, tls=version(tls_version)), server(CA, ticket_key=KEY)
    with connected() as (ours, tapped), connected() as (sent_on, theirs):
        talk(caller, answerer)
        first, second = caller.connect(ours), answerer.accept(theirs)
        first.step()
        hello = bytearray(tapped.recv(65536))
        begin = hello.index(KEY.name)
        hello[begin + at % (len(hello) - begin)] ^= change
        sent_on.send(bytes(hello))
        try:
            second.step()
        except Rejected:
            pass
        assert (second.peer, second.resumed) == (None, False)


@pytest.mark.engine("boringssl")
def test_tickets_hold_nothing_in_the_clear():
    caller, answerer = client(CA, tls=version("1.2")), server(CA, ticket_key=KEY)
    conversation = talk(caller, answerer)
    with connected() as (ours, tapped):
        caller.connect(ours).step()
        hello = tapped.recv(65536)

    assert KEY.name in hello
    assert KEY.key not in hello
    assert conversation.server.peer.path[0] not in hello
    assert minting.CART.encode() not in hello


@VERSIONS
@pytest.mark.engine("boringssl")
def test_a_chain_that_was_verified_before_is_known_by_its_digest(tls_version):
    svid, answerer = minting.svid(chain_of(2, CA)), server(CA)
    first = talk(client(CA, svid=svid, tls=version(tls_version)), answerer)
    answerer.verifier = types.SimpleNamespace(recall=answerer.verifier.recall)  # nothing else is asked of it any more

    second = talk(client(CA, svid=svid, tls=version(tls_version)), answerer)

    assert (first.resumed, second.resumed) == (False, False)
    assert second.server.peer == first.server.peer
    assert second.server_facts == first.server_facts


@VERSIONS
@pytest.mark.engine("boringssl")
@pytest.mark.parametrize(("length", "resumes"), [(11_000, True), (13_000, False), (15_500, False)])
def test_no_ticket_makes_a_hello_that_is_too_long_to_be_looked_at(length, resumes, tls_version):
    bulk = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), bytes(length))
    caller = client(CA, svid=minting.forge(CA, replace=[(bulk, False)]), tls=version(tls_version))
    answerer = server(CA)

    assert [talk(caller, answerer).resumed for _ in range(3)] == [False, resumes, resumes]
    with connected() as (ours, tapped):
        caller.connect(ours).step()
        assert len(tapped.recv(65536)) < MAX_HELLO_BYTES
