"""
What a PEM file holds, for a person's eyes: every certificate, every key (its type alone), and what is wrong with them.

Where `run` takes a set whole or refuses it with the first reason, this goes on and says everything. It is never a judge
on the data path, and nothing trusts what it found. Values are plain, so that they become JSON as they are; of a key
nothing leaves this file but its type and whether it fits.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256

from proxy.core.clockwords import describe_period, rfc3339
from proxy.core.reasons import Reason, Rejected
from proxy.core.spiffe import TrustDomain, parse_authority_id, quote
from proxy.core.svid import judge_authority, judge_leaf
from proxy.tls.keys import key_type_word, public_key_bytes
from proxy.tls.pem import read_blocks, read_certificates, read_private_key

MAX_FILE_BYTES = 4 * 1024 * 1024  # a system's whole bundle of public roots has about 220 KiB


class Fault(msgspec.Struct, frozen=True):
    """Something wrong: a word of the vocabulary and a sentence."""

    reason: Reason
    detail: str


class CertificateView(msgspec.Struct, frozen=True, kw_only=True):
    """One certificate. position: from 1 within its file; not_before, not_after: RFC 3339; sha256: of the DER."""

    position: int
    authority: bool
    spiffe_id: str | None
    subject: str
    issuer: str
    uris: list[str]
    dns_names: list[str]
    ip_addresses: list[str]
    serial: str
    key_type: str
    not_before: str
    not_after: str
    residual_s: int
    validity: str
    sha256: str
    faults: list[Fault]


class KeyView(msgspec.Struct, frozen=True, kw_only=True):
    """One private key. belongs_to: "FILE certificate N", or None where no certificate at hand has its public key."""

    key_type: str
    belongs_to: str | None
    faults: list[Fault]


class FileView(msgspec.Struct, frozen=True, kw_only=True):
    """One file, in order. chain: a sentence about the order; None where there is no chain to judge. faults: its own."""

    file: str
    certificates: list[CertificateView]
    keys: list[KeyView]
    chain: str | None
    faults: list[Fault]

    def all_faults(self) -> list[Fault]:
        """The file's own faults, then those of what it holds."""
        return [
            *self.faults,
            *(fault for certificate in self.certificates for fault in certificate.faults),
            *(fault for key in self.keys for fault in key.faults),
        ]


class Parsed(NamedTuple):
    """A file's blocks as objects, with a view for each certificate; what could not be read is a fault."""

    file: str
    certificates: list[x509.Certificate]
    views: list[CertificateView]
    keys: list[CertificatePublicKeyTypes]
    faults: list[Fault]


def view_files(files: dict[str, bytes], now: datetime) -> list[FileView]:
    """
    View several files together, so that a key in one finds its certificate in another.

    files: the name to show -> the bytes
    """
    parsed = [parse(name, data, now) for name, data in files.items()]
    owners: dict[bytes, str] = {}
    for file in parsed:
        for position, certificate in enumerate(file.certificates, 1):
            owners.setdefault(_public_key(certificate), f"{file.file} certificate {position}")
    leaves_at_hand = any(file.certificates and not _is_authority(file.certificates[0]) for file in parsed)
    return [_view(file, owners, leaves_at_hand) for file in parsed]


def parse(file: str, data: bytes, now: datetime) -> Parsed:
    """Take a PEM file apart with the reader that `run` uses (tls/pem.py); what it refuses becomes a fault."""
    parsed = Parsed(file, [], [], [], [])
    try:
        readers = _readers(file, data)
    except Rejected as rejected:
        parsed.faults.append(Fault(rejected.reason, rejected.detail))
        return parsed
    for read in readers:
        try:
            read(parsed, data, now)
        except Rejected as rejected:
            parsed.faults.append(Fault(rejected.reason, rejected.detail))
    return parsed


def _view_certificate(certificate: x509.Certificate, position: int, now: datetime) -> CertificateView:
    """Describe one certificate and everything that is wrong with it, time included."""
    clock = now.timestamp()
    not_before = certificate.not_valid_before_utc.timestamp()
    not_after = certificate.not_valid_after_utc.timestamp()
    names = _alternative_names(certificate)
    uris = names.get_values_for_type(x509.UniformResourceIdentifier) if names else []
    validity = describe_period(not_before, not_after, clock)
    faults: list[Fault] = []
    authority = _is_authority(certificate)
    try:
        _judge_ca(certificate, uris) if authority else judge_leaf(certificate)
    except Rejected as rejected:
        faults.append(Fault(rejected.reason, rejected.detail))
    if clock > not_after:
        faults.append(Fault(Reason.CERTIFICATE_EXPIRED, validity))
    elif clock < not_before:
        faults.append(Fault(Reason.CERTIFICATE_NOT_YET_VALID, validity))
    return CertificateView(
        position=position,
        authority=authority,
        spiffe_id=next((uri for uri in uris if uri.startswith("spiffe://")), None),
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        uris=uris,
        dns_names=names.get_values_for_type(x509.DNSName) if names else [],
        ip_addresses=[str(address) for address in names.get_values_for_type(x509.IPAddress)] if names else [],
        serial=f"{certificate.serial_number:x}",
        key_type=_key_type(certificate),
        not_before=rfc3339(not_before),
        not_after=rfc3339(not_after),
        residual_s=math.floor(not_after - clock),  # half a second past the end is -1, not 0
        validity=validity,
        sha256=certificate.fingerprint(SHA256()).hex(),
        faults=faults,
    )


