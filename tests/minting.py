"""
Certificates for tests, one line each: proper ones through the product's own authority, and every kind of broken one.

`now` is the real clock unless it is given, since OpenSSL compares with the real clock. RSA leaf keys are made once for
each slot and process, because they take long; a test that needs two different RSA keys names two slots.
"""

import inspect
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from proxy.core.config import IdentityConfig
from proxy.tls.authority import Authority, Svid
from proxy.tls.identityfiles import BUNDLE_FILE, CERT_FILE, KEY_FILE, Publication, write_svid
from proxy.tls.keys import PrivateKey, generate_key
from proxy.tls.profiles import leaf_extensions

HOUR_S = 3600
DAY_S = 24 * HOUR_S
DOMAIN = "example.org"
CART = "spiffe://example.org/ns/shop/sa/cart"
SERVER_AUTH = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT_AUTH = ExtendedKeyUsageOID.CLIENT_AUTH


def clock() -> datetime:
    """The real time, in whole seconds as X.509 has it."""
    return datetime.now(UTC).replace(microsecond=0)


def now_s() -> float:
    """The real time in epoch seconds. Ask when judging: a time kept at import is older than what a test mints later."""
    return clock().timestamp()


def authority(
    trust_domain: str = DOMAIN, *, key_type: str = "ecdsa-p256", now: datetime | None = None, lifetime_s: float = DAY_S
) -> Authority:
    """A new root; two calls make two authorities, also for one domain."""
    return Authority.create(trust_domain, now=now or clock(), lifetime_s=lifetime_s, key_type=key_type)


def svid(
    issuer: Authority,
    spiffe_id: str | None = None,
    *,
    key_type: str = "ecdsa-p256",
    now: datetime | None = None,
    lifetime_s: float = HOUR_S,
    dns_names: Iterable[str] = (),
    common_name: str | None = None,
    slot: int = 0,
) -> Svid:
    """A proper SVID. spiffe_id: by default /ns/shop/sa/cart in the issuer's domain."""
    return issuer.issue(
        spiffe_id or f"spiffe://{issuer.trust_domain}/ns/shop/sa/cart",
        now=now or clock(),
        lifetime_s=lifetime_s,
        dns_names=tuple(dns_names),
        common_name=common_name,
        key=leaf_key(key_type, slot),
    )


def leaf_key(key_type: str = "ecdsa-p256", slot: int = 0) -> PrivateKey:
    """A key for a leaf: new for the quick types, remembered by slot for RSA."""
    return _slow_key(key_type, slot) if key_type.startswith("rsa-") else generate_key(key_type)


@cache
def _slow_key(key_type: str, slot: int) -> PrivateKey:  # slot: part of the cache's key
    return generate_key(key_type)


def forge(
    issuer: Authority,
    spiffe_id: str = CART,
    *,
    replace: Iterable[tuple[x509.ExtensionType, bool]] = (),
    without: Iterable[type[x509.ExtensionType]] = (),
    not_before: datetime | None = None,
    not_after: datetime | None = None,
    key_type: str = "ecdsa-p256",
    subject: str | None = None,
) -> Svid:
    """A leaf with whatever is wished: extensions replaced or added (value, critical), left out, any validity."""
    replaced = {type(value): (value, critical) for value, critical in replace}
    dropped = set(without)
    extensions = [
        extension
        for extension in leaf_extensions(spiffe_id)
        if type(extension.value) not in replaced and type(extension.value) not in dropped
    ]
    extensions += [x509.Extension(value.oid, critical, value) for value, critical in replaced.values()]
    key = leaf_key(key_type)
    name = [x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)] if subject else []
    leaf = issuer.sign(
        key.public_key(),
        subject=x509.Name(name),
        not_before=not_before or clock() - timedelta(minutes=1),
        not_after=not_after or clock() + timedelta(hours=1),
        extensions=extensions,
    )
    return Svid(spiffe_id, (leaf, *issuer.chain[:-1]), key)


def with_uris(issuer: Authority, *uris: str) -> Svid:
    """A leaf with exactly these URI SANs; none at all leaves a DNS name alone in the SAN."""
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in uris]
    return forge(issuer, replace=[(x509.SubjectAlternativeName(names or [x509.DNSName("cart.shop.svc")]), True)])


def without_san(issuer: Authority, *, subject: str = CART) -> Svid:
    """A leaf that has its name in the CN only, which is never an identity."""
    return forge(issuer, without=[x509.SubjectAlternativeName], subject=subject)


def as_ca(issuer: Authority, spiffe_id: str = CART) -> Svid:
    """A leaf that is a CA at the same time."""
    return forge(issuer, spiffe_id, replace=[(x509.BasicConstraints(ca=True, path_length=None), True)])


def with_extended_key_usage(issuer: Authority, *usages: ObjectIdentifier) -> Svid:
    """A leaf for these uses, e.g. SERVER_AUTH alone; none: without the extension, which is allowed."""
    if not usages:
        return forge(issuer, without=[x509.ExtendedKeyUsage])
    return forge(issuer, replace=[(x509.ExtendedKeyUsage(usages), False)])


def with_key_usage(issuer: Authority, *usages: str, critical: bool = True) -> Svid:
    """A leaf with exactly these key usages, by the names of x509.KeyUsage, e.g. "key_cert_sign"."""
    every = [name.lstrip("_") for name in inspect.signature(x509.KeyUsage).parameters]
    return forge(issuer, replace=[(x509.KeyUsage(**{name: name in usages for name in every}), critical)])


def without_key_usage(issuer: Authority) -> Svid:
    """A leaf that lacks the key usage extension."""
    return forge(issuer, without=[x509.KeyUsage])


def without_digital_signature(issuer: Authority) -> Svid:
    """A leaf whose key may only encipher."""
    return with_key_usage(issuer, "key_encipherment")


def expired(issuer: Authority, spiffe_id: str = CART, *, ago_s: float = HOUR_S) -> Svid:
    """A leaf that is past its notAfter."""
    end = clock() - timedelta(seconds=ago_s)
    return forge(issuer, spiffe_id, not_before=end - timedelta(hours=1), not_after=end)


def not_yet_valid(issuer: Authority, spiffe_id: str = CART, *, in_s: float = HOUR_S) -> Svid:
    """A leaf that is before its notBefore."""
    start = clock() + timedelta(seconds=in_s)
    return forge(issuer, spiffe_id, not_before=start, not_after=start + timedelta(hours=1))


def write_identity(
    folder: Path,
    identity: Svid,
    bundles: Mapping[str, Authority | bytes] | None = None,
    *,
    publication: Publication = Publication.RENAME,
) -> IdentityConfig:
    """
    Write an identity as `identity:` in a configuration reads it, and return that part of the configuration.

    bundles: trust domain -> its authority, or PEM bytes; each in a file of its own, our own domain's in ca.crt
    """
    own = identity.spiffe_id.removeprefix("spiffe://").partition("/")[0]
    names = {domain: BUNDLE_FILE if domain == own else f"{domain}.crt" for domain in bundles or {}}
    pems = {
        names[domain]: bundle.bundle_pem if isinstance(bundle, Authority) else bundle
        for domain, bundle in (bundles or {}).items()
    }
    write_svid(folder, identity, bundles=pems, publication=publication)
    return IdentityConfig(
        cert=str(folder / CERT_FILE),
        key=str(folder / KEY_FILE),
        bundles={domain: str(folder / name) for domain, name in names.items()},
    )
