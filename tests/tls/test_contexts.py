"""What a context's words mean on the wire: versions, suites, groups, ALPN, SNI, what is never done; and its memory."""

import gc
import ssl

import pytest
from OpenSSL import SSL

from proxy.core.config import CIPHER_SUITES, DEFAULT_GROUPS, GROUPS, TlsConfig
from proxy.core.reasons import Reason, Rejected
from proxy.tls import binding
from proxy.tls.channel import End, TlsChannel
from proxy.tls.contexts import PeerContext
from proxy.tls.engine import prove
from proxy.tls.handshake import Handshake
from proxy.tls.suites import OPENSSL_SUITES
from tests import minting
from tests.tls.meetings import SCRATCH, Foreign, accept, connect, foreign_client, meet, pass_bytes
from tests.tls.pairs import client, connected, engine, material_of, read, server, shake, verifier_of, version

CA = minting.authority()
VERSIONS = pytest.mark.parametrize("tls_version", ["1.2", "1.3"])


def facts(caller, answerer):
    """What both ends say of a good handshake; they must say the same."""
    with connected() as (ours, theirs):
        ends = shake(caller, answerer, ours, theirs)
        assert not any(isinstance(end, Rejected) for end in ends), ends
        told = [end.facts() for end in ends]
        for end in ends:
            end.channel.close()
    for name in ("version", "cipher", "group", "sni", "alpn", "resumed"):
        assert getattr(told[0], name) == getattr(told[1], name)
    return told[1]


# Versions, suites and groups.


@pytest.mark.parametrize(
    ("ours", "theirs", "spoken"),
    [
        (TlsConfig(), TlsConfig(), "TLSv1.3"),
        (TlsConfig(max_version="1.2"), TlsConfig(), "TLSv1.2"),
        (TlsConfig(), TlsConfig(max_version="1.2"), "TLSv1.2"),
        (TlsConfig(min_version="1.3"), TlsConfig(), "TLSv1.3"),
    ],
)
def test_the_highest_version_in_common_is_spoken(ours, theirs, spoken):
    assert facts(client(CA, tls=ours), server(CA, tls=theirs)).version == spoken


@pytest.mark.parametrize("suite", CIPHER_SUITES)
def test_each_suite_of_tls_1_2_works_alone_and_goes_by_its_iana_name(suite):
    key_type = "rsa-2048" if "_RSA_" in suite else "ecdsa-p256"
    words = TlsConfig(max_version="1.2", cipher_suites=(suite,))

    assert facts(client(CA), server(CA, svid=minting.svid(CA, key_type=key_type), tls=words)).cipher == suite


def test_the_suites_are_exactly_those_of_the_contract():
    assert set(OPENSSL_SUITES) == set(CIPHER_SUITES)


@pytest.mark.parametrize("ours", [CIPHER_SUITES, CIPHER_SUITES[::-1]], ids=["our order", "reversed"])
@pytest.mark.parametrize("theirs", [CIPHER_SUITES, CIPHER_SUITES[::-1]], ids=["our order", "reversed"])
def test_the_order_of_the_server_decides(ours, theirs):
    spoken = facts(
        client(CA, tls=TlsConfig(max_version="1.2", cipher_suites=ours)),
        server(CA, tls=TlsConfig(cipher_suites=theirs)),
    )

    assert spoken.cipher == next(suite for suite in theirs if "_ECDSA_" in suite)


def test_ecdsa_stands_before_rsa_for_every_cipher():
    for ecdsa, rsa in zip(CIPHER_SUITES[::2], CIPHER_SUITES[1::2], strict=True):
        assert rsa == ecdsa.replace("_ECDSA_", "_RSA_")


@VERSIONS
@pytest.mark.parametrize("group", GROUPS)
def test_each_group_works_alone_where_its_version_knows_it(group, tls_version):
    # In TLS 1.2 the list also restricts the curves of certificates, and post-quantum groups do not exist.
    words = TlsConfig(min_version=tls_version, max_version=tls_version, groups=(group, "P-256"))
    if group not in engine().groups:
        with pytest.raises(Rejected, match=group):
            client(CA, tls=words)
        return
    told = facts(client(CA, tls=words), server(CA, tls=words))

    assert told.group == ("P-256" if tls_version == "1.2" and "MLKEM" in group else group)


