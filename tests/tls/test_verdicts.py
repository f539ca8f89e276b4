"""A verdict that is remembered is the one that a fresh validation would give, whatever happens in between."""

from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from proxy.core.reasons import Reason, Rejected
from proxy.core.spiffe import parse_trust_domain
from proxy.tls import binding
from proxy.tls.verdicts import VerdictCache
from proxy.tls.verify import PeerIdentity, Purpose, Verifier
from tests import minting
from tests.tls.chains import ca_below, cross_signed, der, ders, svid_below

ROOT, STRANGER, PARTNER = minting.authority(), minting.authority(), minting.authority(trust_domain="partner.example")
MIDDLE = ca_below(ROOT)
SOON_OVER = ca_below(ROOT, not_after=minting.clock() + timedelta(minutes=30))
LEAF = minting.svid(ROOT)
BELOW = svid_below(MIDDLE, MIDDLE.certificate)

CHAINS = {
    "a leaf of the root": ders(LEAF.chain),
    "a leaf with its intermediate": ders(BELOW.chain),
    "a leaf without its intermediate": [der(BELOW.leaf)],
    "a leaf with the intermediate twice": [*ders(BELOW.chain), der(MIDDLE.certificate)],
    "a good leaf with a stranger's CA behind it": [der(LEAF.leaf), der(STRANGER.certificate)],
    "a leaf of a stranger": ders(minting.svid(STRANGER).chain),
    "a leaf of a stranger with our root behind it": [der(minting.svid(STRANGER).leaf), der(ROOT.certificate)],
    "a leaf of the partner": ders(minting.svid(PARTNER, spiffe_id="spiffe://partner.example/sa/x").chain),
    "a leaf that has expired": ders(minting.expired(ROOT).chain),
    "a leaf that is not valid yet": ders(minting.not_yet_valid(ROOT).chain),
    "a leaf below a CA that is soon over": ders(svid_below(SOON_OVER, SOON_OVER.certificate).chain),
    "a leaf below a CA that two roots signed": ders(
        svid_below(MIDDLE, cross_signed(MIDDLE, STRANGER).certificate).chain
    ),
    "a CA as a leaf": ders(minting.as_ca(ROOT).chain),
    "a leaf with two names": ders(minting.with_uris(ROOT, minting.CART, minting.CART + "2").chain),
}
OURS, THEIRS = parse_trust_domain(minting.DOMAIN), parse_trust_domain("partner.example")
BUNDLES = {
    "ours": {OURS: (ROOT.certificate,)},
    "ours and the partner's": {OURS: (ROOT.certificate,), THEIRS: (PARTNER.certificate,)},
    "another root": {OURS: (STRANGER.certificate,)},
    "both roots": {OURS: (STRANGER.certificate, ROOT.certificate)},
    "the intermediate alone": {OURS: (MIDDLE.certificate,)},
    "the partner's root under our name": {OURS: (PARTNER.certificate,)},
    "none": {},
}


def verdict_of(verifier: Verifier, chain: list[bytes], purpose: Purpose, now: float) -> PeerIdentity | tuple[str, str]:
    try:
        return verifier.verify_der(chain, purpose, now)
    except Rejected as rejected:
        return rejected.reason, rejected.detail


class Life(RuleBasedStateMachine):
    """Reloads, clocks that move either way, and clients of every kind, in any order."""

    @initialize(bundles=st.sampled_from(sorted(BUNDLES)))
    def start(self, bundles: str) -> None:
        self.now = minting.now_s()
        self.reload(bundles)

    @rule(bundles=st.sampled_from(sorted(BUNDLES)))
    def reload(self, bundles: str) -> None:
        self.bundles = BUNDLES[bundles]
        self.verifier = Verifier(self.bundles, verdicts=3)  # so few that they push each other out

    @rule(hours=st.integers(-30_000, 30_000) | st.integers(-3, 3))
    def move_the_clock(self, hours: int) -> None:
        self.now += hours * minting.HOUR_S

    @rule(chain=st.sampled_from(sorted(CHAINS)), purpose=st.sampled_from(Purpose))
    def connect(self, chain: str, purpose: Purpose) -> None:
        fresh = verdict_of(Verifier(self.bundles, verdicts=0), CHAINS[chain], purpose, self.now)
        for _ in range(2):
            assert verdict_of(self.verifier, CHAINS[chain], purpose, self.now) == fresh


Life.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
test_no_life_gets_a_verdict_that_a_fresh_validation_would_not_give = Life.TestCase


@pytest.fixture
def validations(monkeypatch) -> list[int]:
    """One entry for each path validation that OpenSSL is asked for."""
    calls: list[int] = []
    verify_path = binding.verify_path

    def counting(store, chain):
        calls.append(len(chain))
        return verify_path(store, chain)

    monkeypatch.setattr(binding, "verify_path", counting)
    return calls


def test_a_chain_that_comes_again_is_not_validated_again(validations):
    verifier = Verifier(BUNDLES["ours"])
    first = verifier.verify_der(ders(LEAF.chain), Purpose.CLIENT, minting.now_s())

    assert verifier.verify_der(ders(LEAF.chain), Purpose.CLIENT, minting.now_s()) is first
    assert validations == [1]


def test_what_is_turned_off_remembers_nothing(validations):
    verifier = Verifier(BUNDLES["ours"], verdicts=0)
    for _ in range(2):
        verifier.verify_der(ders(LEAF.chain), Purpose.CLIENT, minting.now_s())

    assert validations == [1, 1]


def test_a_refusal_is_never_remembered(validations):
    verifier = Verifier(BUNDLES["ours"])
    for _ in range(2):
        with pytest.raises(Rejected, match="does not reach"):
            verifier.verify_der(CHAINS["a leaf of a stranger"], Purpose.CLIENT, minting.now_s())

    assert validations == [1, 1]
    assert len(verifier._verdicts) == 0


def test_a_chain_whose_time_has_passed_is_not_remembered_as_good():
    verifier = Verifier(BUNDLES["ours"])
    with pytest.raises(Rejected, match="expired") as caught:
        verifier.verify_der(CHAINS["a leaf that has expired"], Purpose.CLIENT, minting.now_s())

    assert caught.value.reason == Reason.CERTIFICATE_EXPIRED
    assert len(verifier._verdicts) == 0


def test_what_a_peer_acts_as_is_part_of_what_is_remembered(validations):
    verifier = Verifier(BUNDLES["ours"])
    for purpose in Purpose:
        verifier.verify_der(ders(LEAF.chain), purpose, minting.now_s())

    assert validations == [1, 1]


@pytest.mark.parametrize(
    "other", ["a good leaf with a stranger's CA behind it", "a leaf with its intermediate", "a leaf of a stranger"]
)
def test_another_chain_is_another_question(other, validations):
    verifier = Verifier(BUNDLES["ours"])
    verifier.verify_der(ders(LEAF.chain), Purpose.CLIENT, minting.now_s())
    verdict_of(verifier, CHAINS[other], Purpose.CLIENT, minting.now_s())

    assert len(validations) == 2


def test_the_verdict_used_longest_ago_makes_room():
    peer = Verifier(BUNDLES["ours"]).verify_der(ders(LEAF.chain), Purpose.CLIENT, minting.now_s())
    cache = VerdictCache(limit=2)
    keys = [(Purpose.CLIENT, bytes([number])) for number in range(3)]
    cache.keep(keys[0], peer)
    cache.keep(keys[1], peer)
    assert cache.find(keys[0]) is peer
    cache.keep(keys[2], peer)

    assert [cache.find(key) is peer for key in keys] == [True, False, True]
    assert len(cache) == 2
