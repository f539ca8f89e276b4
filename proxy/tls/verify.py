"""
Is this peer who it says? The one judgement of a chain, for clients, servers, our own files and live connections alike.

A chain is good when all of this holds, looked at in this order so that the Reason names the first thing to mend:

1. The leaf is an X509-SVID (core/svid.py): one URI SAN that is a SPIFFE ID, not a CA, the right usages.
2. We have a bundle for the trust domain that the leaf names (else WRONG_TRUST_DOMAIN).
3. The chain reaches that bundle, and no other (RFC 5280 path validation by the engine's library; else
   UNKNOWN_AUTHORITY). Bundles are never merged: each trust domain has a store of its own, so the CA of domain B cannot
   vouch for a name in A.
4. Every certificate on the path is strong enough, and valid at `now`, the anchor included.

Both engines ask here from the middle of a handshake (opensslhandshake.py, boringhandshake.py). The trust store of an
SSL_CTX itself stays empty: what an engine would conclude on its own is always "unknown", so an engine that did not ask
could let nobody in. As our answer replaces the engine's, whatever its own verification enforces (key sizes and digests
of OpenSSL's security level among it) has to be enforced here as well: that are `_weak_key` and `_weak_signature`, which
ask for what level 2 does. Parsing and path validation are the engine's (`Certificates`), the rules are these.

Facts about a certificate depend on nothing but its bytes and are remembered under their SHA-256. Good verdicts are
remembered too (verdicts.py), but for the part of them that changes with the clock: that is judged every time.
"""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from hashlib import sha256
from typing import Any, Protocol

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from proxy.core.reasons import Reason, Rejected
from proxy.core.spiffe import SpiffeId, TrustDomain
from proxy.core.svid import LeafFacts, describe_validity, load_certificate, read_leaf
from proxy.tls import binding
from proxy.tls.keys import public_key_bytes
from proxy.tls.verdicts import MAX_VERDICTS, VerdictCache

MAX_CHAIN = 10  # certificates on a path; SPIFFE deployments use two or three
MAX_PRESENTED = 32  # before a path is looked for: a stranger's 100 KiB hold hundreds, and reading each costs 70 us
MIN_RSA_BITS = 2048
_WEAK_DIGESTS = frozenset({"md5", "sha1"})
_REMEMBERED_CERTIFICATES = 2048  # about 3 KiB each; a sidecar sees a few dozen
_REMEMBERED_BYTES = 4096  # larger ones are parsed each time: strangers choose what comes, and memory must have a bound

_Window = tuple[float, float]  # notBefore and notAfter, epoch seconds

# X509_V_ERR_* whose meaning to an operator is "not issued by a CA of this bundle". A bad signature is among them: the
# issuer was found by its name, and another CA that bears the same name is the usual cause.
_UNREACHED = frozenset({2, 7, 18, 19, 20, 21, 27, 30, 31})
_INVALID_PURPOSE = 26
_BAD_SIGNATURE = 7


class Purpose(IntEnum):
    """What the peer acts as."""

    CLIENT = binding.PURPOSE_CLIENT
    SERVER = binding.PURPOSE_SERVER


class Certificates(Protocol):
    """
    Certificates as an engine handles them. What stands for one, and for a store, is the engine's own.

    tls/binding.py (X509 of OpenSSL) and tls/boringbinding.py (DER) are such.
    """

    def x509_of(self, der: bytes, /) -> Any:
        """A certificate from its DER. Raises: ValueError when it cannot be read."""
        ...

    def digest_of(self, certificate: Any, /) -> bytes:
        """SHA-256 over its DER."""
        ...

    def der_of(self, certificate: Any, /) -> bytes:
        """Its DER."""
        ...

    def trust_store(self, ders: list[bytes], purpose: int, /) -> Any:
        """A store of anchors for one Purpose (its value)."""
        ...

    def verify_path(self, store: Any, chain: list[Any], /) -> tuple[list[Any], int, int]:
        """Path validation without time. Returns: (path, leaf first; X509_V_ERR, 0 for good; depth of the fault)."""
        ...

    def path_error_text(self, error: int, /) -> str:
        """The engine's words for an X509_V_ERR."""
        ...


class PeerIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """
    A verified peer. Equal peers may share one value; it holds no verdict about policy.

    svid:       facts of the leaf
    valid_from: latest notBefore on the path, epoch seconds
    lapses_at:  earliest notAfter on the path, epoch seconds
    path:       the DER of each certificate on the path, leaf first, anchor last
    """

    svid: LeafFacts
    valid_from: float
    lapses_at: float
    path: tuple[bytes, ...]

    @property
    def spiffe_id(self) -> SpiffeId:
        """Who the peer is."""
        return self.svid.spiffe_id

    def check_time(self, now: float) -> None:
        """Raises: Rejected(CERTIFICATE_EXPIRED | CERTIFICATE_NOT_YET_VALID) when the path is not valid at `now`."""
        if self.valid_from <= now <= self.lapses_at:
            return
        for position, der in enumerate(self.path):
            _check_time(load_certificate(der), position, now)


class _Facts(msgspec.Struct, frozen=True):
    """
    What the bytes of one certificate say.

    weak_key, weak_signature: why it is too weak to count on; None when it is not
    leaf:                     what it would be as a leaf, or why it is none
    claims:                   what it says of itself even so; None where it names nobody
    """

    der: bytes
    not_before: float
    not_after: float
    weak_key: str | None
    weak_signature: str | None
    leaf: LeafFacts | Rejected
    claims: LeafFacts | None


