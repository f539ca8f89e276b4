"""What a file holds and everything that is wrong with it; nothing in a file makes the view raise."""

import base64
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.reasons import Reason
from proxy.tls.authority import Svid, chain_pem
from proxy.tls.keys import generate_key, key_pem
from proxy.tls.pemview import MAX_FILE_BYTES, FileView, view_files
from tests import minting

ROOT = minting.authority()
BELOW = ROOT.intermediate(now=minting.clock(), lifetime_s=minting.HOUR_S)
SVID = minting.svid(BELOW, dns_names=["cart.shop.svc"])
LEAF_DER = SVID.leaf.public_bytes(Encoding.DER)


def view(data: bytes) -> FileView:
    (found,) = view_files({"file.pem": data}, minting.clock())
    return found


def reasons(found: FileView) -> list[Reason]:
    return [fault.reason for fault in found.all_faults()]


def test_a_good_chain_has_no_faults_and_says_its_order() -> None:
    found = view(SVID.cert_pem)
    leaf, below = found.certificates
    assert reasons(found) == []
    assert (leaf.authority, leaf.spiffe_id, leaf.dns_names) == (False, minting.CART, ["cart.shop.svc"])
    assert (below.authority, below.spiffe_id) == (True, "spiffe://example.org")
    assert leaf.serial == f"{SVID.leaf.serial_number:x}"
    assert "expires in" in leaf.validity
    assert found.chain is not None
    assert "in order" in found.chain


def test_a_root_at_the_end_of_a_chain_is_told() -> None:
    found = view(SVID.cert_pem + ROOT.bundle_pem)
    assert "including the root" in (found.chain or "")
    assert reasons(found) == []


@pytest.mark.parametrize(
    "data", [BELOW.cert_pem + SVID.cert_pem, chain_pem(SVID.chain[:1]) + ROOT.bundle_pem], ids=["leaf last", "gap"]
)
def test_a_chain_out_of_order_is_a_fault(data: bytes) -> None:
    assert reasons(view(data)) == [Reason.CHAIN_UNTRUSTED]


def test_a_bundle_of_unrelated_authorities_has_no_order() -> None:
    found = view(ROOT.bundle_pem + minting.authority("partner.example").bundle_pem)
    assert (found.chain, reasons(found)) == (None, [])


@pytest.mark.parametrize(
    ("svid", "reason"),
    [
        (minting.expired(ROOT), Reason.CERTIFICATE_EXPIRED),
        (minting.not_yet_valid(ROOT), Reason.CERTIFICATE_NOT_YET_VALID),
        (minting.with_uris(ROOT, minting.CART, "spiffe://example.org/b"), Reason.NOT_AN_SVID),
        (minting.with_uris(ROOT), Reason.NOT_AN_SVID),
        (minting.without_san(ROOT), Reason.NOT_AN_SVID),
        (minting.with_uris(ROOT, "spiffe://example.org"), Reason.SPIFFE_ID_MALFORMED),
        (minting.with_extended_key_usage(ROOT, minting.SERVER_AUTH), Reason.NOT_AN_SVID),
        (minting.with_extended_key_usage(ROOT, minting.CLIENT_AUTH), Reason.NOT_AN_SVID),
        (minting.without_digital_signature(ROOT), Reason.NOT_AN_SVID),
        (minting.without_key_usage(ROOT), Reason.NOT_AN_SVID),
        (minting.as_ca(ROOT), Reason.NOT_AN_SVID),
    ],
    ids=range(11),
)
def test_every_kind_of_broken_leaf_is_told_by_its_word(svid: Svid, reason: Reason) -> None:
    assert reasons(view(svid.cert_pem)) == [reason]


def test_a_leaf_without_extended_key_usage_is_an_svid() -> None:
    assert reasons(view(minting.with_extended_key_usage(ROOT).cert_pem)) == []


def test_a_key_finds_its_certificate_in_another_file() -> None:
    key, cert = view_files({"tls.key": SVID.key_pem, "tls.crt": SVID.cert_pem}, minting.clock())
    assert key.keys[0].belongs_to == "tls.crt certificate 1"
    assert (reasons(key), reasons(cert)) == ([], [])


def test_one_file_may_hold_key_and_chain() -> None:
    found = view(SVID.key_pem + SVID.cert_pem)
    assert (len(found.keys), len(found.certificates), reasons(found)) == (1, 2, [])


def test_a_key_of_another_leaf_is_a_mismatch_and_a_key_alone_is_not() -> None:
    other = key_pem(generate_key("ecdsa-p256"))
    assert reasons(view(SVID.cert_pem + other)) == [Reason.KEY_MISMATCH]
    assert reasons(view(other)) == []
    beside_a_bundle, _ = view_files({"tls.key": other, "ca.crt": ROOT.bundle_pem}, minting.clock())
    assert reasons(beside_a_bundle) == []


@pytest.mark.parametrize(
    "data", [b"", b"garbage", SVID.cert_pem[:-20], SVID.key_pem[:-60], b"\x30\x82\x01\x00", b"-" * (MAX_FILE_BYTES + 1)]
)
def test_what_is_no_pem_is_a_fault_with_the_files_name(data: bytes) -> None:
    found = view(data)
    assert reasons(found) == [Reason.PEM_MALFORMED]
    assert found.faults[0].detail.startswith("file.pem: ")


def test_an_expiry_between_two_seconds_counts_as_passed() -> None:
    leaf = minting.svid(ROOT).leaf
    for offset, residual in ((0, 0), (0.5, -1), (-0.5, 0)):
        moment = leaf.not_valid_after_utc + timedelta(seconds=offset)
        (found,) = view_files({"f": chain_pem([leaf])}, moment)
        assert found.certificates[0].residual_s == residual
        assert (Reason.CERTIFICATE_EXPIRED in reasons(found)) == (residual < 0)


def test_no_byte_of_a_key_is_in_the_view() -> None:
    for data in (SVID.key_pem, SVID.key_pem.replace(b"M", b"N", 1), SVID.key_pem[:-60]):
        shown = repr(view(data))
        assert not any(line.decode() in shown for line in data.splitlines() if not line.startswith(b"-"))


@given(st.integers(0, len(SVID.cert_pem)), st.binary(max_size=40))
def test_every_prefix_with_junk_is_viewed_without_raising(length: int, junk: bytes) -> None:
    view(SVID.cert_pem[:length] + junk)


@given(st.integers(0, len(LEAF_DER) - 1), st.integers(0, 255))
def test_a_leaf_with_any_byte_changed_is_viewed_without_raising(position: int, value: int) -> None:
    der = LEAF_DER[:position] + bytes([value]) + LEAF_DER[position + 1 :]
    pem = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"
    view(pem + BELOW.cert_pem)


def test_an_authority_needs_no_spiffe_id_but_the_right_to_sign() -> None:
    ca = (x509.BasicConstraints(ca=True, path_length=None), True)
    nameless = [x509.SubjectAlternativeName, x509.ExtendedKeyUsage]
    assert reasons(view(minting.forge(ROOT, replace=[ca], without=[*nameless, x509.KeyUsage]).cert_pem)) == []
    (fault,) = view(minting.forge(ROOT, replace=[ca], without=nameless).cert_pem).all_faults()
    assert (fault.reason, "keyCertSign" in fault.detail) == (Reason.CERTIFICATE_INVALID, True)
