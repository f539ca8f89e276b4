"""`certs ca` and `certs issue`: what they write, what they refuse, and what the operator reads."""

import stat
from pathlib import Path

import pytest

from proxy.cli import certs
from proxy.cli.main import main
from proxy.core.svid import judge_leaf
from proxy.tls.identityfiles import Publication, publish, read_authority
from proxy.tls.keys import KeyType
from proxy.tls.pem import read_certificates, read_private_key
from tests import minting


@pytest.fixture
def ca(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert main(["certs", "ca", "example.org", "--out", str(tmp_path / "ca")]) == 0
    capsys.readouterr()
    return tmp_path / "ca"


def test_the_words_for_key_types_are_those_of_the_authority() -> None:
    assert list(certs.KEY_TYPES) == [str(key_type) for key_type in KeyType]


def test_a_ca_is_created_and_the_next_command_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["certs", "ca", "example.org", "--out", str(tmp_path / "ca"), "--ttl", "30d"]) == 0
    authority = read_authority(tmp_path / "ca")
    lifetime = authority.certificate.not_valid_after_utc - authority.certificate.not_valid_before_utc
    assert (authority.trust_domain, lifetime.days) == ("example.org", 30)
    assert stat.S_IMODE((tmp_path / "ca" / "ca.key").stat().st_mode) == 0o600
    assert "certs issue spiffe://example.org/" in capsys.readouterr().out


def test_a_ca_is_not_overwritten_unless_forced(ca: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = read_authority(ca).chain
    assert main(["certs", "ca", "example.org", "--out", str(ca)]) == 1
    assert "--force" in capsys.readouterr().err
    assert read_authority(ca).chain == before
    assert main(["certs", "ca", "example.org", "--out", str(ca), "--force"]) == 0
    assert read_authority(ca).chain != before


@pytest.mark.parametrize("domain", ["Example.org", "spiffe://example.org", ""])
def test_a_ca_needs_a_trust_domain(tmp_path: Path, capsys: pytest.CaptureFixture[str], domain: str) -> None:
    assert main(["certs", "ca", domain, "--out", str(tmp_path / "ca")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "ca").exists()


@pytest.mark.parametrize("key_type", ["ecdsa-p256", "ecdsa-p384", "rsa-2048", "ed25519"])
def test_an_svid_of_every_key_type_is_issued(ca: Path, tmp_path: Path, key_type: str) -> None:
    out = tmp_path / "svid"
    command = ["certs", "issue", minting.CART, "--ca", str(ca), "--out", str(out), "--key-type", key_type]
    assert main([*command, "--dns", "a.example", "b.example"]) == 0
    assert main(["certs", "show", *(str(out / name) for name in ("tls.crt", "tls.key", "ca.crt"))]) == 0
    leaf = read_certificates((out / "tls.crt").read_bytes(), "tls.crt")[0]
    assert str(judge_leaf(leaf)) == minting.CART
    assert read_private_key((out / "tls.key").read_bytes(), "tls.key").public_key() == leaf.public_key()
    assert (out / "ca.crt").read_bytes() == read_authority(ca).bundle_pem


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("a b", "letters, digits"),
        ("", "letters, digits"),
        ("127.0.0.1", "never an IP address"),
        ("::1", "never an IP address"),
        ("a" * 64, "1 to 63"),
        ("*", "write *.DOMAIN"),
        ("caf\u00e9.example", "xn--"),
    ],
)
def test_what_is_no_dns_name_is_a_usage_error(
    ca: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, why: str
) -> None:
    out = tmp_path / "svid"
    assert main(["certs", "issue", minting.CART, "--ca", str(ca), "--out", str(out), "--dns", "a.example", name]) == 2
    said = capsys.readouterr().err
    assert "is no DNS name" in said
    assert why in said
    assert not out.exists()


