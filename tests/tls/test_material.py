"""Our own identity as a set: one test for each Reason, and what is tolerated with a warning."""

import base64
import contextlib
from collections.abc import Callable
from datetime import timedelta
from functools import cache

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.reasons import Reason, Rejected
from proxy.core.spiffe import TrustDomain
from proxy.tls.authority import Authority, Svid, chain_pem
from proxy.tls.identityreader import CERT, KEY, IdentityFiles, bundle_key
from proxy.tls.material import Material, check_identity
from tests import minting
from tests.minting import DAY_S, DOMAIN, HOUR_S

START = minting.clock()
ROOT = minting.authority(now=START)
OTHER = minting.authority()  # the same trust domain, another CA
PARTNER = minting.authority("partner.example")
SVID = minting.svid(ROOT, now=START)
OWN = TrustDomain(DOMAIN)


def files(
    svid: Svid = SVID,
    *,
    cert: bytes | None = None,
    key: bytes | None = None,
    bundles: dict[str, bytes] | None = None,
    key_mode: int = 0o600,
) -> IdentityFiles:
    return IdentityFiles(
        cert=svid.cert_pem if cert is None else cert,
        key=svid.key_pem if key is None else key,
        bundles={DOMAIN: ROOT.bundle_pem} if bundles is None else bundles,
        key_mode=key_mode,
        paths={CERT: "/svid/tls.crt", KEY: "/svid/tls.key", bundle_key(DOMAIN): "/svid/ca.crt"},
    )


def refusal(identity: IdentityFiles, now: float | None = None) -> tuple[Reason, str]:
    with pytest.raises(Rejected) as caught:
        check_identity(identity, minting.now_s() if now is None else now)
    return caught.value.reason, caught.value.detail


def test_a_good_set_becomes_material() -> None:
    material = check_identity(
        files(bundles={DOMAIN: ROOT.bundle_pem, "partner.example": PARTNER.bundle_pem}), minting.now_s()
    )
    assert str(material.identity.spiffe_id) == SVID.spiffe_id
    assert material.chain == SVID.chain
    assert dict(material.bundles) == {OWN: (ROOT.certificate,), TrustDomain("partner.example"): (PARTNER.certificate,)}
    assert material.warnings == ()


@pytest.mark.parametrize("key_type", ["ecdsa-p256", "ecdsa-p384", "ed25519", "rsa-2048"])
def test_every_kind_of_key_that_can_be_minted_is_taken(key_type: str) -> None:
    assert check_identity(files(minting.svid(ROOT, key_type=key_type)), minting.now_s()).warnings == ()


def test_intermediates_are_sent_and_a_root_is_not() -> None:
    intermediate = ROOT.intermediate(now=START, lifetime_s=HOUR_S)
    svid = minting.svid(intermediate)
    material = check_identity(files(svid, cert=svid.cert_pem + ROOT.cert_pem + svid.cert_pem), minting.now_s())
    assert material.chain == (svid.leaf, intermediate.certificate)
    assert len(material.identity.path) == 3


def test_one_file_may_hold_key_and_chain() -> None:
    for both in (SVID.key_pem + SVID.cert_pem, SVID.cert_pem + SVID.key_pem):
        material = check_identity(files(cert=both, key=both), minting.now_s())
        assert (material.chain, material.warnings) == (SVID.chain, ())


def test_a_bundle_may_hold_several_roots_each_counted_once() -> None:
    material = check_identity(
        files(bundles={DOMAIN: OTHER.bundle_pem + ROOT.bundle_pem + ROOT.bundle_pem}), minting.now_s()
    )
    assert sorted(material.bundles[OWN], key=hash) == sorted((OTHER.certificate, ROOT.certificate), key=hash)


def test_an_expired_root_is_left_out_with_a_warning() -> None:
    old = minting.authority(now=START - timedelta(days=3))
    material = check_identity(files(bundles={DOMAIN: old.bundle_pem + ROOT.bundle_pem}), minting.now_s())
    assert material.bundles == {OWN: (ROOT.certificate,)}
    assert len(material.warnings) == 1
    assert "identity.bundles[example.org] (/svid/ca.crt): left out 1 expired CA" in material.warnings[0]
    assert "expired 2 d ago" in material.warnings[0]


