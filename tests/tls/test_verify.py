"""Who a chain proves its holder to be: leaf, trust domain, federation, time, and what the Verifier keeps in memory."""

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.reasons import Reason, Rejected
from proxy.core.spiffe import parse_trust_domain
from proxy.tls import binding, verify
from proxy.tls.verify import PeerIdentity, Purpose, Verifier
from tests import minting
from tests.tls.chains import der, ders
from tests.tls.pairs import verifier_of

ROOT = minting.authority()
GOOD = minting.svid(ROOT)
ALONE = verifier_of({minting.DOMAIN: ROOT})


def judge(verifier: Verifier, svid, purpose: Purpose = Purpose.CLIENT, now: float | None = None) -> PeerIdentity:
    return verifier.verify_der(ders(svid.chain), purpose, minting.now_s() if now is None else now)


def refusal(verifier: Verifier, svid, purpose: Purpose = Purpose.CLIENT, now: float | None = None) -> Rejected:
    with pytest.raises(Rejected) as caught:
        judge(verifier, svid, purpose, now)
    return caught.value


@pytest.mark.parametrize("purpose", Purpose)
@pytest.mark.parametrize("issuer_key", ["ecdsa-p256", "ecdsa-p384", "rsa-2048", "ed25519"])
@pytest.mark.parametrize("leaf_key", ["ecdsa-p256", "ecdsa-p384", "rsa-2048", "ed25519"])
def test_a_good_chain_of_every_key_type_proves_its_id(leaf_key, issuer_key, purpose):
    issuer = minting.authority(key_type=issuer_key)
    svid = minting.svid(issuer, key_type=leaf_key)

    peer = judge(verifier_of({minting.DOMAIN: issuer}), svid, purpose)

    assert str(peer.spiffe_id) == minting.CART
    assert peer.path == (der(svid.leaf), der(issuer.certificate))
    assert peer.svid.serial == f"{svid.leaf.serial_number:x}"
    assert peer.lapses_at == svid.leaf.not_valid_after_utc.timestamp()
    assert peer.valid_from == svid.leaf.not_valid_before_utc.timestamp()


