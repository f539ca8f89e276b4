"""X509-SVID 2 to 5.2 as tables over minted certificates, and hostile DER that may raise nothing but Rejected."""

import warnings
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import svid
from proxy.core.reasons import Reason, Rejected
from proxy.core.spiffe import TrustDomain, parse_workload_id
from proxy.core.svid import (
    MAX_CERTIFICATE_BYTES,
    LeafFacts,
    describe_validity,
    judge_authority,
    judge_leaf,
    load_certificate,
    read_leaf,
)

ID = "spiffe://example.org/ns/shop/sa/cart"
EXAMPLE = TrustDomain("example.org")
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))  # the same bytes in each run, so that a fuzzing find repeats
USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
BOTH = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
PLACEHOLDER = x509.ObjectIdentifier("2.5.29.99")  # as long in DER as 2.5.29.17 and 2.5.29.19, so it can become them
STRANGE = x509.ObjectIdentifier("1.2.3.4")


def uri(text: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(text)


def mint(
    *uris: str,
    other_names=(),
    san_critical=False,
    subject="cart",
    ca: bool | None = False,
    usage: tuple[str, ...] | None = ("digital_signature",),
    usage_critical=True,
    purposes=None,
    serial=0xBEEF,
    extra: tuple[tuple[x509.ObjectIdentifier, bytes, bool], ...] = (),
) -> bytes:
    """One certificate as DER: a proper leaf unless told otherwise. Who signed it does not matter to these rules."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)] if subject else [])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")]))
        .public_key(KEY.public_key())
        .serial_number(serial)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2026, 1, 1, 1, tzinfo=UTC))
    )
    names = [uri(text) for text in uris] + list(other_names)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), san_critical)
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
    if usage is not None:
        flags = {flag: flag in usage for flag in USAGES}
        builder = builder.add_extension(x509.KeyUsage(**flags), usage_critical)
    if purposes is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    for oid, value, critical in extra:
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, value), critical)
    return builder.sign(KEY, None).public_bytes(Encoding.DER)


def with_placeholder_as(number: int, value: bytes, **kwargs) -> bytes:
    """A certificate with a raw extension 2.5.29.NUMBER that the builder would refuse to make."""
    der = mint(ID, extra=((PLACEHOLDER, value, False),), **kwargs)
    assert der.count(bytes.fromhex("0603551d63")) == 1
    return der.replace(bytes.fromhex("0603551d63"), bytes([6, 3, 0x55, 0x1D, number]))


def with_serial(value: int) -> bytes:
    der = mint(ID, serial=0x7F)
    version_and_serial = bytes.fromhex("a003020102" + "02017f")
    assert der.count(version_and_serial) == 1
    return der.replace(version_and_serial, version_and_serial[:-1] + value.to_bytes(1, "big", signed=True))


def refusal(call, *arguments) -> Rejected:
    with pytest.raises(Rejected) as caught:
        call(*arguments)
    assert caught.value.detail.isascii()
    assert len(caught.value.detail) < 1000
    return caught.value


def judge_as_read(certificate: x509.Certificate) -> None:
    _, refused = read_leaf(certificate)
    if refused is not None:
        raise refused


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"ca": None},
        {"subject": "", "san_critical": True},
        {"subject": "spiffe://example.org/admin"},
        {"other_names": (x509.DNSName("cart.shop.svc"), x509.RFC822Name("a@example.org"))},
        {"usage": ("digital_signature", "key_encipherment", "key_agreement")},
        {"purposes": BOTH},
        {"purposes": (*BOTH, ExtendedKeyUsageOID.CODE_SIGNING)},
        {"extra": ((STRANGE, b"whatever", False),)},
    ],
)
def test_a_leaf_that_keeps_the_rules_is_its_uri(changes) -> None:
    certificate = load_certificate(mint(ID, **changes))
    assert judge_leaf(certificate) == parse_workload_id(ID)
    facts, refused = read_leaf(certificate)
    assert (facts.spiffe_id, refused) == (parse_workload_id(ID), None)


@pytest.mark.parametrize(
    ("uris", "changes", "why"),
    [
        ((), {}, "no URI SAN"),
        ((), {"subject": ID}, "no URI SAN"),
        ((), {"other_names": (x509.DNSName("cart.shop.svc"),)}, "no URI SAN"),
        ((ID, ID), {}, "2 URI SANs"),
        ((ID, "https://example.org/"), {}, "2 URI SANs"),
        (("https://example.org/", ID), {}, "2 URI SANs"),
        ((ID,), {"subject": ""}, "subject is empty"),
        ((ID,), {"ca": True}, "CA certificate"),
        ((ID,), {"ca": True, "usage": ("digital_signature", "key_cert_sign")}, "CA certificate"),
        ((ID,), {"usage": ("digital_signature", "key_cert_sign")}, "keyCertSign"),
        ((ID,), {"usage": ("digital_signature", "crl_sign")}, "cRLSign"),
        ((ID,), {"usage": None}, "no key usage"),
        ((ID,), {"usage": ("key_encipherment",)}, "digitalSignature"),
        ((ID,), {"usage_critical": False}, "critical"),
        ((ID,), {"purposes": BOTH[:1]}, "clientAuth"),
        ((ID,), {"purposes": BOTH[1:]}, "serverAuth"),
        ((ID,), {"purposes": (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)}, "serverAuth"),
        ((ID,), {"purposes": (ExtendedKeyUsageOID.CODE_SIGNING,)}, "serverAuth"),
    ],
)
def test_a_leaf_that_breaks_a_rule_is_no_svid(uris, changes, why: str) -> None:
    certificate = load_certificate(mint(*uris, **changes))
    rejected = refusal(judge_leaf, certificate)
    assert rejected.reason is Reason.NOT_AN_SVID
    assert why in rejected.detail
    assert refusal(judge_as_read, certificate).detail == rejected.detail


@pytest.mark.parametrize(
    "text",
    [
        "spiffe://example.org",
        "spiffe://example.org/",
        "https://example.org/ns/shop",
        "Spiffe://example.org/a",
        "spiffe://Example.org/a",
        "spiffe://example.org:443/a",
        "spiffe://example.org/a?b",
        "spiffe://example.org/a#b",
        "spiffe://example.org/a%20b",
        "spiffe://example.org/a/../b",
        "spiffe://example.org/a\x00",
        "spiffe://example.org/" + "a" * 15000,
        "",
    ],
)
def test_a_leaf_with_a_malformed_id_is_refused(text: str) -> None:
    assert refusal(judge_leaf, load_certificate(mint(text))).reason is Reason.SPIFFE_ID_MALFORMED


def test_the_claimed_facts_are_readable_where_another_rule_is_broken() -> None:
    facts, refused = read_leaf(load_certificate(mint(ID, ca=True, usage=None)))
    assert (facts.spiffe_id, refused and refused.reason) == (parse_workload_id(ID), Reason.NOT_AN_SVID)
    assert refusal(read_leaf, load_certificate(mint())).reason is Reason.NOT_AN_SVID


def test_a_leaf_is_walked_once_for_its_facts_and_its_judgement(monkeypatch) -> None:
    walks = []
    read_claims = svid._read_claims
    monkeypatch.setattr(svid, "_read_claims", lambda certificate: walks.append(1) or read_claims(certificate))

    read_leaf(load_certificate(mint(ID, ca=True)))

    assert len(walks) == 1


def test_the_facts_of_a_leaf_are_kept() -> None:
    expected = LeafFacts(
        spiffe_id=parse_workload_id(ID), serial="beef", not_before=1767225600.0, not_after=1767229200.0
    )
    assert read_leaf(load_certificate(mint(ID))) == (expected, None)


def test_a_serial_has_no_leading_zeros() -> None:
    facts, _ = read_leaf(load_certificate(mint(ID, serial=0x0ABC)))
    assert facts.serial == "abc"


@pytest.mark.parametrize("serial", [0, -1, -128])
def test_a_serial_that_is_not_positive_is_refused_without_a_warning(serial: int) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        rejected = refusal(judge_as_read, load_certificate(with_serial(serial)))
    assert rejected.reason is Reason.CERTIFICATE_INVALID
    assert seen == []


@pytest.mark.parametrize(
    "der",
    [
        with_placeholder_as(17, x509.SubjectAlternativeName([uri("spiffe://example.org/admin")]).public_bytes()),
        with_placeholder_as(19, bytes.fromhex("30030101ff")),
        with_placeholder_as(15, bytes.fromhex("03020780")),
        with_placeholder_as(19, bytes.fromhex("3003020100"), ca=None),
        with_placeholder_as(19, b"", ca=None),
        with_placeholder_as(19, b"\xff" * 9, ca=None),
        with_placeholder_as(15, b"\x03", usage=None),
        with_placeholder_as(37, b"\x30\x05\x06\x03\x80"),
        mint(ID).replace(b"spiffe://example.org/ns", b"spiffe://example.org/\xff\xfe"),
    ],
)
def test_duplicate_and_malformed_extensions_are_an_invalid_certificate(der: bytes) -> None:
    certificate = load_certificate(der)
    for call in (judge_leaf, read_leaf):
        assert refusal(call, certificate).reason is Reason.CERTIFICATE_INVALID
    assert refusal(judge_authority, certificate, EXAMPLE).reason is Reason.CERTIFICATE_INVALID


@pytest.mark.parametrize(
    "der",
    [b"", b"\x30", b"\x00" * 100, b"-----BEGIN CERTIFICATE-----", mint(ID) + b"\x00", b"\x30\x84\xff\xff\xff\xff"],
)
def test_bytes_that_are_not_one_certificate_are_refused(der: bytes) -> None:
    assert refusal(load_certificate, der).reason is Reason.CERTIFICATE_INVALID


def test_a_certificate_has_at_most_16_kib() -> None:
    filler = MAX_CERTIFICATE_BYTES - len(mint(ID, extra=((STRANGE, b"x" * 15000, False),))) + 15000
    sized = mint(ID, extra=((STRANGE, b"x" * (filler - 8), False),))
    assert MAX_CERTIFICATE_BYTES - 16 <= len(sized) <= MAX_CERTIFICATE_BYTES
    assert judge_leaf(load_certificate(sized)) == parse_workload_id(ID)
    sentence = "the certificate is refused: it has 16385 bytes, more than the 16384 that are read"
    assert refusal(load_certificate, b"\x30" * (MAX_CERTIFICATE_BYTES + 1)).detail == sentence


def test_every_prefix_of_a_certificate_is_refused() -> None:
    der = mint(ID, purposes=BOTH)
    for end in range(len(der)):
        assert refusal(load_certificate, der[:end]).reason is Reason.CERTIFICATE_INVALID


GOOD = mint(ID, purposes=BOTH, other_names=(x509.DNSName("cart.shop.svc"),))
edits = st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=4)


def reason_of(call, *arguments) -> Reason | None:
    try:
        call(*arguments)
    except Rejected as rejected:
        return rejected.reason
    return None


def judge_everything(der: bytes) -> None:
    """Ask every question of this room; whatever is raised must be Rejected with a word that fits the question."""
    invalid = {None, Reason.CERTIFICATE_INVALID}
    assert reason_of(load_certificate, der) in invalid
    if reason_of(load_certificate, der):
        return
    certificate = load_certificate(der)
    for call in (judge_leaf, read_leaf):
        assert reason_of(call, certificate) in {*invalid, Reason.NOT_AN_SVID, Reason.SPIFFE_ID_MALFORMED}
    assert reason_of(judge_authority, certificate, EXAMPLE) in invalid
    assert reason_of(describe_validity, certificate, 0.0) in invalid


def test_every_single_byte_inverted_raises_nothing_but_a_refusal() -> None:
    for index in range(len(GOOD)):
        for mask in (0xFF, 0x01, 0x80):
            judge_everything(GOOD[:index] + bytes([GOOD[index] ^ mask]) + GOOD[index + 1 :])


@given(edits)
def test_mutated_certificates_raise_nothing_but_a_refusal(changes: list[tuple[int, int]]) -> None:
    der = bytearray(GOOD)
    for index, byte in changes:
        der[index] = byte
    judge_everything(bytes(der))


@given(st.integers(0, len(GOOD)), st.binary(max_size=64))
def test_a_valid_prefix_and_junk_raises_nothing_but_a_refusal(end: int, junk: bytes) -> None:
    judge_everything(GOOD[:end] + junk)
    judge_everything(GOOD[:end] + junk + GOOD[end + len(junk) :])


@given(st.sampled_from([15, 17, 19, 37]), st.binary(max_size=40))
def test_junk_as_the_value_of_an_extension_raises_nothing_but_a_refusal(number: int, value: bytes) -> None:
    judge_everything(with_placeholder_as(number, value, ca=None, usage=None))


CA = {"ca": True, "usage": ("key_cert_sign", "crl_sign")}


@pytest.mark.parametrize(
    ("uris", "changes"),
    [
        ((), CA),
        ((), {"ca": True, "usage": None}),
        ((), {"ca": True, "usage": ("key_cert_sign", "digital_signature")}),
        (("spiffe://example.org",), CA),
        (("https://ca.example.org/about",), CA),
        (("https://a.example/", "https://b.example/"), CA),
        ((), {**CA, "subject": ""}),
    ],
)
def test_a_ca_may_stand_in_a_bundle_with_or_without_an_id(uris, changes) -> None:
    judge_authority(load_certificate(mint(*uris, **changes)), EXAMPLE)


@pytest.mark.parametrize(
    ("uris", "changes", "why"),
    [
        ((), {}, "not a CA"),
        ((ID,), {}, "not a CA"),
        ((), {"ca": None, "usage": ("key_cert_sign",)}, "not a CA"),
        ((), {"ca": True, "usage": ("digital_signature", "crl_sign")}, "keyCertSign"),
        (("spiffe://example.org/",), CA, "no path"),
        (("spiffe://example.org/ca",), CA, "no path"),
        (("SPIFFE://example.org",), CA, "lower case"),
        (("spiffe://example.org", "spiffe://example.org"), CA, "exactly one"),
        (("spiffe://example.org", "https://example.org"), CA, "exactly one"),
        (("spiffe://partner.example",), CA, "partner.example, not of example.org"),
    ],
)
def test_what_is_no_authority_of_the_domain_may_not_stand_in_its_bundle(uris, changes, why: str) -> None:
    rejected = refusal(judge_authority, load_certificate(mint(*uris, **changes)), EXAMPLE)
    assert rejected.reason is Reason.CERTIFICATE_INVALID
    assert why in rejected.detail


def test_validity_is_described_with_both_clocks() -> None:
    expected = (
        "valid from 2026-01-01T00:00:00Z to 2026-01-01T01:00:00Z, "
        "our clock says 2026-01-01T03:03:00Z: expired 2 h 3 min ago"
    )
    assert describe_validity(load_certificate(mint(ID)), 1767225600.0 + 3 * 3600 + 180) == expected
