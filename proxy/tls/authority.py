"""
A certificate authority for development: it mints the X509-SVIDs of `certs`, `dev`, `demo` and the tests.

It decides what a proper CA and a proper leaf look like: every certificate made through `create`, `intermediate` and
`issue` keeps all rules of X509-SVID, so that nobody learns a habit on a laptop that a real validator refuses. The one
way to break a rule is `sign`, which takes the extensions as they are given.

It refuses to know the clock (`now` is an argument) and the disk (tls/identityfiles.py writes). Production identities
come from SPIRE or cert-manager: there is no revocation here, no audit trail, no key protection beyond file modes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID

from proxy.core.reasons import Reason, Rejected
from proxy.core.spiffe import parse_authority_id, parse_trust_domain, parse_workload_id
from proxy.tls.keys import KeyType, PrivateKey, generate_key, key_pem, public_key_bytes, signature_digest
from proxy.tls.profiles import AnyExtension, ca_extensions, leaf_extensions

# Clocks of one laptop and its containers differ by seconds; a leaf that is "not yet valid" right after it was issued
# is the oldest trap of short-lived certificates.
NOT_BEFORE_SKEW_S = 60
MAX_COMMON_NAME = 64  # RFC 5280 appendix A: ub-common-name


def chain_pem(certificates: Iterable[x509.Certificate]) -> bytes:
    """Concatenate certificates as PEM, in the order given."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


@dataclass(frozen=True, slots=True)
class Svid:
    """An X509-SVID with its key. chain: leaf first, then intermediates, without the root."""

    spiffe_id: str
    chain: tuple[x509.Certificate, ...]
    key: PrivateKey = field(repr=False)

    @property
    def leaf(self) -> x509.Certificate:
        """The certificate that carries the SPIFFE ID."""
        return self.chain[0]

    @property
    def cert_pem(self) -> bytes:
        """What `identity.cert` holds: leaf first, then intermediates."""
        return chain_pem(self.chain)

    @property
    def key_pem(self) -> bytes:
        """What `identity.key` holds: PKCS#8, unencrypted."""
        return key_pem(self.key)


