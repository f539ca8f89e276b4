"""RFC 5280 path validation: intermediates, anchors, limits of CAs, renewals, cross-signatures."""

import itertools
from datetime import timedelta

import pytest
from cryptography import x509

from proxy.core.reasons import Reason
from proxy.tls.authority import Authority
from proxy.tls.keys import generate_key
from proxy.tls.profiles import leaf_extensions
from proxy.tls.verify import MAX_CHAIN, MAX_PRESENTED
from tests import minting
from tests.tls.chains import ca_below, chain_of, cross_signed, der, ders, judge, refusal, trusting
from tests.tls.pairs import engine

ROOT = minting.authority()
MIDDLE = chain_of(1, ROOT)
LOW = chain_of(2, ROOT)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 8])
def test_the_path_leads_over_every_intermediate_to_the_root(count):
    svid = minting.svid(chain_of(count, ROOT))

    peer = judge(trusting(ROOT.certificate), *svid.chain)

    assert peer.path == tuple(ders([*svid.chain, ROOT.certificate]))


@pytest.mark.parametrize("key_type", ["ecdsa-p256", "ecdsa-p384", "rsa-2048", "ed25519"])
def test_an_intermediate_may_have_a_key_of_any_type(key_type):
    middle = ca_below(ROOT, key=minting.leaf_key(key_type))

    assert len(judge(trusting(ROOT.certificate), *minting.svid(middle).chain).path) == 3


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_order_behind_the_leaf_does_not_matter_and_the_root_may_be_sent_along(order):
    leaf = minting.svid(LOW).leaf
    others = [LOW.chain[i] for i in order]

    assert judge(trusting(ROOT.certificate), leaf, *others).path == tuple(ders([leaf, *LOW.chain]))


def test_certificates_that_have_nothing_to_do_with_the_leaf_are_passed_over():
    strangers = [minting.authority().certificate, minting.svid(MIDDLE).leaf]
    leaf = minting.svid(MIDDLE).leaf

    assert len(judge(trusting(ROOT.certificate), leaf, *strangers, MIDDLE.certificate).path) == 3


@pytest.mark.parametrize(
    "sent", [(), (LOW.chain[0],), (LOW.chain[1],), (ROOT.certificate,)], ids=["none", "lower", "upper", "root"]
)
def test_a_missing_intermediate_breaks_the_chain(sent):
    assert refusal(trusting(ROOT.certificate), minting.svid(LOW).leaf, *sent).reason == Reason.UNKNOWN_AUTHORITY


def test_an_intermediate_in_first_place_is_no_leaf():
    svid = minting.svid(MIDDLE)

    assert refusal(trusting(ROOT.certificate), MIDDLE.certificate, svid.leaf).reason == Reason.SPIFFE_ID_MALFORMED


def test_a_root_that_the_peer_brings_is_not_trusted_for_it():
    stranger = chain_of(1, minting.authority())

    refused = refusal(trusting(ROOT.certificate), minting.svid(stranger).leaf, *stranger.chain)

    assert refused.reason == Reason.UNKNOWN_AUTHORITY


def test_a_leaf_that_signed_itself_is_refused():
    first = minting.forge(ROOT, subject="cart")
    itself = Authority(minting.DOMAIN, (first.leaf, *ROOT.chain), first.key)
    leaf = itself.sign(
        first.key.public_key(),
        subject=first.leaf.subject,
        not_before=first.leaf.not_valid_before_utc,
        not_after=first.leaf.not_valid_after_utc,
        extensions=leaf_extensions(first.spiffe_id),
    )
    assert leaf.issuer == leaf.subject

    assert refusal(trusting(ROOT.certificate), leaf).reason == Reason.UNKNOWN_AUTHORITY
    assert refusal(trusting(ROOT.certificate), leaf, ROOT.certificate).reason == Reason.UNKNOWN_AUTHORITY


def test_a_ca_with_the_name_of_ours_and_another_key_is_not_ours():
    impostor = Authority(minting.DOMAIN, ROOT.chain, generate_key("ecdsa-p256"))

    assert refusal(trusting(ROOT.certificate), *minting.svid(impostor).chain).reason == Reason.UNKNOWN_AUTHORITY


# Anchors.


def test_each_of_several_anchors_vouches_until_it_leaves_the_bundle():
    roots = [minting.authority() for _ in range(3)]
    svids = [minting.svid(root) for root in roots]
    every = trusting(*(root.certificate for root in roots))
    without_first = trusting(*(root.certificate for root in roots[1:]))

    assert [judge(every, *svid.chain).path[-1] for svid in svids] == ders(root.certificate for root in roots)
    assert refusal(without_first, *svids[0].chain).reason == Reason.UNKNOWN_AUTHORITY
    assert len(judge(without_first, *svids[1].chain).path) == 2