@pytest.mark.parametrize("purpose", Purpose)
@pytest.mark.parametrize(
    ("svid", "reason"),
    [
        (minting.with_uris(ROOT), Reason.NOT_AN_SVID),
        (minting.with_uris(ROOT, minting.CART, minting.CART + "2"), Reason.NOT_AN_SVID),
        (minting.without_san(ROOT), Reason.NOT_AN_SVID),
        (minting.as_ca(ROOT), Reason.NOT_AN_SVID),
        (minting.with_extended_key_usage(ROOT, minting.SERVER_AUTH), Reason.NOT_AN_SVID),
        (minting.with_extended_key_usage(ROOT, minting.CLIENT_AUTH), Reason.NOT_AN_SVID),
        (minting.without_key_usage(ROOT), Reason.NOT_AN_SVID),
        (minting.without_digital_signature(ROOT), Reason.NOT_AN_SVID),
        (minting.with_key_usage(ROOT, "digital_signature", "key_cert_sign"), Reason.NOT_AN_SVID),
        (minting.with_uris(ROOT, "https://example.org/ns/shop"), Reason.SPIFFE_ID_MALFORMED),
        (minting.with_uris(ROOT, "spiffe://Example.org/ns/shop"), Reason.SPIFFE_ID_MALFORMED),
        (minting.with_uris(ROOT, "spiffe://example.org"), Reason.SPIFFE_ID_MALFORMED),
        (minting.with_uris(ROOT, "spiffe://example.org/a/../b"), Reason.SPIFFE_ID_MALFORMED),
        (minting.expired(ROOT), Reason.CERTIFICATE_EXPIRED),
        (minting.not_yet_valid(ROOT), Reason.CERTIFICATE_NOT_YET_VALID),
        (minting.forge(ROOT, "spiffe://other.org/ns/shop/sa/cart"), Reason.WRONG_TRUST_DOMAIN),
        (minting.svid(minting.authority()), Reason.UNKNOWN_AUTHORITY),
        (
            minting.forge(ROOT, replace=[(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\0"), True)]),
            Reason.CERTIFICATE_INVALID,
        ),
    ],
    ids=lambda value: value if isinstance(value, Reason) else "",
)
def test_a_leaf_that_is_no_good_is_refused_for_what_is_wrong_with_it(svid, reason, purpose):
    assert refusal(ALONE, svid, purpose).reason == reason


def test_an_extended_key_usage_is_not_required():
    assert str(judge(ALONE, minting.with_extended_key_usage(ROOT)).spiffe_id) == minting.CART


def test_nobody_without_a_certificate_is_let_in():
    with pytest.raises(Rejected) as caught:
        ALONE.verify([], Purpose.CLIENT, minting.now_s())
    assert caught.value.reason == Reason.NO_CLIENT_CERTIFICATE


# Trust domains: every bundle vouches for its own names alone.


@pytest.mark.parametrize("purpose", Purpose)
@pytest.mark.parametrize(
    ("issuing", "named"), [("example.org", "partner.example"), ("partner.example", "example.org")], ids=["a", "b"]
)
def test_a_name_in_one_domain_that_another_domains_ca_issued_is_refused_with_both_bundles_loaded(
    issuing, named, purpose
):
    authorities = {"example.org": ROOT, "partner.example": minting.authority("partner.example")}
    verifier = verifier_of(authorities)
    spoofed = minting.forge(authorities[issuing], f"spiffe://{named}/ns/shop/sa/cart")
    honest = minting.forge(authorities[issuing], f"spiffe://{issuing}/ns/shop/sa/cart")

    assert refusal(verifier, spoofed, purpose).reason == Reason.UNKNOWN_AUTHORITY
    assert str(judge(verifier, honest, purpose).spiffe_id) == honest.spiffe_id


def test_the_ca_of_another_domain_does_not_help_when_it_is_sent_along():
    partner = minting.authority("partner.example")
    verifier = verifier_of({"example.org": ROOT, "partner.example": partner})
    spoofed = minting.forge(partner)

    with pytest.raises(Rejected) as caught:
        verifier.verify_der(
            ders([spoofed.leaf, partner.certificate, ROOT.certificate]), Purpose.CLIENT, minting.now_s()
        )
    assert caught.value.reason == Reason.UNKNOWN_AUTHORITY


def test_a_domain_without_a_bundle_is_named_and_so_are_those_that_have_one():
    refused = refusal(ALONE, minting.svid(minting.authority("partner.example")))

    assert refused.reason == Reason.WRONG_TRUST_DOMAIN
    assert "partner.example" in refused.detail
    assert refused.detail.endswith("there is one for: example.org")


def test_without_any_bundle_nobody_is_known():
    assert refusal(Verifier({}), GOOD).reason == Reason.WRONG_TRUST_DOMAIN


def test_an_empty_bundle_trusts_nobody():
    verifier = Verifier({parse_trust_domain("example.org"): ()})

    assert refusal(verifier, GOOD).reason == Reason.UNKNOWN_AUTHORITY


@pytest.mark.parametrize("domain", ["example.org.evil", "xample.org", "example.org2", "sub.example.org"])
def test_a_domain_that_only_looks_alike_is_another_one(domain):
    assert refusal(ALONE, minting.svid(minting.authority(domain))).reason == Reason.WRONG_TRUST_DOMAIN


# Time: the clock is an argument, both ends of a validity belong to it, and no verdict is remembered.


@pytest.mark.parametrize(
    ("end", "offset_s", "reason"),
    [
        ("not_before", -1.0, Reason.CERTIFICATE_NOT_YET_VALID),
        ("not_before", -0.001, Reason.CERTIFICATE_NOT_YET_VALID),
        ("not_before", 0.0, None),
        ("not_after", 0.0, None),
        ("not_after", 0.001, Reason.CERTIFICATE_EXPIRED),
        ("not_after", 1.0, Reason.CERTIFICATE_EXPIRED),
    ],
)
def test_a_leaf_is_valid_from_its_first_moment_to_its_last(end, offset_s, reason):
    verifier = verifier_of({minting.DOMAIN: ROOT})
    leaf = judge(verifier, GOOD).svid
    at = getattr(leaf, end) + offset_s

    if reason is None:
        assert judge(verifier, GOOD, now=at).svid == leaf
    else:
        assert refusal(verifier, GOOD, now=at).reason == reason
    assert judge(verifier, GOOD).svid == leaf  # neither answer sticks


def test_a_time_refusal_shows_both_clocks():
    detail = refusal(ALONE, GOOD, now=GOOD.leaf.not_valid_after_utc.timestamp() + 3600).detail

    assert f"to {GOOD.leaf.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}" in detail
    assert "our clock says" in detail
    assert detail.startswith("the leaf: ")


def test_a_verified_peer_can_be_asked_again_when_the_clock_has_moved():
    peer = judge(ALONE, GOOD)

    peer.check_time(peer.valid_from)
    peer.check_time(peer.lapses_at)
    for at, reason in (
        (peer.valid_from - 1, Reason.CERTIFICATE_NOT_YET_VALID),
        (peer.lapses_at + 1, Reason.CERTIFICATE_EXPIRED),
    ):
        with pytest.raises(Rejected) as caught:
            peer.check_time(at)
        assert caught.value.reason == reason


# Bytes of strangers.


@given(data=st.binary(max_size=300))
def test_bytes_that_are_no_certificate_are_refused(data):
    with pytest.raises(Rejected) as caught:
        ALONE.verify_der([data], Purpose.CLIENT, minting.now_s())
    assert caught.value.reason == Reason.CERTIFICATE_INVALID


@given(data=st.data())
def test_no_changed_byte_in_a_leaf_goes_unnoticed(data):
    good = der(GOOD.leaf)
    at = data.draw(st.integers(0, len(good) - 1))
    changed = good[:at] + bytes([good[at] ^ data.draw(st.integers(1, 255))]) + good[at + 1 :]

    with pytest.raises(Rejected):
        ALONE.verify_der([changed], Purpose.CLIENT, minting.now_s())


@given(length=st.integers(0, len(der(GOOD.leaf)) - 1))
def test_a_leaf_that_was_cut_off_is_refused(length):
    with pytest.raises(Rejected):
        ALONE.verify_der([der(GOOD.leaf)[:length]], Purpose.CLIENT, minting.now_s())


def test_what_a_leaf_claims_can_be_read_although_nobody_vouches_for_it():
    stranger = minting.svid(minting.authority())

    facts = ALONE.leaf_facts(binding.x509_of(der(stranger.leaf)))

    assert facts is not None
    assert str(facts.spiffe_id) == stranger.spiffe_id
    assert ALONE.leaf_facts(binding.x509_of(der(minting.without_san(ROOT).leaf))) is None


def test_a_leaf_that_breaks_another_rule_is_known_by_name_in_the_log():
    no_svid = minting.with_key_usage(ROOT, "digital_signature", "crl_sign")

    assert refusal(ALONE, no_svid).reason == Reason.NOT_AN_SVID
    assert str(ALONE.leaf_facts(binding.x509_of(der(no_svid.leaf))).spiffe_id) == minting.CART


def test_strangers_cannot_fill_the_memory(monkeypatch):
    monkeypatch.setattr(verify, "_REMEMBERED_CERTIFICATES", 4)
    verifier = verifier_of({minting.DOMAIN: ROOT})
    stranger = minting.authority()
    bulk = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), bytes(10_000)), False)

    for _ in range(6):
        assert refusal(verifier, minting.svid(stranger)).reason == Reason.UNKNOWN_AUTHORITY
    assert refusal(verifier, minting.forge(stranger, replace=[bulk])).reason == Reason.UNKNOWN_AUTHORITY

    assert len(verifier._facts) == 4
    assert max(len(facts.der) for facts in verifier._facts.values()) < 1000
    assert str(judge(verifier, GOOD).spiffe_id) == minting.CART