@dataclass(frozen=True, slots=True)
class Authority:
    """
    A CA of one trust domain, root or intermediate; a value, so issuing changes nothing in it.

    chain: its own certificate first, its root last (for a root they are the same one).
    """

    trust_domain: str
    chain: tuple[x509.Certificate, ...]
    key: PrivateKey = field(repr=False)

    @classmethod
    def create(
        cls,
        trust_domain: str,
        *,
        now: datetime,
        lifetime_s: float,
        key_type: str = KeyType.ECDSA_P256,
        path_length: int | None = None,
        key: PrivateKey | None = None,
    ) -> "Authority":
        """
        Create a self-signed root.

        lifetime_s:  from `now`; notBefore lies NOT_BEFORE_SKEW_S earlier
        path_length: how many intermediates may follow; None: any number
        key:         an existing key instead of a new one of key_type
        Raises:      Rejected(SPIFFE_ID_MALFORMED) when trust_domain is not the bare name of one
        Source:      X509-SVID 3.2 (a CA's ID has no path), 4.1 and 4.3
        """
        parse_trust_domain(trust_domain)
        key = key or generate_key(key_type)
        name = _ca_name(trust_domain, "root", key)
        not_before, not_after = _validity(now, lifetime_s, NOT_BEFORE_SKEW_S)
        certificate = _sign(
            subject=name,
            public_key=key.public_key(),
            issuer=name,
            issuer_key=key,
            issuer_key_id=x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()),
            not_before=not_before,
            not_after=not_after,
            extensions=ca_extensions(trust_domain, path_length=path_length),
        )
        return cls(trust_domain, (certificate,), key)

    @classmethod
    def load(cls, cert_pem: bytes, key_pem: bytes) -> "Authority":
        """
        Take up a CA that was written earlier.

        cert_pem: its certificate, and for an intermediate the chain up to the root
        Raises:   Rejected(PEM_MALFORMED), (KEY_MISMATCH), (CERTIFICATE_INVALID) when it is not a CA of a trust domain
        """
        try:
            chain = tuple(x509.load_pem_x509_certificates(cert_pem))
        except ValueError as error:
            raise Rejected(Reason.PEM_MALFORMED, f"the CA file holds no readable PEM certificate: {error}") from None
        try:
            key = load_pem_private_key(key_pem, password=None)
        except (ValueError, TypeError) as error:
            raise Rejected(Reason.PEM_MALFORMED, f"the CA's key file holds no readable PEM key: {error}") from None
        if not isinstance(key, PrivateKey):
            raise Rejected(Reason.PEM_MALFORMED, "the CA's key is neither ECDSA, RSA nor Ed25519")
        if public_key_bytes(chain[0].public_key()) != public_key_bytes(key.public_key()):
            raise Rejected(Reason.KEY_MISMATCH, "the CA's key does not belong to its certificate")
        if chain[-1].subject != chain[-1].issuer:
            raise Rejected(Reason.CERTIFICATE_INVALID, "the CA file ends before the root: append the issuers up to it")
        return cls(_ca_trust_domain(chain[0]), chain, key)

    @property
    def certificate(self) -> x509.Certificate:
        """This CA's own certificate."""
        return self.chain[0]

    @property
    def cert_pem(self) -> bytes:
        """What `load` takes: this CA's certificate, then its issuers up to the root."""
        return chain_pem(self.chain)

    @property
    def key_pem(self) -> bytes:
        """This CA's key: PKCS#8, unencrypted."""
        return key_pem(self.key)

    @property
    def bundle_pem(self) -> bytes:
        """What `identity.bundles` holds for this trust domain: the root alone."""
        return chain_pem(self.chain[-1:])

    def intermediate(
        self,
        *,
        now: datetime,
        lifetime_s: float,
        key_type: str = KeyType.ECDSA_P256,
        path_length: int | None = 0,
        key: PrivateKey | None = None,
    ) -> "Authority":
        """Create a CA below this one; it never outlives it. path_length 0: it issues leaves only."""
        key = key or generate_key(key_type)
        not_before, not_after = self._validity_within(now, lifetime_s, NOT_BEFORE_SKEW_S)
        certificate = self.sign(
            key.public_key(),
            subject=_ca_name(self.trust_domain, "intermediate", key),
            not_before=not_before,
            not_after=not_after,
            extensions=ca_extensions(self.trust_domain, path_length=path_length),
        )
        return Authority(self.trust_domain, (certificate, *self.chain), key)

    def issue(
        self,
        spiffe_id: str,
        *,
        now: datetime,
        lifetime_s: float,
        key_type: str = KeyType.ECDSA_P256,
        not_before_skew_s: float = NOT_BEFORE_SKEW_S,
        dns_names: Sequence[str] = (),
        common_name: str | None = None,
        key: PrivateKey | None = None,
    ) -> Svid:
        """
        Issue a leaf for a workload of this trust domain; it never outlives the CA.

        spiffe_id: of a workload, "spiffe://" + this trust domain + "/" + path
        Raises:    Rejected(SPIFFE_ID_MALFORMED), (WRONG_TRUST_DOMAIN) for an ID of another domain,
                   (CERTIFICATE_EXPIRED) when the CA is, (CERTIFICATE_INVALID) for a name that X.509 cannot hold
        Source:    X509-SVID 2, 3.1, 4.1 to 4.4
        """
        if parse_workload_id(spiffe_id).trust_domain.name != self.trust_domain:
            raise Rejected(
                Reason.WRONG_TRUST_DOMAIN,
                f"this CA issues for spiffe://{self.trust_domain}/..., not for {spiffe_id}",
            )
        key = key or generate_key(key_type)
        not_before, not_after = self._validity_within(now, lifetime_s, not_before_skew_s)
        try:
            subject = _common_name(common_name)
            extensions = leaf_extensions(spiffe_id, dns_names=dns_names, san_critical=common_name is None)
        except ValueError as error:  # a DNS name beyond ASCII, a common name beyond 64 characters
            raise Rejected(Reason.CERTIFICATE_INVALID, f"X.509 cannot hold this name: {error}") from None
        leaf = self.sign(
            key.public_key(), subject=subject, not_before=not_before, not_after=not_after, extensions=extensions
        )
        return Svid(spiffe_id, (leaf, *self.chain[:-1]), key)

    def sign(
        self,
        public_key: CertificatePublicKeyTypes,
        *,
        subject: x509.Name,
        not_before: datetime,
        not_after: datetime,
        extensions: Iterable[AnyExtension],
    ) -> x509.Certificate:
        """Sign whatever is given, unchecked; the serial number and both key identifiers are added."""
        return _sign(
            subject=subject,
            public_key=public_key,
            issuer=self.certificate.subject,
            issuer_key=self.key,
            issuer_key_id=_issuer_key_id(self.certificate, self.key),
            not_before=not_before,
            not_after=not_after,
            extensions=extensions,
        )

    def _validity_within(self, now: datetime, lifetime_s: float, skew_s: float) -> tuple[datetime, datetime]:
        not_before, not_after = _validity(now, lifetime_s, skew_s)
        lapses = min(certificate.not_valid_after_utc for certificate in self.chain)
        if lapses <= now:
            raise Rejected(
                Reason.CERTIFICATE_EXPIRED,
                f"the CA of {self.trust_domain} expired at {lapses:%Y-%m-%dT%H:%M:%SZ}: create a new one",
            )
        return not_before, min(not_after, lapses)