def test_an_intermediate_in_the_bundle_is_an_anchor_and_the_path_ends_there():
    verifier = trusting(MIDDLE.certificate)

    assert judge(verifier, *minting.svid(MIDDLE).chain).path[-1] == der(MIDDLE.certificate)
    assert judge(verifier, minting.svid(MIDDLE).leaf, *MIDDLE.chain).path[-1] == der(MIDDLE.certificate)
    assert refusal(verifier, *minting.svid(ROOT).chain).reason == Reason.UNKNOWN_AUTHORITY
    assert refusal(verifier, *minting.svid(ca_below(ROOT)).chain).reason == Reason.UNKNOWN_AUTHORITY


@pytest.mark.parametrize("trusted", ["old", "new", "both"])
@pytest.mark.parametrize("sent", ["nothing", "cross"])
def test_a_new_root_signed_by_the_old_one_is_good_for_whoever_trusts_either(trusted, sent):
    old, new = minting.authority(), minting.authority()
    cross = cross_signed(new, by=old).certificate
    leaf = minting.svid(new).leaf
    bundle = {"old": (old,), "new": (new,), "both": (old, new)}[trusted]
    verifier = trusting(*(authority.certificate for authority in bundle))
    chain = [leaf, cross] if sent == "cross" else [leaf]

    if (trusted, sent) == ("old", "nothing"):
        assert refusal(verifier, *chain).reason == Reason.UNKNOWN_AUTHORITY
    else:
        anchor = old if trusted == "old" else new
        assert judge(verifier, *chain).path[-1] == der(anchor.certificate)


def test_a_lapsed_cross_signature_harms_nobody_who_trusts_the_new_root():
    old, new = minting.authority(), minting.authority()
    past = minting.clock() - timedelta(minutes=5)
    cross = ca_below(
        old, key=new.key, subject=new.certificate.subject, not_before=past - timedelta(hours=1), not_after=past
    ).certificate
    leaf = minting.svid(new).leaf

    assert len(judge(trusting(new.certificate), leaf, cross).path) == 2
    assert refusal(trusting(old.certificate), leaf, cross).reason == Reason.CERTIFICATE_EXPIRED


def test_a_ca_renewed_with_its_key_is_trusted_for_as_long_as_one_of_its_certificates_is():
    key, now = generate_key("ecdsa-p256"), minting.clock()
    renewals = [Authority.create(minting.DOMAIN, now=now, lifetime_s=h * 3600, key=key).certificate for h in (1, 2, 3)]
    leaf = minting.svid(Authority(minting.DOMAIN, (renewals[-1],), key)).leaf
    two_hours_later = minting.now_s() + 2 * 3600 + 60

    for bundle in itertools.permutations(renewals):
        peer = judge(trusting(*bundle), leaf)
        assert peer.path[-1] == der(renewals[-1])
        assert peer.valid_from <= minting.now_s()
    assert refusal(trusting(*renewals[:2]), leaf, now=two_hours_later).reason == Reason.CERTIFICATE_EXPIRED


def test_cas_of_one_name_and_different_keys_stand_for_themselves():
    first, second = (minting.authority() for _ in range(2))
    twins = [ca_below(first, subject=first.certificate.subject), ca_below(first, subject=first.certificate.subject)]

    for twin in twins:
        assert judge(trusting(*(ca.certificate for ca in twins)), minting.svid(twin).leaf).path[-1] == der(
            twin.certificate
        )
    assert refusal(trusting(twins[0].certificate), minting.svid(twins[1]).leaf).reason == Reason.UNKNOWN_AUTHORITY
    assert refusal(trusting(twins[0].certificate), minting.svid(second).leaf).reason == Reason.UNKNOWN_AUTHORITY


# Time above the leaf.


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize(
    ("offset", "reason"),
    [
        (timedelta(hours=-2), Reason.CERTIFICATE_EXPIRED),
        (timedelta(hours=2), Reason.CERTIFICATE_NOT_YET_VALID),
    ],
)
def test_a_ca_anywhere_on_the_path_has_to_be_valid_now(depth, offset, reason):
    def validity(position):
        start = minting.clock() - timedelta(minutes=10) + (offset if position == depth else timedelta())
        return {"not_before": start, "not_after": start + timedelta(hours=1)}

    root_span = validity(3)
    root = Authority.create(minting.DOMAIN, now=root_span["not_before"], lifetime_s=3600)
    low = ca_below(ca_below(root, **validity(2)), **validity(1))
    span = validity(0)
    svid = minting.forge(low, not_before=span["not_before"], not_after=span["not_after"])

    refused = refusal(trusting(root.certificate), *svid.chain)

    assert refused.reason == reason
    assert refused.detail.startswith(f"the CA certificate {depth} above the leaf: valid from ")


def test_a_chain_lapses_with_the_first_certificate_on_it():
    end = minting.clock() + timedelta(minutes=7)
    middle = ca_below(ROOT, not_after=end)
    leaf = minting.forge(middle, not_after=end + timedelta(hours=1))

    peer = judge(trusting(ROOT.certificate), *leaf.chain)

    assert peer.lapses_at == end.timestamp()
    assert peer.svid.not_after == end.timestamp() + 3600
    assert refusal(trusting(ROOT.certificate), *leaf.chain, now=end.timestamp() + 1).reason == (
        Reason.CERTIFICATE_EXPIRED
    )


