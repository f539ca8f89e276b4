"""The development CA: what it mints is judged here by OpenSSL (the system's and pyOpenSSL's), never by itself."""

import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import crypto

from proxy.core.reasons import Reason, Rejected
from proxy.tls.authority import NOT_BEFORE_SKEW_S, Authority, Svid, chain_pem
from proxy.tls.keys import KeyType, key_type_word
from tests import minting

NOON = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


def verify_by_pyopenssl(svid: Svid, roots: Authority) -> None:
    store = crypto.X509Store()
    store.set_flags(crypto.X509StoreFlags.X509_STRICT)
    store.add_cert(crypto.X509.from_cryptography(roots.chain[-1]))
    chain = [crypto.X509.from_cryptography(certificate) for certificate in svid.chain[1:]]
    crypto.X509StoreContext(store, crypto.X509.from_cryptography(svid.leaf), chain).verify_certificate()


@pytest.fixture(scope="module")
def root() -> Authority:
    return minting.authority()


@pytest.mark.parametrize("key_type", ["ecdsa-p256", "ecdsa-p384", "rsa-2048", "ed25519"])
def test_an_svid_of_every_key_type_verifies_strictly_through_an_intermediate(key_type: str) -> None:
    root = minting.authority(key_type=key_type)
    svid = minting.svid(root.intermediate(now=minting.clock(), lifetime_s=3600), key_type=key_type)
    verify_by_pyopenssl(svid, root)
    assert key_type_word(svid.leaf.public_key()) == key_type


@pytest.mark.parametrize("key_type", ["rsa-3072", "rsa-4096"])
def test_an_svid_with_a_long_rsa_key_verifies(root: Authority, key_type: str) -> None:
    svid = minting.svid(root, key_type=key_type)
    verify_by_pyopenssl(svid, root)
    assert key_type_word(svid.leaf.public_key()) == key_type


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl program")
@pytest.mark.parametrize("purpose", ["sslserver", "sslclient"])
def test_the_systems_openssl_accepts_the_chain_for_both_purposes(tmp_path: Path, root: Authority, purpose: str) -> None:
    svid = minting.svid(root.intermediate(now=minting.clock(), lifetime_s=3600))
    (tmp_path / "chain.pem").write_bytes(svid.cert_pem)
    (tmp_path / "root.pem").write_bytes(root.bundle_pem)
    files = ["-CAfile", "root.pem", "-untrusted", "chain.pem", "chain.pem"]
    command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, *files]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "chain.pem: OK\n"), done.stderr


def test_a_leaf_keeps_every_rule_of_x509_svid(root: Authority) -> None:
    leaf = minting.svid(root, minting.CART, dns_names=["cart.shop.svc"]).leaf
    found = leaf.extensions
    san = found.get_extension_for_class(x509.SubjectAlternativeName)
    assert san.value.get_values_for_type(x509.UniformResourceIdentifier) == [minting.CART]
    assert san.value.get_values_for_type(x509.DNSName) == ["cart.shop.svc"]
    assert (list(leaf.subject), san.critical) == ([], True)
    constraints = found.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.value.ca, constraints.critical) == (False, True)
    usage = found.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    assert not usage.value.crl_sign
    extended = found.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH} == set(extended)
    authority_id = found.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    issuer_id = root.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert issuer_id == authority_id
    assert found.get_extension_for_class(x509.SubjectKeyIdentifier)


def test_a_leaf_with_a_common_name_leaves_the_san_uncritical(root: Authority) -> None:
    leaf = minting.svid(root, common_name="cart").leaf
    assert not leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).critical
    assert leaf.subject.rfc4514_string() == "CN=cart"


def test_a_ca_carries_the_id_of_its_trust_domain_without_a_path(root: Authority) -> None:
    below = root.intermediate(now=minting.clock(), lifetime_s=3600)
    for authority, path_length in ((root, None), (below, 0)):
        found = authority.certificate.extensions
        san = found.get_extension_for_class(x509.SubjectAlternativeName).value
        assert san.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://example.org"]
        constraints = found.get_extension_for_class(x509.BasicConstraints)
        assert (True, path_length, True) == (constraints.value.ca, constraints.value.path_length, constraints.critical)
        usage = found.get_extension_for_class(x509.KeyUsage)
        assert (usage.critical, usage.value.key_cert_sign, usage.value.crl_sign) == (True, True, True)


def test_the_validity_starts_earlier_than_now_and_ends_after_the_lifetime() -> None:
    root = Authority.create("example.org", now=NOON, lifetime_s=7200)
    leaf = root.issue(minting.CART, now=NOON, lifetime_s=3600).leaf
    assert NOON - timedelta(seconds=NOT_BEFORE_SKEW_S) == leaf.not_valid_before_utc
    assert NOON + timedelta(hours=1) == leaf.not_valid_after_utc