def _sign(
    *,
    subject: x509.Name,
    public_key: CertificatePublicKeyTypes,
    issuer: x509.Name,
    issuer_key: PrivateKey,
    issuer_key_id: x509.AuthorityKeyIdentifier,
    not_before: datetime,
    not_after: datetime,
    extensions: Iterable[AnyExtension],
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(issuer_key_id, critical=False)
    )
    for extension in extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    return builder.sign(issuer_key, signature_digest(issuer_key))


def _validity(now: datetime, lifetime_s: float, skew_s: float) -> tuple[datetime, datetime]:
    if now.tzinfo is None:
        raise ValueError("`now` needs a time zone: a naive time would be read as UTC, hours away from what was meant")
    now = now.astimezone(UTC).replace(microsecond=0)  # X.509 knows whole seconds
    return now - timedelta(seconds=skew_s), now + timedelta(seconds=lifetime_s)


def _ca_name(trust_domain: str, role: str, key: PrivateKey) -> x509.Name:
    # The key's identifier makes the name of each CA its own: after a rotation, two roots of one domain with one name
    # would make every "issued by" ambiguous to the reader (and to verifiers that look issuers up by name).
    key_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest.hex()[:8]
    suffix = f" {role} {key_id}"
    return _common_name(trust_domain[: MAX_COMMON_NAME - len(suffix)] + suffix)


def _common_name(text: str | None) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)] if text is not None else [])


def _issuer_key_id(issuer: x509.Certificate, key: PrivateKey) -> x509.AuthorityKeyIdentifier:
    # Copied from the issuer and not computed: a CA made by another program may derive its identifier in another way,
    # and verifiers look for the issuer by these bytes.
    try:
        own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _ca_trust_domain(certificate: x509.Certificate) -> str:
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        raise Rejected(
            Reason.CERTIFICATE_INVALID, "not the CA of a trust domain: it lacks basic constraints or a URI SAN"
        ) from None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if not constraints.ca or len(uris) != 1:
        raise Rejected(
            Reason.CERTIFICATE_INVALID, "not the CA of a trust domain: it needs CA=true and exactly one URI SAN"
        )
    return parse_authority_id(uris[0]).name