@pytest.mark.parametrize(
    ("ours", "theirs", "agreed"),
    [
        (DEFAULT_GROUPS, DEFAULT_GROUPS, "X25519MLKEM768"),
        (("X25519", "P-256"), DEFAULT_GROUPS, "X25519"),
        (("P-384",), DEFAULT_GROUPS, "P-384"),
        (("X25519", "P-384"), ("P-384",), "P-384"),  # by a hello retry
    ],
)
def test_the_groups_of_both_sides_are_honoured(ours, theirs, agreed):
    assert facts(client(CA, tls=TlsConfig(groups=ours)), server(CA, tls=TlsConfig(groups=theirs))).group == agreed


def test_a_group_that_the_engine_does_not_know_is_a_fault_of_the_configuration():
    with pytest.raises(Rejected) as caught:
        server(CA, tls=TlsConfig(groups=("X25519", "P-1024")))
    assert (caught.value.reason, "X25519, P-1024" in caught.value.detail) == (Reason.CONFIG_FAULT, True)


# ALPN and SNI.


@VERSIONS
@pytest.mark.parametrize(
    ("offered", "ours", "selected"),
    [
        (("h2", "http/1.1"), ("http/1.1", "h2"), "http/1.1"),
        (("http/1.1", "h2"), ("h2", "http/1.1"), "h2"),
        (("http/1.1",), ("h2", "http/1.1"), "http/1.1"),
        (("spdy/3",), ("h2",), None),
        (("h",), ("h2",), None),
        (("h2c", "xh2"), ("h2",), None),
        (("h2",), (), None),
        ((), ("h2",), None),
        ((), (), None),
        (("a" * 255, "b"), ("a" * 255,), "a" * 255),
    ],
)
def test_the_server_picks_the_first_of_its_protocols_that_is_offered_and_else_none(
    offered, ours, selected, tls_version
):
    assert facts(client(CA, alpn=offered), server(CA, alpn=ours, tls=version(tls_version))).alpn == selected


@VERSIONS
@pytest.mark.parametrize("name", ["payments.shop.svc.cluster.local", None])
def test_the_server_name_is_sent_when_there_is_one(name, tls_version):
    assert facts(client(CA, server_name=name), server(CA, tls=version(tls_version))).sni == name


@VERSIONS
def test_the_facts_of_a_handshake_are_all_there(tls_version):
    suite_of_tls_1_3 = {"openssl": "TLS_AES_256_GCM_SHA384", "boringssl": "TLS_AES_128_GCM_SHA256"}[engine().name]
    svid = minting.svid(CA, "spiffe://example.org/ns/shop/sa/web")

    told = facts(
        client(CA, svid=svid, server_name="a.example", alpn=("h2",)), server(CA, alpn=("h2",), tls=version(tls_version))
    )

    assert {name: getattr(told, name) for name in told.__struct_fields__} == {
        "version": f"TLSv{tls_version}",
        "cipher": suite_of_tls_1_3 if tls_version == "1.3" else CIPHER_SUITES[0],
        "group": "X25519MLKEM768" if tls_version == "1.3" else "X25519",
        "sni": "a.example",
        "alpn": "h2",
        "resumed": False,
        "peer_spiffe_id": "spiffe://example.org/ns/shop/sa/web",
        "peer_serial": f"{svid.leaf.serial_number:x}",
        "peer_not_after": f"{svid.leaf.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}",
    }


# What is never done.


def test_a_client_that_asks_for_renegotiation_gets_none_and_nobody_is_judged_again(capfd):
    answerer = server(CA)
    svid = minting.svid(CA)
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    context.use_certificate(svid.leaf)
    context.use_privatekey(svid.key)
    with connected() as (ours, theirs):
        peer = SSL.Connection(context, ours)
        peer.set_connect_state()
        handshake = answerer.accept(theirs)
        for _ in range(3):
            _patiently(peer.do_handshake)
            handshake.step()
        before = handshake.peer
        assert peer.renegotiate()
        _patiently(peer.do_handshake)  # the new ClientHello is on its way

        assert read(handshake.channel, SCRATCH) == b""
        assert handshake.channel.end is {"openssl": None, "boringssl": End.PROTOCOL}[engine().name]
        with pytest.raises(SSL.Error, match="no renegotiation"):
            _patiently(peer.do_handshake)
        assert handshake.peer is before
    assert capfd.readouterr() == ("", "")


def _patiently(operation):
    try:
        operation()
    except SSL.WantReadError:
        pass


@VERSIONS
def test_nothing_is_compressed_although_the_client_would(tls_version, tmp_path):
    most = {"most": "TLSv1_2"} if tls_version == "1.2" else {"least": "TLSv1_3"}
    context = foreign_client(tmp_path, minting.svid(CA), **most)
    context.options &= ~ssl.OP_NO_COMPRESSION
    with connected() as (ours, theirs):
        peer = Foreign(context, ours)
        assert isinstance(accept(server(CA), theirs, peer), Handshake)
        assert (peer.tls.compression(), peer.tls.version()) == (None, f"TLSv{tls_version}")
        peer.close()


