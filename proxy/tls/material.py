"""
Our own identity as one checked value: key, chain and bundles that belong together.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from proxy.core.spiffe import TrustDomain
from proxy.tls.verify import PeerIdentity

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """
    A checked set. It is made whole or not at all, and never changes.

    chain:    our SVID, leaf first, then the intermediates that we send along (never a root)
    identity: our own chain as a peer would judge it against the bundle of our own trust domain
    bundles:  trust domain -> its anchors, never merged
    digest:   SHA-256 over the bytes of all files; equal digests are the same generation
    warnings: sentences for the operator, e.g. a key that others can read
    """

    chain: tuple[x509.Certificate, ...]
    key: PrivateKey
    identity: PeerIdentity
    bundles: Mapping[TrustDomain, tuple[x509.Certificate, ...]]
    digest: bytes
    warnings: tuple[str, ...] = ()