def _view(file: Parsed, owners: dict[bytes, str], leaves_at_hand: bool) -> FileView:
    chain, chain_fault = _judge_order(file.certificates)
    return FileView(
        file=file.file,
        certificates=file.views,
        keys=[_view_key(key, owners, leaves_at_hand) for key in file.keys],
        chain=chain,
        faults=[*file.faults, *([chain_fault] if chain_fault else [])],
    )


def _view_key(key: CertificatePublicKeyTypes, owners: dict[bytes, str], leaves_at_hand: bool) -> KeyView:
    owner = owners.get(public_key_bytes(key))
    faults = []
    if owner is None and leaves_at_hand:  # a key that is shown alone, or beside a bundle only, is no mismatch
        faults.append(Fault(Reason.KEY_MISMATCH, "the key belongs to none of the certificates shown"))
    return KeyView(key_type=key_type_word(key), belongs_to=owner, faults=faults)


def _judge_order(certificates: Sequence[x509.Certificate]) -> tuple[str | None, Fault | None]:
    """Check that a leaf comes first and that each certificate was issued by the next one."""
    if not certificates or all(_is_authority(certificate) for certificate in certificates):
        return None, None  # a bundle of authorities has no order
    if _is_authority(certificates[0]):
        return None, Fault(Reason.CHAIN_UNTRUSTED, "the leaf must be the first certificate of the file")
    for position, (lower, upper) in enumerate(pairwise(certificates), 1):
        if not _issued(lower, upper):
            detail = f"certificate {position} was not issued by certificate {position + 1}: the order is leaf first"
            return None, Fault(Reason.CHAIN_UNTRUSTED, detail)
    last = certificates[-1]
    if last.subject == last.issuer and _is_authority(last):
        return "in order, up to and including the root (which peers have: it need not be sent)", None
    return f"in order; the next issuer, {last.issuer.rfc4514_string()}, is to be found in the trust bundle", None


def _issued(lower: x509.Certificate, upper: x509.Certificate) -> bool:
    try:
        lower.verify_directly_issued_by(upper)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _judge_ca(certificate: x509.Certificate, uris: list[str]) -> None:
    ids = [uri for uri in uris if uri.lower().startswith("spiffe:")]
    domain = TrustDomain("unknown")
    if len(ids) == 1:
        try:
            # Which domain's bundle it will stand in is not known here: it is held against the domain it names itself.
            domain = parse_authority_id(ids[0])
        except Rejected:
            judge_leaf(certificate)  # an ID with a path wants to be a leaf's: refused in the words of the data path
    judge_authority(certificate, domain)


_Reader = Callable[[Parsed, bytes, datetime], None]


def _readers(file: str, data: bytes) -> list[_Reader]:
    """Choose what to look for; a file with neither goes to the certificates' reader, which says what is there."""
    if len(data) > MAX_FILE_BYTES:
        raise Rejected(Reason.PEM_MALFORMED, f"{file}: more than {MAX_FILE_BYTES} bytes, no PEM file is that long")
    blocks = read_blocks(data, file)
    has_key = any(block.is_key for block in blocks)
    if not has_key:
        return [_read_certificates]
    return [_read_certificates, _read_key] if any("CERTIFICATE" in block.label for block in blocks) else [_read_key]


def _read_certificates(parsed: Parsed, data: bytes, now: datetime) -> None:
    for position, certificate in enumerate(read_certificates(data, parsed.file), 1):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what they warn of is a fault here, in words of ours
                parsed.views.append(_view_certificate(certificate, position, now))
        except Exception as error:  # the parser is lazy: what it cannot read it says only when it is asked
            detail = f"{parsed.file}, certificate {position}: it cannot be read: {quote(str(error))}"
            raise Rejected(Reason.CERTIFICATE_INVALID, detail) from None
        parsed.certificates.append(certificate)


def _read_key(parsed: Parsed, data: bytes, _: datetime) -> None:
    parsed.keys.append(read_private_key(data, parsed.file).public_key())


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _alternative_names(certificate: x509.Certificate) -> x509.SubjectAlternativeName | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None


def _key_type(certificate: x509.Certificate) -> str:
    try:
        return key_type_word(certificate.public_key())
    except (ValueError, UnsupportedAlgorithm):
        return "unknown"


def _public_key(certificate: x509.Certificate) -> bytes:
    try:
        return public_key_bytes(certificate.public_key())
    except (ValueError, UnsupportedAlgorithm):
        return b""  # equal to no key's bytes
