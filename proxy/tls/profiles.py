"""
The two certificate profiles of X509-SVID, as lists of extensions: what a signing certificate carries and what a leaf.

Key identifiers are not here, since they depend on keys; authority.py adds them. core/svid.py judges what these lists
make; the two are written apart on purpose, so that a mistake in one is caught by the other.
"""

from collections.abc import Sequence

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

AnyExtension = x509.Extension[x509.ExtensionType]


def ca_extensions(trust_domain: str, *, path_length: int | None) -> list[AnyExtension]:
    """The extensions of a signing certificate, key identifiers aside. Source: X509-SVID 3.2, 4.1, 4.3."""
    return [
        _extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True),
        _extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True),
        _extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")]), critical=False
        ),
    ]


def leaf_extensions(spiffe_id: str, *, dns_names: Sequence[str] = (), san_critical: bool = True) -> list[AnyExtension]:
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


def _extension(value: x509.ExtensionType, *, critical: bool) -> AnyExtension:
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
