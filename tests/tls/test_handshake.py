"""How a handshake ends: every reason on either side, and the alert that tells the peer."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from proxy.core.config import CIPHER_SUITES, TlsConfig
from proxy.core.policy import Policy
from proxy.core.reasons import Reason, Rejected
from proxy.core.spiffe import parse_pattern
from proxy.tls.authority import Svid
from proxy.tls.channel import alert_name
from proxy.tls.handshake import Step
from tests import minting
from tests.tls.chains import chain_of, signed_again, svid_below
from tests.tls.meetings import SCRATCH, Foreign, accept, drive, foreign_client, meet, pass_bytes
from tests.tls.pairs import INBOUND, client, connected, policy_alert, read, server, version

CA = minting.authority()
STRANGER = minting.authority()
PARTNER = minting.authority("partner.example")
CRITICAL = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\0"), True)
VERSIONS = pytest.mark.parametrize("tls_version", ["1.2", "1.3"])

BROKEN = pytest.mark.parametrize(
    ("svid", "reason", "alert"),
    [
        (minting.svid(STRANGER), Reason.UNKNOWN_AUTHORITY, "unknown_ca"),
        (minting.forge(PARTNER), Reason.UNKNOWN_AUTHORITY, "unknown_ca"),
        (minting.svid(PARTNER), Reason.WRONG_TRUST_DOMAIN, "unknown_ca"),
        (minting.expired(CA), Reason.CERTIFICATE_EXPIRED, "certificate_expired"),
        (minting.not_yet_valid(CA), Reason.CERTIFICATE_NOT_YET_VALID, "certificate_expired"),
        (minting.forge(CA, replace=[CRITICAL]), Reason.CERTIFICATE_INVALID, "bad_certificate"),
        (minting.with_uris(CA, "spiffe://Example.org/x"), Reason.SPIFFE_ID_MALFORMED, "bad_certificate"),
        (minting.with_uris(CA, minting.CART, minting.CART), Reason.NOT_AN_SVID, "unsupported_certificate"),
        (minting.without_san(CA), Reason.NOT_AN_SVID, "unsupported_certificate"),
        (minting.as_ca(CA), Reason.NOT_AN_SVID, "unsupported_certificate"),
        (svid_below(chain_of(1, CA)), Reason.UNKNOWN_AUTHORITY, "unknown_ca"),
    ],
    ids=[
        "another CA of the same domain",
        "our name by the CA of another domain",
        "another domain",
        "expired",
        "not yet valid",
        "unknown critical extension",
        "malformed ID",
        "two IDs",
        "no ID",
        "a CA",
        "missing intermediate",
    ],
)


@VERSIONS
@BROKEN
def test_a_client_that_does_not_prove_its_id_is_told_why(svid, reason, alert, tls_version):
    met = meet(client(CA, svid=svid, tls=version(tls_version)), server(CA))

    # In TLS 1.3 the client is done before the server judges: the alert is the first thing that it reads.
    client_reason = Reason.UPSTREAM_REJECTED_US if tls_version == "1.2" else None
    assert met.reasons == (client_reason, reason)
    assert (met.alert_to_client, met.alert_to_server) == (alert, None)


@VERSIONS
@BROKEN
def test_a_server_that_does_not_prove_its_id_is_told_why(svid, reason, alert, tls_version):
    met = meet(client(CA), server(CA, svid=svid, tls=version(tls_version)))

    assert met.reasons == (reason, Reason.HANDSHAKE_FAILED)
    assert (met.alert_to_client, met.alert_to_server) == (None, alert)


@VERSIONS
@pytest.mark.parametrize(("domain", "other"), [(CA, PARTNER), (PARTNER, CA)], ids=["a", "b"])
def test_federation_lets_in_both_domains_and_neither_speaks_for_the_other(domain, other, tls_version):
    both = {"example.org": CA, "partner.example": PARTNER}
    everybody = ("spiffe://example.org/**", "spiffe://partner.example/**")
    spoofed = minting.forge(other, f"spiffe://{domain.trust_domain}/ns/shop/sa/cart")
    words = version(tls_version)

    def ends(client_svid, server_svid):
        return meet(
            client(CA, svid=client_svid, bundles=both, server_ids=everybody, tls=words),
            server(CA, svid=server_svid, bundles=both, allow=everybody),
        )

    honest = ends(minting.svid(domain), minting.svid(other))
    assert honest.reasons == (None, None)
    assert str(honest.server.peer.spiffe_id.trust_domain) == domain.trust_domain
    assert ends(spoofed, minting.svid(other)).reasons[1] == Reason.UNKNOWN_AUTHORITY
    assert ends(minting.svid(other), spoofed).reasons[0] == Reason.UNKNOWN_AUTHORITY


@VERSIONS
@pytest.mark.parametrize("reason", [Reason.NOT_ALLOWED, Reason.DENIED])
def test_policy_is_judged_inside_the_handshake_so_that_a_client_gets_an_alert(reason, tls_version):
    cart = parse_pattern(minting.CART)
    policy = Policy((cart,), (cart,)) if reason is Reason.DENIED else Policy(())
    strict = server(CA)
    strict.admit = lambda peer: policy.authorize(peer, INBOUND)

    met = meet(client(CA, tls=version(tls_version)), strict)

    assert met.reasons[1] == reason
    assert met.alert_to_client == policy_alert()


@VERSIONS
def test_a_server_with_the_wrong_identity_gets_an_alert(tls_version):
    met = meet(client(CA, server_ids=("spiffe://example.org/other",)), server(CA, tls=version(tls_version)))

    assert met.reasons == (Reason.SERVER_ID_MISMATCH, Reason.HANDSHAKE_FAILED)
    assert met.alert_to_server == policy_alert()
    assert "the client does not accept our certificate" in met.server.detail


@VERSIONS
def test_a_refused_peer_whose_certificate_was_seen_has_its_name_in_the_facts(tls_version):
    with connected() as (ours, theirs):
        caller, answerer = client(CA, svid=minting.svid(STRANGER)).connect(ours), server(CA).accept(theirs)
        with pytest.raises(Rejected):
            drive(caller, answerer)

        facts = answerer.facts()
        assert (facts.peer_spiffe_id, facts.version, facts.resumed) == (minting.CART, None, False)
        assert (answerer.peer, answerer.permit) == (None, None)


def test_in_tls_1_3_the_refusal_comes_after_the_clients_end_of_the_handshake():
    with connected() as (ours, theirs):
        caller = client(CA, tls=version("1.3")).connect(ours)
        answerer = server(CA, allow=("spiffe://example.org/other",)).accept(theirs)
        assert caller.step() is Step.WANT_READ
        assert answerer.step() is Step.WANT_READ
        assert caller.step() is Step.DONE  # which proves nothing
        assert caller.ticket_has_come() is False
        with pytest.raises(Rejected):
            answerer.step()

        assert read(caller.channel, SCRATCH) == b""
        assert alert_name(caller.channel.alert) == policy_alert()
        assert caller.ticket_has_come() is False


@VERSIONS
@pytest.mark.parametrize("key_type", ["ecdsa-p256", "ecdsa-p384", "rsa-2048", "ed25519"])
@pytest.mark.parametrize("intermediates", [0, 2])
def test_every_key_type_shakes_hands_in_both_roles_with_intermediates_too(key_type, intermediates, tls_version):
    issuer = chain_of(intermediates, CA)
    svids = [minting.svid(issuer, key_type=key_type, slot=slot) for slot in (0, 1)]

    met = meet(client(CA, svid=svids[0]), server(CA, svid=svids[1], tls=version(tls_version)))

    assert met.reasons == (None, None)
    assert [str(end.peer.spiffe_id) for end in (met.client, met.server)] == [minting.CART, minting.CART]
    assert len(met.server.peer.path) == intermediates + 2
    assert met.server.permit.peer == met.server.peer.spiffe_id
    assert met.client.permit is None


@VERSIONS
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)], ids=str)
def test_the_root_sent_along_or_a_chain_in_the_wrong_order_does_no_harm(order, tls_version):
    low = chain_of(2, CA)
    svid = svid_below(low, *(low.chain[i] for i in order))

    assert meet(client(CA, svid=svid), server(CA, svid=svid, tls=version(tls_version))).reasons == (None, None)


@VERSIONS
def test_a_strangers_root_sent_along_lets_nobody_in(tls_version):
    low = chain_of(1, STRANGER)
    svid = svid_below(low, *low.chain)

    met = meet(client(CA, svid=svid, tls=version(tls_version)), server(CA))

    assert met.reasons[1] == Reason.UNKNOWN_AUTHORITY
    assert meet(client(CA), server(CA, svid=svid)).reasons[0] == Reason.UNKNOWN_AUTHORITY


# What the two sides do not share.

SUITES = CIPHER_SUITES


@pytest.mark.parametrize(
    ("ours", "theirs", "reason", "alert"),
    [
        (version("1.2"), version("1.3"), Reason.UNSUPPORTED_TLS_VERSION, "protocol_version"),
        (version("1.3"), version("1.2"), Reason.UNSUPPORTED_TLS_VERSION, "protocol_version"),
        (
            TlsConfig(max_version="1.2", groups=("X25519",)),
            TlsConfig(groups=("P-256",)),
            Reason.NO_SHARED_CIPHER,
            "handshake_failure",
        ),
        (
            TlsConfig(min_version="1.3", groups=("X25519",)),
            TlsConfig(groups=("P-256",)),
            Reason.NO_SHARED_CIPHER,
            "handshake_failure",
        ),
        (
            TlsConfig(max_version="1.2", cipher_suites=SUITES[:1]),
            TlsConfig(cipher_suites=SUITES[2:3]),
            Reason.NO_SHARED_CIPHER,
            "handshake_failure",
        ),
        (
            TlsConfig(max_version="1.2", cipher_suites=SUITES[1:2]),
            TlsConfig(),
            Reason.NO_SHARED_CIPHER,  # an RSA suite, and the server has an ECDSA key
            "handshake_failure",
        ),
    ],
    ids=["1.2 to 1.3", "1.3 to 1.2", "groups 1.2", "groups 1.3", "suites 1.2", "RSA suite for an ECDSA key"],
)
def test_both_sides_name_what_they_do_not_share(ours, theirs, reason, alert):
    met = meet(client(CA, tls=ours), server(CA, tls=theirs))

    assert met.reasons == (reason, reason)
    assert met.alert_to_client == alert


@pytest.mark.parametrize(
    ("foreign", "reason", "alert"),
    [
        (foreign_client(most="TLSv1_2"), Reason.NO_CLIENT_CERTIFICATE, "SSLV3_ALERT_HANDSHAKE_FAILURE"),
        (foreign_client(least="TLSv1_3"), Reason.NO_CLIENT_CERTIFICATE, "TLSV13_ALERT_CERTIFICATE_REQUIRED"),
        (
            foreign_client(least="TLSv1", most="TLSv1_1"),
            Reason.UNSUPPORTED_TLS_VERSION,
            "TLSV1_ALERT_PROTOCOL_VERSION",
        ),
        (
            foreign_client(most="TLSv1_2", ciphers="ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES128-SHA256"),
            Reason.NO_SHARED_CIPHER,
            "SSLV3_ALERT_HANDSHAKE_FAILURE",
        ),
        (
            foreign_client(most="TLSv1_2", ciphers="AES128-GCM-SHA256:DHE-RSA-AES128-GCM-SHA256"),
            Reason.NO_SHARED_CIPHER,
            "SSLV3_ALERT_HANDSHAKE_FAILURE",
        ),
    ],
    ids=["no certificate 1.2", "no certificate 1.3", "TLS 1.1", "CBC suites", "no forward secrecy"],
)
def test_a_foreign_client_is_refused_with_the_standards_alert(foreign, reason, alert):
    with connected() as (ours, theirs):
        peer = Foreign(foreign, ours)
        refused = accept(server(CA), theirs, peer)
        peer.close()

    assert isinstance(refused, Rejected)
    assert (refused.reason, peer.error) == (reason, alert)


@VERSIONS
@pytest.mark.parametrize("weakness", ["SHA-1", "RSA-1024"])
def test_a_weak_certificate_is_refused_in_the_handshake_too(weakness, tls_version, tmp_path):
    root = minting.authority(key_type="rsa-2048")
    svid = minting.svid(root)
    if weakness == "SHA-1":
        svid = Svid(svid.spiffe_id, (signed_again(svid.leaf, root, "sha1"),), svid.key)
    else:
        svid = root.issue(minting.CART, now=minting.clock(), lifetime_s=60, key=rsa.generate_private_key(65537, 1024))
    versions = {"least": "TLSv1_3"} if tls_version == "1.3" else {"most": "TLSv1_2"}
    with connected() as (ours, theirs):
        peer = Foreign(foreign_client(tmp_path, svid, **versions), ours)
        refused = accept(server(CA, bundles={"example.org": root}), theirs, peer)
        peer.close()

    assert isinstance(refused, Rejected)
    assert (refused.reason, peer.error) == (Reason.CERTIFICATE_INVALID, "SSLV3_ALERT_BAD_CERTIFICATE")


@VERSIONS
def test_bytes_go_both_ways_when_the_handshake_is_done(tls_version):
    with connected() as (ours, theirs):
        caller, answerer = client(CA, tls=version(tls_version)).connect(ours), server(CA).accept(theirs)
        steps = [end.step() for _ in range(3) for end in (caller, answerer)]
        assert steps[-2:] == [Step.DONE, Step.DONE]

        assert pass_bytes(caller.channel, answerer.channel, b"ping") == b"ping"
        assert pass_bytes(answerer.channel, caller.channel, b"pong") == b"pong"