def test_a_leaf_that_is_too_large_to_be_remembered_is_read_once_for_log_and_judgement(monkeypatch):
    reads = []
    read_facts = verify._read_facts
    monkeypatch.setattr(verify, "_read_facts", lambda der: reads.append(1) or read_facts(der))
    bulk = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), bytes(10_000)), False)
    svid = minting.forge(minting.authority(), replace=[bulk])

    assert str(ALONE.leaf_facts(binding.x509_of(der(svid.leaf))).spiffe_id) == minting.CART
    assert refusal(ALONE, svid).reason == Reason.UNKNOWN_AUTHORITY
    assert len(reads) == 1


def test_of_a_chain_that_only_borrows_the_name_of_our_ca_the_leaf_alone_is_read(monkeypatch):
    reads = []
    read_facts = verify._read_facts
    monkeypatch.setattr(verify, "_read_facts", lambda der: reads.append(1) or read_facts(der))
    borrower = minting.svid(minting.authority())  # every root of a domain has the same name
    fillers = [der(minting.authority().certificate) for _ in range(6)]

    with pytest.raises(Rejected) as caught:
        ALONE.verify_der([*ders(borrower.chain), *fillers], Purpose.CLIENT, minting.now_s())

    assert caught.value.reason == Reason.UNKNOWN_AUTHORITY
    assert len(reads) == 1


def test_what_is_remembered_of_a_refused_leaf_holds_no_traceback():
    verifier = verifier_of({minting.DOMAIN: ROOT})
    refusal(verifier, minting.without_san(ROOT))

    (facts,) = verifier._facts.values()
    assert isinstance(facts.leaf, Rejected)
    assert facts.leaf.__traceback__ is None