@pytest.mark.parametrize(("ttl", "cut"), [("1h", False), ("364d", False), ("366d", True)])
def test_a_life_that_the_ca_cannot_give_is_said_to_be_cut(
    ca: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], ttl: str, cut: bool
) -> None:
    out = tmp_path / "svid"
    assert main(["certs", "issue", minting.CART, "--ca", str(ca), "--out", str(out), "--ttl", ttl]) == 0
    assert ("so --ttl was cut" in capsys.readouterr().out) == cut


def test_the_configuration_to_use_is_printed(ca: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["certs", "issue", minting.CART, "--ca", str(ca), "--out", str(tmp_path / "svid")]) == 0
    said = capsys.readouterr().out
    assert f"    cert: {tmp_path}/svid/tls.crt\n    key: {tmp_path}/svid/tls.key\n" in said
    assert f"      example.org: {tmp_path}/svid/ca.crt\n" in said


def test_issuing_again_rotates_a_swapped_folder_as_one_set(ca: Path, tmp_path: Path) -> None:
    publish(tmp_path / "svid", {}, publication=Publication.SWAP)
    for _ in range(2):
        assert main(["certs", "issue", minting.CART, "--ca", str(ca), "--out", str(tmp_path / "svid")]) == 0
    assert (tmp_path / "svid" / "tls.key").readlink() == Path("..data/tls.key")


@pytest.mark.parametrize(
    ("spiffe_id", "word"),
    [
        ("spiffe://partner.example/app", "spiffe://example.org/..."),
        ("spiffe://example.org", "path"),
        ("cart", "spiffe://"),
    ],
)
def test_an_id_that_this_ca_cannot_issue_is_a_usage_error(
    ca: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], spiffe_id: str, word: str
) -> None:
    assert main(["certs", "issue", spiffe_id, "--ca", str(ca), "--out", str(tmp_path / "svid")]) == 2
    assert word in capsys.readouterr().err
    assert not (tmp_path / "svid").exists()


def test_a_missing_ca_says_how_to_create_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["certs", "issue", minting.CART, "--ca", str(tmp_path / "no"), "--out", str(tmp_path / "svid")]) == 2
    assert f"certs ca TRUST-DOMAIN --out {tmp_path / 'no'}" in capsys.readouterr().err


def test_the_cas_own_folder_gets_no_svid(ca: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (ca / "ca.crt").read_bytes()
    assert main(["certs", "issue", minting.CART, "--ca", str(ca), "--out", f"{ca}/../ca"]) == 2
    assert "choose another" in capsys.readouterr().err
    assert (ca / "ca.crt").read_bytes() == before


def test_a_damaged_ca_is_refused_in_a_sentence(ca: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = (ca / "ca.key").read_bytes()
    (ca / "ca.key").write_bytes(key[: len(key) // 2])
    assert main(["certs", "issue", minting.CART, "--ca", str(ca), "--out", str(tmp_path / "svid")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert key.splitlines()[1].decode()[:16] not in said


def test_a_folder_that_cannot_be_written_is_status_one(
    ca: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    for command in (["ca", "example.org"], ["issue", minting.CART, "--ca", str(ca)]):
        assert main(["certs", *command, "--out", str(tmp_path / "file" / "svid")]) == 1
        assert "cannot write" in capsys.readouterr().err


@pytest.mark.parametrize("ttl", ["0", "1y", "-5"])
def test_a_wrong_ttl_is_a_usage_error(ca: Path, tmp_path: Path, ttl: str) -> None:
    assert main(["certs", "issue", minting.CART, "--ca", str(ca), "--out", str(tmp_path), f"--ttl={ttl}"]) == 2


@pytest.mark.parametrize("subcommand", ["ca", "issue", "show", "check-expiration"])
def test_every_subcommand_has_examples(capsys: pytest.CaptureFixture[str], subcommand: str) -> None:
    assert main(["certs", subcommand, "--help"]) == 0
    assert f"examples:\n  mtls-sidecar certs {subcommand}" in capsys.readouterr().out