@VERSIONS
def test_a_foreign_client_and_a_foreign_server_are_understood(tls_version, tmp_path):
    most = {"most": "TLSv1_2"} if tls_version == "1.2" else {"least": "TLSv1_3"}
    with connected() as (ours, theirs):
        peer = Foreign(foreign_client(tmp_path, minting.svid(CA), **most), ours)
        handshake = accept(server(CA), theirs, peer)
        assert (handshake.version, str(handshake.peer.spiffe_id)) == (f"TLSv{tls_version}", minting.CART)
        assert handshake.facts().sni == "payments.example"
        peer.close()

    svid = minting.svid(CA)
    (tmp_path / "server.pem").write_bytes(svid.cert_pem + svid.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    with connected() as (ours, theirs):
        peer = Foreign(context, theirs, server=True)
        handshake = connect(client(CA, tls=version(tls_version)), ours, peer)
        assert str(handshake.peer.spiffe_id) == minting.CART
        peer.close()


# A generation is proven by a handshake with itself.


@pytest.mark.parametrize("words", [TlsConfig(), version("1.2"), version("1.3")], ids=["both", "1.2", "1.3"])
@pytest.mark.parametrize("key_type", ["ecdsa-p256", "ecdsa-p384", "rsa-2048", "ed25519"])
def test_good_material_proves_itself_in_every_version(key_type, words):
    material = material_of(minting.svid(CA, key_type=key_type), CA)

    prove(engine(), material, words, verifier_of({"example.org": CA}), lambda: minting.clock().timestamp())


def test_material_that_nobody_could_use_does_not_prove_itself():
    verifier, clock = verifier_of({"example.org": CA}), lambda: minting.clock().timestamp()
    stranger = material_of(minting.svid(minting.authority()), CA)
    wrong_key = type(stranger)(
        chain=minting.svid(CA).chain,
        key=minting.leaf_key(),
        identity=stranger.identity,
        bundles=stranger.bundles,
        digest=b"",
    )
    p384 = material_of(minting.svid(CA, key_type="ecdsa-p384"), CA)

    for material, words, reason in (
        (stranger, TlsConfig(), Reason.UNKNOWN_AUTHORITY),
        (wrong_key, TlsConfig(), Reason.KEY_MISMATCH),
        (p384, TlsConfig(groups=("X25519", "P-256")), Reason.NO_SHARED_CIPHER),  # in TLS 1.2 alone
    ):
        with pytest.raises(Rejected) as caught:
            prove(engine(), material, words, verifier, clock)
        assert caught.value.reason == reason


# Memory.


def test_a_thousand_handshakes_good_and_bad_leave_nothing_behind():
    caller, answerer = client(CA), server(CA)
    unknown = client(CA, svid=minting.svid(minting.authority()))
    wrong = client(CA, server_ids=("spiffe://example.org/other",))

    def rounds(count):
        for _ in range(count):
            for one in (caller, unknown, wrong):
                meet(one, answerer)
        gc.collect()

    rounds(60)
    living, before = _living(), _resident_kib()
    rounds(330)

    assert _living() == living
    assert _resident_kib() - before < 3000  # one SSL with its certificates is more than 20 KiB


def _living() -> int:
    return sum(isinstance(thing, Handshake | TlsChannel) for thing in gc.get_objects())


def _resident_kib() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4


def test_an_ended_connection_frees_its_ssl_without_the_garbage_collector():
    caller, answerer = client(CA), server(CA)
    with connected() as (ours, theirs):
        ends = shake(caller, answerer, ours, theirs)
        pass_bytes(ends[0].channel, ends[1].channel, b"x")
        ends[0].channel.close()
        ends[1].channel.release()

        for channel in (end.channel for end in ends):
            if engine().name == "openssl":
                assert channel.ssl == binding.ffi.NULL
            else:
                assert channel.connection.inner == binding.ffi.NULL
        assert theirs.fileno() >= 0  # release leaves the socket to be drained


def test_contexts_of_old_generations_go_when_nobody_uses_them():
    def living() -> int:
        gc.collect()
        return sum(isinstance(thing, SSL.Context | PeerContext) for thing in gc.get_objects())

    before = living()
    for _ in range(5):
        meet(client(CA), server(CA))

    assert living() == before