class Verifier:
    """
    The anchors of one trust generation. Nothing in it changes after it was made but what it remembers of chains.

    verdicts:     how many good verdicts to remember; 0 judges every chain from the start
    certificates: the engine's parsing and path validation
    Raises:       Rejected(CERTIFICATE_INVALID) when the engine cannot use an anchor
    """

    def __init__(
        self,
        bundles: Mapping[TrustDomain, Sequence[x509.Certificate]],
        *,
        verdicts: int = MAX_VERDICTS,
        certificates: Certificates = binding,
    ) -> None:
        self._certificates = certificates
        self._facts: dict[bytes, _Facts] = {}
        self._last: tuple[bytes, _Facts] | None = None  # however large it is: a leaf is asked for more than once
        self._verdicts = VerdictCache(verdicts)
        self._stores: dict[tuple[TrustDomain, Purpose], Any] = {}
        self._windows: dict[bytes, _Window] = {}  # by the DER of an anchor
        for trust_domain, anchors in bundles.items():
            windows = _windows(anchors)
            self._windows |= windows
            ders = list(windows)
            for purpose in Purpose:
                try:
                    self._stores[trust_domain, purpose] = certificates.trust_store(ders, purpose.value)
                except ValueError as error:
                    detail = f"the bundle of {trust_domain} holds what this TLS engine cannot use: {error}"
                    raise Rejected(Reason.CERTIFICATE_INVALID, detail) from error

    def verify(self, chain: list[Any], purpose: Purpose, now: float) -> PeerIdentity:
        """
        Judge a presented chain of the engine's certificates, leaf first.

        now:    our clock, epoch seconds
        Raises: Rejected with the first of the reasons listed at the top of this file
        """
        if not chain:
            raise Rejected(Reason.NO_CLIENT_CERTIFICATE, "the peer presented no certificate")
        if len(chain) > MAX_PRESENTED:
            words = f"the peer presented {len(chain)} certificates, {MAX_PRESENTED} at most"
            raise Rejected(Reason.CERTIFICATE_INVALID, words)
        key = (purpose, sha256(b"".join(map(self._certificates.digest_of, chain))).digest())
        peer = self._verdicts.find(key)
        if peer is not None:
            peer.check_time(now)
            return peer
        peer = self._validate(chain, purpose)
        peer.check_time(now)
        self._verdicts.keep(key, peer)
        return peer

    def recall(self, chain_digest: bytes, purpose: Purpose) -> PeerIdentity | None:
        """
        The identity that a chain proved before; its time is the caller's to check (`PeerIdentity.check_time`).

        chain_digest: SHA-256 over the SHA-256 of each certificate presented, in order
        """
        return self._verdicts.find((purpose, chain_digest))

    def _validate(self, chain: list[Any], purpose: Purpose) -> PeerIdentity:
        """All of `verify` that does not depend on the time."""
        leaf = self._read(chain[0]).leaf
        if isinstance(leaf, Rejected):
            raise Rejected(leaf.reason, leaf.detail)
        trust_domain = leaf.spiffe_id.trust_domain
        store = self._stores.get((trust_domain, purpose))
        if store is None:
            known = ", ".join(sorted({domain.name for domain, _ in self._stores})) or "none"
            raise Rejected(
                Reason.WRONG_TRUST_DOMAIN,
                f"{leaf.spiffe_id} is of the trust domain {trust_domain}, for which there is no bundle; there is "
                f"one for: {known}",
            )
        path, error, depth = self._certificates.verify_path(store, chain)
        if error:
            raise self._weak_refusal(error, chain, leaf) or self._path_refusal(error, depth, leaf.spiffe_id)
        return self._identify(leaf, [self._read(certificate) for certificate in path])

    def verify_der(self, chain: Sequence[bytes], purpose: Purpose, now: float) -> PeerIdentity:
        """Judge a chain given as DER, leaf first: our own files, and peers of live connections. Raises as `verify`."""
        try:
            return self.verify([self._certificates.x509_of(der) for der in chain], purpose, now)
        except ValueError as error:
            raise Rejected(Reason.CERTIFICATE_INVALID, str(error)) from error

    def leaf_facts(self, certificate: Any) -> LeafFacts | None:
        """What a leaf claims, unverified; None when it names nobody."""
        try:
            return self._read(certificate).claims
        except Rejected:
            return None

    def _read(self, certificate: Any) -> _Facts:
        digest = self._certificates.digest_of(certificate)
        facts = self._facts.get(digest)
        if facts is None:
            if self._last is not None and self._last[0] == digest:
                return self._last[1]
            facts = _read_facts(self._certificates.der_of(certificate))
            if len(facts.der) > _REMEMBERED_BYTES:
                self._last = digest, facts
                return facts
            if len(self._facts) >= _REMEMBERED_CERTIFICATES:
                self._facts.pop(next(iter(self._facts)))
            self._facts[digest] = facts
        return facts

    def _identify(self, leaf: LeafFacts, path: list[_Facts]) -> PeerIdentity:
        if len(path) > MAX_CHAIN:
            raise Rejected(Reason.CERTIFICATE_INVALID, f"the chain has {len(path)} certificates, {MAX_CHAIN} at most")
        for position, facts in enumerate(path):
            # The anchor is trusted for being in the bundle: its own signature proves nothing and is not looked at.
            weakness = facts.weak_key or (facts.weak_signature if position < len(path) - 1 else None)
            if weakness is not None:
                raise Rejected(Reason.CERTIFICATE_INVALID, f"{_place(position)} of {leaf.spiffe_id} has {weakness}")
        windows = [self._windows.get(facts.der) or (facts.not_before, facts.not_after) for facts in path]
        return PeerIdentity(
            svid=leaf,
            valid_from=max(not_before for not_before, _ in windows),
            lapses_at=min(not_after for _, not_after in windows),
            path=tuple(facts.der for facts in path),
        )

    def _weak_refusal(self, error: int, chain: list[Any], leaf: LeafFacts) -> Rejected | None:
        """A signature that a library does not even verify any more fails there for what it is: too weak."""
        if error != _BAD_SIGNATURE:
            return None
        # Nothing else of them is read: strangers choose how much there is of it.
        signatures = (_weak_signature(load_certificate(self._certificates.der_of(one))) for one in chain)
        weak = next(filter(None, signatures), None)
        if weak is None:
            return None
        return Rejected(Reason.CERTIFICATE_INVALID, f"the chain of {leaf.spiffe_id} has {weak}")

    def _path_refusal(self, error: int, depth: int, spiffe_id: SpiffeId) -> Rejected:
        words = self._certificates.path_error_text(error)
        if error in _UNREACHED:
            return Rejected(
                Reason.UNKNOWN_AUTHORITY,
                f"the chain of {spiffe_id} does not reach the bundle of {spiffe_id.trust_domain} ({words})",
            )
        if error == _INVALID_PURPOSE and depth == 0:
            return Rejected(Reason.NOT_AN_SVID, f"the leaf of {spiffe_id} may not be used for this ({words})")
        return Rejected(Reason.CERTIFICATE_INVALID, f"{_place(depth)} of {spiffe_id} breaks RFC 5280 ({words})")


