"""
The X509-SVID rules: a parsed certificate in, the identity that it claims or a refusal out. One validator, many callers.

What is decided here is what one certificate says about itself. Signatures, chains and validity are OpenSSL's work in
tls/ (RFC 5280 path validation against the bundle of the leaf's own trust domain); who may pass is policy.py's. An
identity that comes out of here is therefore a claim until tls/ has proven it.

Strictness. X509-SVID 5.2 lists what a validator must refuse, and other sections what an issuer must do: a critical
key usage extension with digitalSignature (4.3), and a critical SAN where the subject is empty (3.1). We hold peers to
the issuer's duties as well. Every issuer a sidecar meets (SPIRE, cert-manager, Istio, Vault) fulfils them, and a
certificate that does not was made by hand and can do more than its maker thinks: without key usage it may sign others.
An extended key usage is required on both sides or on none (4.4), because an SVID serves in both roles;
anyExtendedKeyUsage is not a substitute. The subject is never read for an identity (2), nor are DNS names.

Bytes of a stranger. cryptography parses extensions only when asked, so each question to a certificate can raise, and
not only documented exceptions. Every such question is asked inside `_reading`, which turns all of them into
Rejected(CERTIFICATE_INVALID): what we cannot read we do not trust.
"""

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, TypeVar, cast

import msgspec
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from proxy.core.clockwords import describe_period
from proxy.core.reasons import Reason, Rejected
from proxy.core.spiffe import SpiffeId, TrustDomain, parse_authority_id, parse_workload_id, quote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# What a stranger can make us read costs by the extension: 16 KiB hold a thousand empty ones, which are 3 ms of CPU. An
# SVID has about 1 KiB, one of RSA-4096 with a hundred DNS names 5, one that ML-DSA-87 has signed 8.
MAX_CERTIFICATE_BYTES = 16 * 1024

_E = TypeVar("_E", bound=x509.ExtensionType)


class LeafFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What log and store keep of a leaf. serial: lower-case hex; not_before, not_after: seconds since the epoch."""

    spiffe_id: SpiffeId
    serial: str
    not_before: float
    not_after: float


class _Claims(NamedTuple):
    """The fields that the rules are about, read once; None where an extension is absent."""

    subject_is_empty: bool
    serial: int
    not_before: float
    not_after: float
    uris: list[str]
    san_is_critical: bool
    is_authority: bool
    usage: x509.KeyUsage | None
    usage_is_critical: bool
    purposes: frozenset[x509.ObjectIdentifier] | None


def load_certificate(der: bytes) -> x509.Certificate:
    """
    Parse one certificate of a stranger.

    der:    exactly one certificate, at most MAX_CERTIFICATE_BYTES
    Raises: Rejected(CERTIFICATE_INVALID)
    """
    if len(der) > MAX_CERTIFICATE_BYTES:
        raise _invalid(f"it has {len(der)} bytes, more than the {MAX_CERTIFICATE_BYTES} that are read")
    with _reading():
        return x509.load_der_x509_certificate(der)


def judge_leaf(certificate: x509.Certificate) -> SpiffeId:
    """
    Hold a leaf against X509-SVID and give the identity that it claims.

    Raises: Rejected(NOT_AN_SVID), Rejected(SPIFFE_ID_MALFORMED) for its URI, Rejected(CERTIFICATE_INVALID)
    Source: X509-SVID 2, 3.1, 4.1, 4.3, 4.4, 5.2; RFC 5280 4.1.2.2 (serial)
    """
    return _judge_claims(_read_claims(certificate))


def read_leaf(certificate: x509.Certificate) -> tuple[LeafFacts, Rejected | None]:
    """
    Read a leaf once, for its judgement and for the log line of a peer that is refused for what else its leaf says.

    Returns: what it says of itself, and why it is no X509-SVID: where there is such a reason, nothing may trust it
    Raises:  Rejected(NOT_AN_SVID), Rejected(SPIFFE_ID_MALFORMED), Rejected(CERTIFICATE_INVALID) where it names nobody
    """
    claims = _read_claims(certificate)
    facts = _facts(claims)
    try:
        _judge_claims(claims)
    except Rejected as rejected:
        return facts, Rejected(rejected.reason, rejected.detail)  # it is kept, and its traceback must not be
    return facts, None


def _facts(claims: _Claims) -> LeafFacts:
    return LeafFacts(
        spiffe_id=_only_id(claims.uris),
        serial=f"{claims.serial:x}",
        not_before=claims.not_before,
        not_after=claims.not_after,
    )


def judge_authority(certificate: x509.Certificate, trust_domain: TrustDomain) -> None:
    """
    Decide whether a certificate may stand in the bundle of a trust domain.

    An authority needs no SPIFFE ID. One that has an ID must name this very trust domain, although X509-SVID 3.2 only
    says SHOULD: two bundle files that were swapped would let each domain's CA issue the other's identities, and this is
    the one place where that can be seen. URIs of other schemes are the CA's own business.

    Raises: Rejected(CERTIFICATE_INVALID)
    Source: X509-SVID 3.2, 4.1, 4.3; RFC 5280 4.2.1.9
    """
    claims = _read_claims(certificate)
    if not claims.is_authority:
        raise _invalid("it is not a CA certificate (basic constraints cA is not true), so a bundle must not hold it")
    if claims.usage is not None and not claims.usage.key_cert_sign:
        raise _invalid("its key usage lacks keyCertSign, so it cannot have issued an SVID")
    ids = [uri for uri in claims.uris if uri.lower().startswith("spiffe:")]
    if not ids:
        return
    if len(claims.uris) > 1:
        raise _invalid(f"it is an SVID of an authority with {len(claims.uris)} URI SANs, and must have exactly one")
    try:
        named = parse_authority_id(ids[0])
    except Rejected as rejected:
        raise _invalid(rejected.detail) from rejected
    if named != trust_domain:
        raise _invalid(f"it is the authority of the trust domain {named}, not of {trust_domain}")


def describe_validity(certificate: x509.Certificate, now: float) -> str:
    """
    Say when a certificate is valid, what our clock says and how far apart the two are; part of every time refusal.

    now:    seconds since the epoch
    Raises: Rejected(CERTIFICATE_INVALID)
    """
    claims = _read_claims(certificate)
    return describe_period(claims.not_before, claims.not_after, now)


def _judge_claims(claims: _Claims) -> SpiffeId:
    spiffe_id = _only_id(claims.uris)
    if claims.serial <= 0:
        raise _invalid("its serial number is not positive")
    if claims.subject_is_empty and not claims.san_is_critical:
        raise _no_svid("its subject is empty, and then the subject alternative name must be critical")
    if claims.is_authority:
        raise _no_svid("it is a CA certificate (basic constraints cA), which may sign but not authenticate")
    _judge_leaf_usage(claims)
    return spiffe_id


def _only_id(uris: list[str]) -> SpiffeId:
    if not uris:
        raise _no_svid("it has no URI SAN (neither a DNS name nor the common name is an identity)")
    if len(uris) > 1:
        raise _no_svid(f"it has {len(uris)} URI SANs, and must have exactly one")
    return parse_workload_id(uris[0])


def _judge_leaf_usage(claims: _Claims) -> None:
    """Hold key usage and extended key usage of a leaf against X509-SVID 4.3 and 4.4."""
    usage = claims.usage
    if usage is None:
        raise _no_svid("it has no key usage extension, and must have one with digitalSignature")
    if usage.key_cert_sign or usage.crl_sign:
        raise _no_svid("its key usage has keyCertSign or cRLSign, which are for a CA")
    if not usage.digital_signature:
        raise _no_svid("its key usage lacks digitalSignature")
    if not claims.usage_is_critical:
        raise _no_svid("its key usage extension is not marked critical")
    if claims.purposes is None:
        return
    for purpose, name in (
        (ExtendedKeyUsageOID.SERVER_AUTH, "serverAuth"),
        (ExtendedKeyUsageOID.CLIENT_AUTH, "clientAuth"),
    ):
        if purpose not in claims.purposes:
            raise _no_svid(f"its extended key usage lacks {name}; an SVID has both serverAuth and clientAuth, or none")


def _read_claims(certificate: x509.Certificate) -> _Claims:
    with _reading():
        # One walk: a stranger's 16 KiB hold a thousand extensions, and cryptography's own look-up walks for each kind.
        found = {extension.oid: extension for extension in certificate.extensions}
        san = _find(found, x509.SubjectAlternativeName)
        constraints = _find(found, x509.BasicConstraints)
        usage = _find(found, x509.KeyUsage)
        purposes = _find(found, x509.ExtendedKeyUsage)
        return _Claims(
            subject_is_empty=not certificate.subject.rdns,
            serial=certificate.serial_number,
            not_before=certificate.not_valid_before_utc.timestamp(),
            not_after=certificate.not_valid_after_utc.timestamp(),
            uris=san.value.get_values_for_type(x509.UniformResourceIdentifier) if san else [],
            san_is_critical=san is not None and san.critical,
            is_authority=constraints is not None and constraints.value.ca,
            usage=usage.value if usage else None,
            usage_is_critical=usage is not None and usage.critical,
            purposes=frozenset(purposes.value) if purposes else None,
        )


def _find(
    found: "Mapping[x509.ObjectIdentifier, x509.Extension[x509.ExtensionType]]", kind: type[_E]
) -> x509.Extension[_E] | None:
    """Of an OID that we name cryptography gives the value by its type, or raises while it parses."""
    return cast("x509.Extension[_E] | None", found.get(kind.oid))


@contextmanager
def _reading() -> "Iterator[None]":
    """Turn whatever the parser raises into a refusal, and keep its warnings from the log (we judge for ourselves)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:
        raise _invalid(f"it cannot be read: {type(error).__name__}: {quote(str(error))}") from error


def _no_svid(why: str) -> Rejected:
    return Rejected(Reason.NOT_AN_SVID, f"the certificate is no X509-SVID: {why}")


def _invalid(why: str) -> Rejected:
    return Rejected(Reason.CERTIFICATE_INVALID, f"the certificate is refused: {why}")
