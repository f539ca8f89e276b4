"""
Our own identity as one checked value: key, chain and bundles that belong together.

`check_identity` looks at the files as a set, in the order in which an operator would mend them: is each file the PEM
that it should be, does the key belong to the leaf, is every certificate of a bundle an authority of that trust domain,
and would a peer that has our own domain's bundle accept us, as a client and as a server. The last is asked of the same
`Verifier` that judges peers, so that we never serve with what we would refuse.

Decisions:

- A bundle is taken whole or not at all. One certificate in it that is no CA, or the CA of another trust domain, is
  CERTIFICATE_INVALID: leaving it out would hide that somebody merged two bundles. Expired roots are the exception,
  because they stay behind in every rotation: they are left out with a warning, unless nothing else is there.
- A root at the end of `identity.cert` is not sent: who trusts it has it, and who has it not must not take it from us.
- A key that its group can read is no warning (Kubernetes makes it so for fsGroup); one that others can read is.

It refuses to know the disk (identityreader.py) and the clock (`now` is an argument).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import crypto

from proxy.core.clockwords import describe_period
from proxy.core.reasons import Reason, Rejected
from proxy.core.spiffe import TrustDomain, parse_trust_domain
from proxy.core.svid import describe_validity, judge_authority, judge_leaf
from proxy.tls.identityreader import CERT, KEY, IdentityFiles, bundle_key
from proxy.tls.keys import PrivateKey, public_key_bytes
from proxy.tls.pem import read_blocks, read_certificates, read_private_key
from proxy.tls.verify import MAX_CHAIN, PeerIdentity, Purpose, Verifier

_OTHERS = 0o007
_LATE_SHARE = 0.2  # issuers renew at a half to two thirds of a life; what is left of it then is late
_LATE_S = 86400.0  # and a certificate that lives for years is not late before its last day


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
    key: PrivateKey = field(repr=False)
    identity: PeerIdentity
    bundles: Mapping[TrustDomain, tuple[x509.Certificate, ...]]
    digest: bytes
    warnings: tuple[str, ...] = ()


def check_identity(files: IdentityFiles, now: float) -> Material:
    """
    Check one reading of our identity files as a set.

    now:    our clock, epoch seconds
    Raises: Rejected with PEM_MALFORMED, KEY_MISMATCH, CHAIN_UNTRUSTED, NOT_AN_SVID, SPIFFE_ID_MALFORMED,
            WRONG_TRUST_DOMAIN (there is no bundle for our own), CERTIFICATE_EXPIRED, CERTIFICATE_NOT_YET_VALID or
            CERTIFICATE_INVALID; the detail names the file
    """
    certificates = read_certificates(files.cert, files.place(CERT))
    key = read_private_key(files.key, files.place(KEY))
    _check_key(certificates, key, files)
    warnings: list[str] = []
    bundles: dict[TrustDomain, tuple[x509.Certificate, ...]] = {}
    for name, data in files.bundles.items():
        trust_domain = parse_trust_domain(name)
        bundles[trust_domain] = read_bundle(data, trust_domain, files.place(bundle_key(name)), now, warnings)
    chain = chain_to_send(certificates, files.place(CERT))
    identity = _judge_ourselves(chain, bundles, files.place(CERT), now)
    warnings += _more_warnings(files, identity, now)
    return Material(
        chain=chain,
        key=key,
        identity=identity,
        bundles=MappingProxyType(bundles),
        digest=files.digest,
        warnings=tuple(warnings),
    )


def _check_key(certificates: Sequence[x509.Certificate], key: PrivateKey, files: IdentityFiles) -> None:
    ours = public_key_bytes(key.public_key())
    owned = [_public_key_bytes(certificate) == ours for certificate in certificates]
    if owned[0]:
        return
    place = f"the key in {files.place(KEY)} does not belong to the first certificate in {files.place(CERT)}"
    if any(owned):
        raise Rejected(
            Reason.KEY_MISMATCH, f"{place}, but to number {owned.index(True) + 1}: the leaf has to come first"
        )
    raise Rejected(Reason.KEY_MISMATCH, f"{place}: they are of two different issuances")


def _public_key_bytes(certificate: x509.Certificate) -> bytes | None:
    try:
        return public_key_bytes(certificate.public_key())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None  # a key of no kind that we know is not the kind of ours


def read_bundle(
    data: bytes, trust_domain: TrustDomain, place: str, now: float, warnings: list[str]
) -> tuple[x509.Certificate, ...]:
    """
    The anchors of one trust domain, each once; `warnings` gets a sentence for each oddity.

    Raises: Rejected(PEM_MALFORMED | CERTIFICATE_INVALID | CERTIFICATE_EXPIRED)
    """
    anchors = tuple(dict.fromkeys(read_certificates(data, place)))
    for number, anchor in enumerate(anchors, start=1):
        try:
            judge_authority(anchor, trust_domain)
        except Rejected as rejected:
            raise Rejected(rejected.reason, f"{place}, certificate {number}: {rejected.detail}") from rejected
    current = [anchor for anchor in anchors if now <= _not_after(anchor)]
    if not current:
        raise Rejected(
            Reason.CERTIFICATE_EXPIRED, f"{place}: every CA in it has expired, the last one {_last(anchors, now)}"
        )
    if len(current) < len(anchors):
        gone = [anchor for anchor in anchors if anchor not in current]
        warnings.append(f"{place}: left out {len(gone)} expired CA, the last one {_last(gone, now)}")
    for block in read_blocks(data, place):
        if block.is_key:
            warnings.append(f"{place} holds a private key, which a bundle does not need: take it out")
        elif block.label == "X509 CRL":
            warnings.append(f"{place} holds a revocation list, which is not looked at")
    # OpenSSL takes the first anchor that fits by name and key. Where a CA was renewed with its key, that has to be the
    # new certificate: the old one would expire within this generation, and every peer with it.
    return tuple(sorted(current, key=_not_after, reverse=True))


def chain_to_send(certificates: Sequence[x509.Certificate], place: str) -> tuple[x509.Certificate, ...]:
    """Our chain without roots, each certificate once. Raises: Rejected(CERTIFICATE_INVALID) for more than 10"""
    leaf, *others = dict.fromkeys(certificates)
    chain = (leaf, *(certificate for certificate in others if not _is_root(certificate)))
    if len(chain) > MAX_CHAIN:
        raise Rejected(
            Reason.CERTIFICATE_INVALID,
            f"{place} holds {len(chain)} certificates, {MAX_CHAIN} at most: the leaf and its intermediates",
        )
    return chain


def _is_root(certificate: x509.Certificate) -> bool:
    if certificate.issuer != certificate.subject:
        return False
    try:
        certificate.verify_directly_issued_by(certificate)
    except InvalidSignature:
        return False  # self-issued: an intermediate on the way from an old key of the CA to its new one
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return True
    return True


def _judge_ourselves(
    chain: Sequence[x509.Certificate],
    bundles: Mapping[TrustDomain, tuple[x509.Certificate, ...]],
    place: str,
    now: float,
) -> PeerIdentity:
    """What a peer with our own domain's bundle would say of us, in either role."""
    try:
        spiffe_id = judge_leaf(chain[0])
        if spiffe_id.trust_domain not in bundles:
            raise Rejected(
                Reason.WRONG_TRUST_DOMAIN,
                f"it is {spiffe_id}, and there is no bundle for that trust domain: "
                f"add `{spiffe_id.trust_domain}: PATH` to identity.bundles",
            )
        try:
            verifier = Verifier(bundles)
        except crypto.Error as error:
            raise Rejected(Reason.CERTIFICATE_INVALID, "OpenSSL cannot read a CA of identity.bundles") from error
        ders = [certificate.public_bytes(Encoding.DER) for certificate in chain]
        verifier.verify_der(ders, Purpose.CLIENT, now)
        return verifier.verify_der(ders, Purpose.SERVER, now)
    except Rejected as rejected:
        reason = Reason.CHAIN_UNTRUSTED if rejected.reason is Reason.UNKNOWN_AUTHORITY else rejected.reason
        raise Rejected(reason, f"{place}: {rejected.detail}") from rejected


def _more_warnings(files: IdentityFiles, identity: PeerIdentity, now: float) -> list[str]:
    warnings = []
    if files.key_mode & _OTHERS:
        warnings.append(
            f"{files.place(KEY)} has the mode {files.key_mode:04o}, so that others can get at the key: use 0600 "
            "(Kubernetes: defaultMode: 0440 with an fsGroup, or a mount that no other container has)"
        )
    if files.cert != files.key and any(block.is_key for block in read_blocks(files.cert, files.place(CERT))):
        warnings.append(f"{files.place(CERT)} holds a private key too, which is not looked at: take it out")
    left_s = identity.lapses_at - now
    if left_s < min(_LATE_S, _LATE_SHARE * (identity.lapses_at - identity.valid_from)):
        period = describe_period(identity.valid_from, identity.lapses_at, now)
        warnings.append(f"{files.place(CERT)} should have been renewed by now, its chain is {period}")
    return warnings


def _not_after(certificate: x509.Certificate) -> float:
    return certificate.not_valid_after_utc.timestamp()


def _last(certificates: Sequence[x509.Certificate], now: float) -> str:
    return describe_validity(max(certificates, key=_not_after), now)