def _windows(anchors: Sequence[x509.Certificate]) -> dict[bytes, _Window]:
    """
    The anchors of one bundle by their DER, each name and key once, with when it is trusted.

    A CA that is renewed with its old key is twice in the bundle while the one takes over from the other, and OpenSSL,
    which finds an anchor by its name, would take either. An anchor is a name and a key (RFC 5280 6.1.1 d), so the one
    that ends last stands for all of the same name and key, from the first notBefore on.
    """
    kept: dict[tuple[bytes, bytes], tuple[x509.Certificate, float]] = {}
    for anchor in sorted(anchors, key=lambda anchor: anchor.not_valid_after_utc):
        twin = anchor.subject.public_bytes(), _key_bytes(anchor)
        since = anchor.not_valid_before_utc.timestamp()
        kept[twin] = anchor, min(since, kept[twin][1]) if twin in kept else since
    return {
        anchor.public_bytes(Encoding.DER): (since, anchor.not_valid_after_utc.timestamp())
        for anchor, since in kept.values()
    }


def _key_bytes(certificate: x509.Certificate) -> bytes:
    try:
        return public_key_bytes(certificate.public_key())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return certificate.public_bytes(Encoding.DER)  # a key of an unknown kind is like no other


def _read_facts(der: bytes) -> _Facts:
    certificate = load_certificate(der)
    leaf: LeafFacts | Rejected
    claims: LeafFacts | None
    try:
        claims, refusal = read_leaf(certificate)
        leaf = refusal or claims
    except Rejected as rejected:
        claims, leaf = None, Rejected(rejected.reason, rejected.detail)  # kept, and its traceback must not be
    return _Facts(
        der,
        certificate.not_valid_before_utc.timestamp(),
        certificate.not_valid_after_utc.timestamp(),
        _weak_key(certificate),
        _weak_signature(certificate),
        leaf,
        claims,
    )


def _weak_key(certificate: x509.Certificate) -> str | None:
    try:
        key = certificate.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return "a key of an unknown kind"
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < MIN_RSA_BITS:
            return f"an RSA key of {key.key_size} bits, {MIN_RSA_BITS} at least"
    elif not isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        return "a key of a kind that TLS does not sign with"
    elif isinstance(key, ec.EllipticCurvePublicKey) and key.curve.key_size < 224:
        return f"a key on the curve {key.curve.name}, which is too small"
    return None


def _weak_signature(certificate: x509.Certificate) -> str | None:
    try:
        digest = certificate.signature_hash_algorithm
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return "a signature of an unknown kind"
    if digest is not None and digest.name in _WEAK_DIGESTS:
        return f"a {digest.name.upper()} signature"
    return None


def _check_time(certificate: x509.Certificate, position: int, now: float) -> None:
    if now < certificate.not_valid_before_utc.timestamp():
        raise Rejected(Reason.CERTIFICATE_NOT_YET_VALID, f"{_place(position)}: {describe_validity(certificate, now)}")
    if now > certificate.not_valid_after_utc.timestamp():
        raise Rejected(Reason.CERTIFICATE_EXPIRED, f"{_place(position)}: {describe_validity(certificate, now)}")


def _place(position: int) -> str:
    return "the leaf" if position == 0 else f"the CA certificate {position} above the leaf"
