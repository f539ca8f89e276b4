"""Chains for the tests of path validation: CAs with whatever limits are wished, cross-signed, weakly signed."""

import warnings
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import crypto

from proxy.core.reasons import Rejected
from proxy.core.spiffe import parse_trust_domain
from proxy.tls.authority import Authority, Svid
from proxy.tls.keys import PrivateKey, generate_key
from proxy.tls.profiles import ca_extensions
from proxy.tls.verify import PeerIdentity, Purpose, Verifier
from tests import minting
from tests.tls import pairs


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def ders(certificates: Iterable[x509.Certificate]) -> list[bytes]:
    return [der(certificate) for certificate in certificates]


def ca_below(
    parent: Authority,
    *,
    key: PrivateKey | None = None,
    subject: x509.Name | None = None,
    path_length: int | None = None,
    limits: Sequence[tuple[x509.ExtensionType, bool]] = (),
    replace_ca: bool = True,
    not_before: datetime | None = None,
    not_after: datetime | None = None,
) -> Authority:
    """A CA below `parent`; limits: extensions on top (value, critical); replace_ca False: not marked as a CA at all."""
    key = key or generate_key("ecdsa-p256")
    extensions = ca_extensions(parent.trust_domain, path_length=path_length) if replace_ca else []
    extensions += [x509.Extension(value.oid, critical, value) for value, critical in limits]
    now = minting.clock()
    certificate = parent.sign(
        key.public_key(),
        subject=subject or x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"CA {id(key)}")]),
        not_before=not_before or now - timedelta(minutes=1),
        not_after=not_after or now + timedelta(hours=12),
        extensions=extensions,
    )
    return Authority(parent.trust_domain, (certificate, *parent.chain), key)


def cross_signed(other: Authority, by: Authority) -> Authority:
    """`other`, its name and key, as a CA below `by`: what two CAs publish while one takes over from the other."""
    return ca_below(by, key=other.key, subject=other.certificate.subject)


def chain_of(length: int, root: Authority) -> Authority:
    """The lowest of `length` CAs below a root, without limits on the path's length."""
    authority = root
    for _ in range(length):
        authority = ca_below(authority)
    return authority


def signed_again(certificate: x509.Certificate, by: Authority, digest: str) -> x509.Certificate:
    """The same certificate with a signature over another digest, e.g. "sha1"."""
    copy = crypto.X509.from_cryptography(certificate)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and the only one left that signs with such digests
        copy.sign(crypto.PKey.from_cryptography_key(by.key), digest)
    return copy.to_cryptography()


def svid_below(authority: Authority, *between: x509.Certificate) -> Svid:
    """A leaf of `authority` that is sent with exactly these certificates."""
    svid = minting.svid(authority)
    return Svid(svid.spiffe_id, (svid.leaf, *between), svid.key)


def trusting(*anchors: x509.Certificate) -> Verifier:
    """A Verifier of example.org with these anchors."""
    return pairs.engine().verifier({parse_trust_domain(minting.DOMAIN): anchors})


def judge(
    verifier: Verifier, *chain: x509.Certificate, purpose=Purpose.CLIENT, now: float | None = None
) -> PeerIdentity:
    return verifier.verify_der(ders(chain), purpose, minting.now_s() if now is None else now)


def refusal(verifier: Verifier, *chain: x509.Certificate, now: float | None = None) -> Rejected:
    """Why both directions, which are judged alike, refuse this chain."""
    refused = []
    for purpose in Purpose:
        with pytest.raises(Rejected) as caught:
            judge(verifier, *chain, purpose=purpose, now=now)
        refused.append(caught.value)
    assert refused[0].reason == refused[1].reason
    return refused[0]