def test_no_certificate_outlives_the_ca_above_it() -> None:
    root = Authority.create("example.org", now=NOON, lifetime_s=3600)
    below = root.intermediate(now=NOON, lifetime_s=7200)
    assert NOON + timedelta(hours=1) == below.certificate.not_valid_after_utc
    assert NOON + timedelta(hours=1) == below.issue(minting.CART, now=NOON, lifetime_s=7200).leaf.not_valid_after_utc


def test_an_expired_ca_issues_nothing() -> None:
    root = Authority.create("example.org", now=NOON, lifetime_s=3600)
    with pytest.raises(Rejected) as caught:
        root.issue(minting.CART, now=NOON + timedelta(hours=1), lifetime_s=60)
    assert caught.value.reason == Reason.CERTIFICATE_EXPIRED


@pytest.mark.parametrize(
    ("spiffe_id", "reason"),
    [
        ("spiffe://partner.example/ns/shop", Reason.WRONG_TRUST_DOMAIN),
        ("spiffe://example.org.evil/ns/shop", Reason.WRONG_TRUST_DOMAIN),
        ("spiffe://example.org", Reason.SPIFFE_ID_MALFORMED),
        ("https://example.org/ns/shop", Reason.SPIFFE_ID_MALFORMED),
    ],
)
def test_only_ids_of_workloads_of_its_own_trust_domain_are_issued(
    root: Authority, spiffe_id: str, reason: Reason
) -> None:
    with pytest.raises(Rejected) as caught:
        minting.svid(root, spiffe_id)
    assert reason == caught.value.reason


@pytest.mark.parametrize("names", [{"dns_names": ["käse.example"]}, {"common_name": "x" * 65}])
def test_a_name_that_x509_cannot_hold_is_refused_with_a_sentence(root: Authority, names: dict[str, object]) -> None:
    with pytest.raises(Rejected) as caught:
        minting.svid(root, **names)  # type: ignore[arg-type]
    assert caught.value.reason == Reason.CERTIFICATE_INVALID


def test_the_longest_trust_domain_still_makes_a_ca() -> None:
    domain = "d" * 255
    verify_by_pyopenssl(minting.svid(root := minting.authority(domain)), root)


def test_a_ca_needs_the_bare_name_of_a_trust_domain() -> None:
    with pytest.raises(Rejected) as caught:
        minting.authority("spiffe://example.org")
    assert caught.value.reason == Reason.SPIFFE_ID_MALFORMED


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        Authority.create("example.org", now=datetime(2026, 1, 1), lifetime_s=60)


def test_serial_numbers_are_random(root: Authority) -> None:
    serials = {minting.svid(root).leaf.serial_number for _ in range(8)}
    assert len(serials) == 8
    assert min(serials).bit_length() > 64  # CA/Browser Forum 7.1: at least 64 bits from a random generator


@pytest.mark.parametrize("key_type", [KeyType.ECDSA_P256, KeyType.ED25519])
def test_a_ca_that_was_written_is_taken_up_again(key_type: str) -> None:
    below = minting.authority(key_type=key_type).intermediate(now=minting.clock(), lifetime_s=3600)
    again = Authority.load(below.cert_pem, below.key_pem)
    assert (below.trust_domain, below.chain) == (again.trust_domain, again.chain)
    verify_by_pyopenssl(minting.svid(again), again)


def test_what_is_not_a_whole_ca_is_not_taken_up(root: Authority) -> None:
    below = root.intermediate(now=minting.clock(), lifetime_s=3600)
    leaf = minting.svid(root)
    for cert, key, reason in (
        (b"", root.key_pem, Reason.PEM_MALFORMED),
        (root.cert_pem[:-30], root.key_pem, Reason.PEM_MALFORMED),
        (root.cert_pem, b"", Reason.PEM_MALFORMED),
        (root.cert_pem, root.key_pem[:-40], Reason.PEM_MALFORMED),
        (root.cert_pem, below.key_pem, Reason.KEY_MISMATCH),
        (chain_pem([below.certificate]), below.key_pem, Reason.CERTIFICATE_INVALID),
        (leaf.cert_pem + root.cert_pem, leaf.key_pem, Reason.CERTIFICATE_INVALID),
    ):
        with pytest.raises(Rejected) as caught:
            Authority.load(cert, key)
        assert reason == caught.value.reason


def test_no_key_is_shown_by_repr(root: Authority) -> None:
    assert "key" not in repr(root)
    assert "key" not in repr(minting.svid(root))
