"""Weak cryptography on a path: what OpenSSL's own verification would refuse, and our answer to it replaces."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa

from proxy.core.reasons import Reason
from proxy.tls.authority import Authority, Svid
from tests import minting
from tests.tls.chains import ca_below, chain_of, der, judge, refusal, signed_again, svid_below, trusting

ROOT = minting.authority(key_type="rsa-2048")  # RSA: no signature scheme joins ECDSA and MD5
MIDDLE = chain_of(1, ROOT)


def with_key(key) -> Svid:
    svid = minting.svid(ROOT)
    leaf = ROOT.sign(
        key.public_key(),
        subject=x509.Name([]),
        not_before=svid.leaf.not_valid_before_utc,
        not_after=svid.leaf.not_valid_after_utc,
        extensions=[
            extension
            for extension in svid.leaf.extensions
            if not isinstance(extension.value, x509.SubjectKeyIdentifier | x509.AuthorityKeyIdentifier)
        ],
    )
    return Svid(svid.spiffe_id, (leaf,), key)


SHORT_RSA = rsa.generate_private_key(public_exponent=65537, key_size=1024)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (SHORT_RSA, "the leaf of spiffe://example.org/ns/shop/sa/cart has an RSA key of 1024 bits, 2048 at least"),
        (
            ec.generate_private_key(ec.SECP192R1()),
            "the leaf of spiffe://example.org/ns/shop/sa/cart has a key on the curve secp192r1, which is too small",
        ),
        (
            dsa.generate_private_key(2048),
            "the leaf of spiffe://example.org/ns/shop/sa/cart has a key of a kind that TLS does not sign with",
        ),
    ],
    ids=["RSA-1024", "P-192", "DSA"],
)
def test_a_leaf_with_a_weak_key_is_refused(key, words):
    refused = refusal(trusting(ROOT.certificate), *with_key(key).chain)

    assert (refused.reason, refused.detail) == (Reason.CERTIFICATE_INVALID, words)


def test_a_ca_with_a_weak_key_is_refused_also_as_an_anchor():
    middle = ca_below(ROOT, key=SHORT_RSA)
    root = Authority.create(minting.DOMAIN, now=minting.clock(), lifetime_s=3600, key=SHORT_RSA)

    for anchor, authority in ((ROOT, middle), (root, root)):
        refused = refusal(trusting(anchor.certificate), *minting.svid(authority).chain)
        assert refused.reason == Reason.CERTIFICATE_INVALID
        assert refused.detail.startswith("the CA certificate 1 above the leaf ")


@pytest.mark.parametrize("digest", ["md5", "sha1"])
def test_a_weak_signature_is_refused_on_the_leaf_and_on_every_ca_below_the_anchor(digest):
    leaf = signed_again(minting.svid(ROOT).leaf, ROOT, digest)
    middle = signed_again(MIDDLE.certificate, ROOT, digest)
    rollover = ca_below(
        ROOT, subject=ROOT.certificate.subject
    )  # self-issued: a new key of the same CA, signed by the old
    weak_rollover = signed_again(rollover.certificate, ROOT, digest)
    verifier = trusting(ROOT.certificate)

    assert len(judge(verifier, *svid_below(rollover, rollover.certificate).chain).path) == 3
    for chain in (
        (leaf,),
        (minting.svid(MIDDLE).leaf, middle),
        (minting.svid(rollover).leaf, weak_rollover),
    ):
        refused = refusal(verifier, *chain)
        assert refused.reason == Reason.CERTIFICATE_INVALID
        assert f"a {digest.upper()} signature" in refused.detail


def test_the_signature_on_an_anchor_proves_nothing_and_is_not_looked_at():
    root = signed_again(ROOT.certificate, ROOT, "sha1")
    middle = signed_again(MIDDLE.certificate, ROOT, "sha1")

    assert judge(trusting(root), minting.svid(ROOT).leaf).path[-1] == der(root)
    assert judge(trusting(middle), minting.svid(MIDDLE).leaf).path[-1] == der(middle)
