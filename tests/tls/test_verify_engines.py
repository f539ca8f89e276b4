"""
Two libraries look for the path, and one set of rules is wanted: what one engine lets in, the other lets in as well.

Chains at random: CAs with whatever limits below each other, anchors taken from anywhere on the path, certificates that
are left out, doubled, or in another order.
"""

import functools

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.config import Engine
from proxy.core.reasons import Rejected
from proxy.core.spiffe import parse_trust_domain
from proxy.tls.authority import Authority
from proxy.tls.verify import Purpose
from tests import engines, minting
from tests.tls.chains import ca_below, ders

ROOTS = [
    minting.authority(),
    Authority.create(minting.DOMAIN, now=minting.clock(), lifetime_s=minting.DAY_S, path_length=0),
    Authority.create(minting.DOMAIN, now=minting.clock(), lifetime_s=minting.DAY_S, path_length=1),
]
URIS = x509.UniformResourceIdentifier
LIMITS: dict[str, list[tuple[x509.ExtensionType, bool]]] = {
    "none": [],
    "only names of ours": [(x509.NameConstraints([URIS("example.org")], None), True)],
    "no names of ours": [(x509.NameConstraints(None, [URIS("example.org")]), True)],
    "for servers": [(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)],
    "for both": [(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), False)],
    "critical and unknown": [(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\0"), True)],
}


# One CA: its path length, its limits by name, and whether it is marked as a CA.
LEVELS = st.tuples(
    st.sampled_from([None, None, 0, 1]), st.sampled_from(list(LIMITS)), st.sampled_from([True] * 5 + [False])
)


@functools.cache
def authority(root: int, levels: tuple[tuple[int | None, str, bool], ...]) -> Authority:
    """The CA at the end of these levels; made once."""
    if not levels:
        return ROOTS[root]
    path_length, limits, is_ca = levels[-1]
    parent = authority(root, levels[:-1])
    return ca_below(parent, path_length=path_length, limits=LIMITS[limits], replace_ca=is_ca)


@pytest.fixture(autouse=True)
def both() -> None:
    for engine in engines.ENGINES:
        engines.require(engine)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), root=st.integers(0, len(ROOTS) - 1), levels=st.lists(LEVELS, max_size=3).map(tuple))
def test_what_one_engine_lets_in_the_other_lets_in_by_the_same_path(data, root, levels):
    issuer = authority(root, levels)
    full = [minting.svid(issuer).leaf, *issuer.chain]
    anchors = data.draw(st.lists(st.sampled_from(issuer.chain), min_size=1, max_size=2, unique_by=id), label="anchors")
    sent = data.draw(st.lists(st.sampled_from(full[1:]), max_size=4), label="sent along")
    purpose = data.draw(st.sampled_from(list(Purpose)), label="purpose")

    verdicts = {}
    for name, engine in engines.ENGINES.items():
        verifier = engine().verifier({parse_trust_domain(minting.DOMAIN): anchors})
        try:
            verdicts[name] = verifier.verify_der(ders([full[0], *sent]), purpose, minting.now_s()).path
        except Rejected:
            verdicts[name] = None

    theirs, ours = verdicts[Engine.OPENSSL], verdicts[Engine.BORINGSSL]
    if ours is None and len(anchors) > 1:
        return  # BoringSSL also looks at what stands above the first anchor, and may refuse for it
    assert ours == theirs