# Limits of CAs.


def constraints(*, permitted=None, excluded=None):
    def names(hosts):
        return None if hosts is None else [x509.UniformResourceIdentifier(host) for host in hosts]

    return [(x509.NameConstraints(names(permitted), names(excluded)), True)]


@pytest.mark.parametrize(
    ("authority", "reason"),
    [
        (ca_below(ROOT, limits=constraints(permitted=["example.org"])), None),
        (ca_below(ROOT, limits=constraints(permitted=["partner.example"])), Reason.CERTIFICATE_INVALID),
        (ca_below(ROOT, limits=constraints(excluded=["example.org"])), Reason.CERTIFICATE_INVALID),
        (ca_below(ROOT, limits=constraints(excluded=["partner.example"])), None),
        (ca_below(ROOT, path_length=0), None),
        (ca_below(ca_below(ROOT, path_length=0)), Reason.CERTIFICATE_INVALID),
        (ca_below(ca_below(ROOT, path_length=1)), None),
        (ca_below(ca_below(ca_below(ROOT, path_length=1))), Reason.CERTIFICATE_INVALID),
        (ca_below(ROOT, replace_ca=False), Reason.CERTIFICATE_INVALID),
        (ca_below(ROOT, limits=[(x509.ExtendedKeyUsage([minting.SERVER_AUTH, minting.CLIENT_AUTH]), False)]), None),
        (
            ca_below(ROOT, limits=[(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.CODE_SIGNING]), False)]),
            Reason.CERTIFICATE_INVALID,
        ),
        (
            ca_below(ROOT, limits=[(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\0"), True)]),
            Reason.CERTIFICATE_INVALID,
        ),
    ],
    ids=[
        "its own domain permitted",
        "another domain permitted",
        "its own domain excluded",
        "another domain excluded",
        "path length 0, issues leaves",
        "path length 0, issued a CA",
        "path length 1, issued a CA",
        "path length 1, two CAs below",
        "not a CA",
        "extended key usage of both sides",
        "extended key usage for something else",
        "unknown critical extension",
    ],
)
def test_the_limits_of_a_ca_hold(authority, reason):
    chain = minting.svid(authority).chain
    if reason is None:
        assert judge(trusting(ROOT.certificate), *chain).path[-1] == der(ROOT.certificate)
    else:
        assert refusal(trusting(ROOT.certificate), *chain).reason == reason


def test_the_limits_of_an_anchor_hold_too():
    root = Authority.create(minting.DOMAIN, now=minting.clock(), lifetime_s=minting.DAY_S, path_length=0)

    assert len(judge(trusting(root.certificate), *minting.svid(root).chain).path) == 2
    assert refusal(trusting(root.certificate), *minting.svid(ca_below(root)).chain).reason == (
        Reason.CERTIFICATE_INVALID
    )


def test_a_leaf_cannot_issue_another_leaf():
    holder = minting.svid(ROOT)
    thief = Authority(minting.DOMAIN, (holder.leaf, *ROOT.chain), holder.key)
    stolen = minting.forge(thief, "spiffe://example.org/ns/bank/sa/vault")

    # BoringSSL does not even take it for an issuer.
    reason = {"openssl": Reason.CERTIFICATE_INVALID, "boringssl": Reason.UNKNOWN_AUTHORITY}[engine().name]
    assert refusal(trusting(ROOT.certificate), stolen.leaf, holder.leaf).reason == reason


def test_a_path_has_a_greatest_length():
    longest, too_long = chain_of(MAX_CHAIN - 2, ROOT), chain_of(MAX_CHAIN - 1, ROOT)

    assert len(judge(trusting(ROOT.certificate), *minting.svid(longest).chain).path) == MAX_CHAIN
    refused = refusal(trusting(ROOT.certificate), *minting.svid(too_long).chain)
    assert (refused.reason, f"{MAX_CHAIN} at most" in refused.detail) == (Reason.CERTIFICATE_INVALID, True)


def test_of_more_certificates_than_anybody_needs_none_is_read():
    leaf = minting.svid(MIDDLE).leaf
    fillers = [minting.authority().certificate] * (MAX_PRESENTED - 2)
    verifier = trusting(ROOT.certificate)

    assert len(judge(verifier, leaf, *fillers, MIDDLE.certificate).path) == 3
    verifier = trusting(ROOT.certificate)
    refused = refusal(verifier, leaf, *fillers, MIDDLE.certificate, ROOT.certificate)
    assert (refused.reason, f"{MAX_PRESENTED} at most" in refused.detail) == (Reason.CERTIFICATE_INVALID, True)
    assert not verifier._facts


def test_of_a_strangers_chain_the_leaf_alone_is_read():
    stranger = chain_of(1, minting.authority())
    verifier = trusting(ROOT.certificate)

    assert refusal(verifier, *minting.svid(stranger).chain).reason == Reason.UNKNOWN_AUTHORITY
    assert len(verifier._facts) == 1