def test_the_root_that_was_renewed_with_its_key_is_the_one_that_counts() -> None:
    old = Authority.create(DOMAIN, now=START, lifetime_s=HOUR_S)
    new = Authority.create(DOMAIN, now=START, lifetime_s=DAY_S, key=old.key)
    svid = minting.svid(old, lifetime_s=HOUR_S)
    for pems in (old.bundle_pem + new.bundle_pem, new.bundle_pem + old.bundle_pem):
        material = check_identity(files(svid, bundles={DOMAIN: pems}), minting.now_s())
        assert material.identity.path[-1] == new.certificate.public_bytes(Encoding.DER)


def test_equal_bytes_have_equal_digests_and_others_do_not() -> None:
    digests = {
        check_identity(identity, minting.now_s()).digest
        for identity in (
            files(),
            files(cert=SVID.cert_pem + b"\n"),
            files(key=SVID.key_pem + b"\n"),
            files(bundles={DOMAIN: ROOT.bundle_pem + b"\n"}),
            files(bundles={DOMAIN: ROOT.bundle_pem, "partner.example": PARTNER.bundle_pem}),
        )
    }
    assert len(digests) == 5
    assert (
        check_identity(files(), minting.now_s()).digest == check_identity(files(key_mode=0o640), minting.now_s()).digest
    )


@pytest.mark.parametrize(("mode", "warned"), [(0o400, False), (0o600, False), (0o640, False), (0o644, True)])
def test_a_key_that_others_can_read_is_a_warning(mode: int, warned: bool) -> None:
    warnings = check_identity(files(key_mode=mode), minting.now_s()).warnings
    assert [f"identity.key (/svid/tls.key) has the mode {mode:04o}" in one for one in warnings] == [True] * warned


def test_late_renewal_is_a_warning_with_both_clocks() -> None:
    warnings = check_identity(files(), START.timestamp() + HOUR_S - 300).warnings
    assert len(warnings) == 1
    assert "identity.cert (/svid/tls.crt) should have been renewed by now" in warnings[0]
    assert "expires in 5 min" in warnings[0]


def test_a_key_or_a_revocation_list_where_none_belongs_is_a_warning() -> None:
    crl = b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"
    identity = files(cert=SVID.cert_pem + SVID.key_pem, bundles={DOMAIN: ROOT.bundle_pem + ROOT.key_pem + crl})
    warnings = check_identity(identity, minting.now_s()).warnings
    bundle = "identity.bundles[example.org] (/svid/ca.crt)"
    assert warnings == (
        f"{bundle} holds a private key, which a bundle does not need: take it out",
        f"{bundle} holds a revocation list, which is not looked at",
        "identity.cert (/svid/tls.crt) holds a private key too, which is not looked at: take it out",
    )


@pytest.mark.parametrize(
    ("make", "reason", "words"),
    [
        (lambda: files(cert=SVID.key_pem), Reason.PEM_MALFORMED, "identity.cert (/svid/tls.crt): a certificate in PEM"),
        (lambda: files(key=SVID.cert_pem), Reason.PEM_MALFORMED, "identity.key (/svid/tls.key): a private key in PEM"),
        (lambda: files(bundles={DOMAIN: b""}), Reason.PEM_MALFORMED, "identity.bundles[example.org] (/svid/ca.crt): "),
        (lambda: files(key=minting.svid(ROOT).key_pem), Reason.KEY_MISMATCH, "of two different issuances"),
        (
            lambda: files(cert=ROOT.cert_pem + SVID.cert_pem),
            Reason.KEY_MISMATCH,
            "but to number 2: the leaf has to come first",
        ),
        (lambda: files(minting.svid(OTHER)), Reason.CHAIN_UNTRUSTED, "does not reach the bundle of example.org"),
        (
            lambda: files(bundles={"partner.example": PARTNER.bundle_pem}),
            Reason.WRONG_TRUST_DOMAIN,
            "add `example.org: PATH` to identity.bundles",
        ),
        (lambda: files(bundles={}), Reason.WRONG_TRUST_DOMAIN, "add `example.org: PATH` to identity.bundles"),
        (lambda: files(minting.without_san(ROOT)), Reason.NOT_AN_SVID, "no URI SAN"),
        (lambda: files(minting.as_ca(ROOT)), Reason.NOT_AN_SVID, "it is a CA certificate"),
        (
            lambda: files(minting.with_extended_key_usage(ROOT, ExtendedKeyUsageOID.SERVER_AUTH)),
            Reason.NOT_AN_SVID,
            "lacks clientAuth",
        ),
        (lambda: files(minting.with_uris(ROOT, "spiffe://Example.org/cart")), Reason.SPIFFE_ID_MALFORMED, ""),
        (lambda: files(minting.expired(ROOT)), Reason.CERTIFICATE_EXPIRED, "our clock says"),
        (lambda: files(minting.not_yet_valid(ROOT)), Reason.CERTIFICATE_NOT_YET_VALID, "our clock says"),
        (
            lambda: files(bundles={DOMAIN: SVID.cert_pem}),
            Reason.CERTIFICATE_INVALID,
            "identity.bundles[example.org] (/svid/ca.crt), certificate 1: the certificate is refused: it is not a CA",
        ),
        (
            lambda: files(bundles={DOMAIN: ROOT.bundle_pem + PARTNER.bundle_pem}),
            Reason.CERTIFICATE_INVALID,
            "certificate 2: the certificate is refused: it is the authority of the trust domain partner.example",
        ),
        (
            lambda: files(bundles={DOMAIN: minting.authority(now=START - timedelta(days=3)).bundle_pem}),
            Reason.CERTIFICATE_EXPIRED,
            "identity.bundles[example.org] (/svid/ca.crt): every CA in it has expired",
        ),
        (
            lambda: files(cert=SVID.cert_pem + chain_pem(minting.svid(ROOT).leaf for _ in range(10))),
            Reason.CERTIFICATE_INVALID,
            "holds 11 certificates, 10 at most",
        ),
    ],
)
def test_each_fault_of_a_set_has_its_reason(make: Callable[[], IdentityFiles], reason: Reason, words: str) -> None:
    found, detail = refusal(make())
    assert found is reason
    assert words in detail


