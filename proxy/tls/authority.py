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
from enum import StrEnum

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from proxy.core.reasons import Reason, Rejected

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

# Clocks of one laptop and its containers differ by seconds; a leaf that is "not yet valid" right after it was issued
# is the oldest trap of short-lived certificates.
NOT_BEFORE_SKEW_S = 60
MAX_COMMON_NAME = 64  # RFC 5280 appendix A: ub-common-name


class KeyType(StrEnum):
    """The keys that can be minted, in the words of the command line."""

    ECDSA_P256 = "ecdsa-p256"
    ECDSA_P384 = "ecdsa-p384"
    RSA_2048 = "rsa-2048"
    RSA_3072 = "rsa-3072"
    RSA_4096 = "rsa-4096"
    ED25519 = "ed25519"


def generate_key(key_type: str) -> PrivateKey:
    """Generate a private key. key_type: a word of KeyType; anything else raises ValueError."""
    match KeyType(key_type):
        case KeyType.ECDSA_P256:
            return ec.generate_private_key(ec.SECP256R1())
        case KeyType.ECDSA_P384:
            return ec.generate_private_key(ec.SECP384R1())
        case KeyType.ED25519:
            return ed25519.Ed25519PrivateKey.generate()
        case rsa_type:
            return rsa.generate_private_key(public_exponent=65537, key_size=int(rsa_type.removeprefix("rsa-")))


def key_pem(key: PrivateKey) -> bytes:
    """Encode a private key as unencrypted PKCS#8 PEM; whoever writes it to disk owes it mode 0600."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def chain_pem(certificates: Iterable[x509.Certificate]) -> bytes:
    """Concatenate certificates as PEM, in the order given."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def public_key_bytes(key: CertificatePublicKeyTypes) -> bytes:
    """The SubjectPublicKeyInfo in DER: two keys are the same exactly when these bytes are."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


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
        Source:      X509-SVID 3.2 (a CA's ID has no path), 4.1 and 4.3
        """
        key = key or generate_key(key_type)
        name = _ca_name(trust_domain, "root", key)
        not_before, not_after = _validity(now, lifetime_s, NOT_BEFORE_SKEW_S)
        certificate = _sign(
            subject=name,
            public_key=key.public_key(),
            issuer=name,
            issuer_key=key,
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
        Raises:    Rejected(WRONG_TRUST_DOMAIN) for an ID of another domain, (CERTIFICATE_EXPIRED) when the CA is
        Source:    X509-SVID 2, 3.1, 4.1 to 4.4
        """
        if not spiffe_id.startswith(f"spiffe://{self.trust_domain}/"):
            raise Rejected(
                Reason.WRONG_TRUST_DOMAIN,
                f"this CA issues for spiffe://{self.trust_domain}/..., not for {spiffe_id}",
            )
        key = key or generate_key(key_type)
        not_before, not_after = self._validity_within(now, lifetime_s, not_before_skew_s)
        leaf = self.sign(
            key.public_key(),
            subject=_common_name(common_name),
            not_before=not_before,
            not_after=not_after,
            extensions=leaf_extensions(spiffe_id, dns_names=dns_names, san_critical=common_name is None),
        )
        return Svid(spiffe_id, (leaf, *self.chain[:-1]), key)

    def sign(
        self,
        public_key: CertificatePublicKeyTypes,
        *,
        subject: x509.Name,
        not_before: datetime,
        not_after: datetime,
        extensions: Iterable[x509.Extension[x509.ExtensionType]],
    ) -> x509.Certificate:
        """Sign whatever is given, unchecked; the serial number and both key identifiers are added."""
        return _sign(
            subject=subject,
            public_key=public_key,
            issuer=self.certificate.subject,
            issuer_key=self.key,
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


def ca_extensions(trust_domain: str, *, path_length: int | None) -> list[x509.Extension[x509.ExtensionType]]:
    """The extensions of a signing certificate, key identifiers aside. Source: X509-SVID 3.2, 4.1, 4.3."""
    return [
        _extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True),
        _extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True),
        _extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")]), critical=False
        ),
    ]


def leaf_extensions(
    spiffe_id: str, *, dns_names: Sequence[str] = (), san_critical: bool = True
) -> list[x509.Extension[x509.ExtensionType]]:
    """The extensions of a leaf, key identifiers aside. san_critical: a must when the subject is empty (RFC 5280)."""
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(spiffe_id)]
    names += [x509.DNSName(name) for name in dns_names]
    return [
        _extension(x509.BasicConstraints(ca=False, path_length=None), critical=True),
        _extension(_key_usage(digital_signature=True), critical=True),
        _extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        ),
        _extension(x509.SubjectAlternativeName(names), critical=san_critical),
    ]


def _extension(value: x509.ExtensionType, *, critical: bool) -> x509.Extension[x509.ExtensionType]:
    return x509.Extension(value.oid, critical, value)


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _sign(
    *,
    subject: x509.Name,
    public_key: CertificatePublicKeyTypes,
    issuer: x509.Name,
    issuer_key: PrivateKey,
    not_before: datetime,
    not_after: datetime,
    extensions: Iterable[x509.Extension[x509.ExtensionType]],
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
        .add_extension(
            # From the key and not from the issuer's certificate: both are SHA-1 of the key bits for every CA of ours,
            # and the root has no certificate yet while it signs itself.
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )
    for extension in extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    return builder.sign(issuer_key, _digest(issuer_key))


def _digest(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384 | None:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return None  # Ed25519 hashes by itself; cryptography refuses a digest here
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.key_size == 384:
        return hashes.SHA384()
    return hashes.SHA256()


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


def _ca_trust_domain(certificate: x509.Certificate) -> str:
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        raise Rejected(
            Reason.CERTIFICATE_INVALID, "not the CA of a trust domain: it lacks basic constraints or a URI SAN"
        ) from None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if not constraints.ca or len(uris) != 1 or not uris[0].startswith("spiffe://"):
        raise Rejected(
            Reason.CERTIFICATE_INVALID, "not the CA of a trust domain: it needs CA=true and one spiffe:// URI SAN"
        )
    return uris[0].removeprefix("spiffe://").partition("/")[0]