def test_a_missing_intermediate_is_an_untrusted_chain() -> None:
    svid = minting.svid(ROOT.intermediate(now=START, lifetime_s=HOUR_S))
    assert refusal(files(svid, cert=chain_pem([svid.leaf])))[0] is Reason.CHAIN_UNTRUSTED


def test_a_ca_of_another_domain_cannot_vouch_for_ours() -> None:
    forged = minting.forge(PARTNER, SVID.spiffe_id)
    bundles = {DOMAIN: ROOT.bundle_pem, "partner.example": PARTNER.bundle_pem}
    assert refusal(files(forged, bundles=bundles))[0] is Reason.CHAIN_UNTRUSTED


def test_the_key_is_not_shown_by_repr() -> None:
    identity = files()
    shown = repr(identity) + repr(check_identity(identity, minting.now_s()))
    assert "PRIVATE" not in shown
    assert not any(line.decode() in shown for line in SVID.key_pem.splitlines())


@cache
def good_bytes() -> dict[str, bytes]:
    return {"cert": SVID.cert_pem, "key": SVID.key_pem, "bundle": ROOT.bundle_pem}


@st.composite
def damaged_sets(draw: st.DrawFn) -> IdentityFiles:
    """A good set of which one file is cut, overwritten, grown or nothing but noise."""
    parts = dict(good_bytes())
    name = draw(st.sampled_from(sorted(parts)))
    data = bytearray(parts[name])
    at = draw(st.integers(0, len(data)))
    noise = draw(st.binary(max_size=12) | st.sampled_from([SVID.key_pem, SVID.cert_pem, b"-----BEGIN ", b"A", b"="]))
    data[at : at + draw(st.sampled_from([0, 1, len(noise), len(data)]))] = noise
    parts[name] = bytes(data)
    return IdentityFiles(cert=parts["cert"], key=parts["key"], bundles={DOMAIN: parts["bundle"]})


@settings(max_examples=300, deadline=None)
@given(damaged_sets())
def test_damage_to_any_byte_is_a_refusal_or_harmless(identity: IdentityFiles) -> None:
    with contextlib.suppress(Rejected):
        assert isinstance(check_identity(identity, minting.now_s()), Material)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damage_inside_the_der_is_a_refusal_or_harmless(data: st.DataObject) -> None:
    """What base64 hides from the test above: single bytes of a certificate's own structure."""
    certificate = data.draw(st.sampled_from([SVID.leaf, ROOT.certificate]))
    der = bytearray(certificate.public_bytes(Encoding.DER))
    for _ in range(data.draw(st.integers(1, 3))):
        der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    pem = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(bytes(der)) + b"-----END CERTIFICATE-----\n"
    identity = files(cert=pem) if certificate is SVID.leaf else files(bundles={DOMAIN: pem})
    with contextlib.suppress(Rejected):
        assert isinstance(check_identity(identity, minting.now_s()), Material)
