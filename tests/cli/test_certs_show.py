"""`certs show`: the words, the JSON and the exit status."""

import json
from pathlib import Path

import pytest

from proxy.cli.main import main
from proxy.tls.authority import Authority, Svid
from tests import minting


@pytest.fixture(scope="module")
def root() -> Authority:
    return minting.authority()


def write(folder: Path, svid: Svid, root: Authority) -> list[str]:
    identity = minting.write_identity(folder, svid, {"example.org": root})
    return [identity.cert, identity.key, *identity.bundles.values()]


def test_a_good_identity_is_shown_and_the_status_is_zero(
    tmp_path: Path, root: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    files = write(tmp_path, minting.svid(root, dns_names=["cart.shop.svc"]), root)
    assert main(["certs", "show", *files]) == 0
    said = capsys.readouterr().out
    assert f"certificate 1 of 1: leaf {minting.CART}" in said
    assert "X509-SVID    good" in said
    assert "our clock says" in said
    assert "DNS cart.shop.svc" in said
    assert f"private key: ecdsa-p256, belongs to {files[0]} certificate 1" in said
    assert "certificate 1 of 1: CA spiffe://example.org" in said
    assert "\x1b" not in said


def test_the_key_itself_is_never_shown(tmp_path: Path, root: Authority, capsys: pytest.CaptureFixture[str]) -> None:
    svid = minting.svid(root)
    files = write(tmp_path, svid, root)
    for options in ([], ["--json"]):
        main(["certs", "show", *files, *options])
        said = "".join(capsys.readouterr())
        assert not any(line.decode() in said for line in svid.key_pem.splitlines()[1:-1])


@pytest.mark.parametrize("kind", ["expired", "not_yet_valid", "without_digital_signature"])
def test_something_wrong_is_status_one_and_has_its_word(
    tmp_path: Path, root: Authority, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    word = {
        "expired": "CERTIFICATE_EXPIRED: valid from",
        "not_yet_valid": "CERTIFICATE_NOT_YET_VALID: valid from",
        "without_digital_signature": "NOT_AN_SVID: the certificate is no X509-SVID",
    }[kind]
    files = write(tmp_path, getattr(minting, kind)(root), root)
    assert main(["certs", "show", *files]) == 1
    assert word in capsys.readouterr().out


def test_a_mismatched_key_is_status_one(tmp_path: Path, root: Authority, capsys: pytest.CaptureFixture[str]) -> None:
    files = write(tmp_path, minting.svid(root), root)
    Path(files[1]).write_bytes(minting.svid(root).key_pem)
    assert main(["certs", "show", *files]) == 1
    assert "KEY_MISMATCH" in capsys.readouterr().out


@pytest.mark.parametrize("data", [b"", b"garbage\n", b"-----BEGIN CERTIFICATE-----\nMIIB"])
def test_a_file_without_pem_is_status_two(tmp_path: Path, capsys: pytest.CaptureFixture[str], data: bytes) -> None:
    (tmp_path / "file").write_bytes(data)
    assert main(["certs", "show", str(tmp_path / "file")]) == 2
    assert "PEM_MALFORMED" in capsys.readouterr().out


def test_a_missing_file_does_not_hide_the_others(
    tmp_path: Path, root: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    files = write(tmp_path, minting.svid(root), root)
    assert main(["certs", "show", str(tmp_path / "no"), str(tmp_path), files[0]]) == 2
    said = capsys.readouterr()
    assert minting.CART in said.out
    assert f"{tmp_path / 'no'}: No such file or directory" in said.err
    assert f"{tmp_path}: Is a directory" in said.err


def test_a_key_that_others_can_read_is_a_warning(
    tmp_path: Path, root: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    files = write(tmp_path, minting.svid(root), root)
    Path(files[1]).chmod(0o644)
    assert main(["certs", "show", *files]) == 0
    assert "others can read it (mode 0644): chmod 600" in capsys.readouterr().out


def test_the_json_holds_the_same(tmp_path: Path, root: Authority, capsys: pytest.CaptureFixture[str]) -> None:
    files = write(tmp_path, minting.expired(root), root)
    assert main(["certs", "show", "--json", *files, str(tmp_path / "no")]) == 2
    document = json.loads(capsys.readouterr().out)
    leaf = document["files"][0]["certificates"][0]
    assert (leaf["spiffe_id"], leaf["faults"][0]["reason"]) == (minting.CART, "CERTIFICATE_EXPIRED")
    assert document["files"][1]["keys"][0]["belongs_to"] == f"{files[0]} certificate 1"
    assert document["unreadable"] == [{"file": str(tmp_path / "no"), "why": "No such file or directory"}]


def test_names_in_a_certificate_cannot_forge_the_screen(
    tmp_path: Path, root: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "leaf").write_bytes(minting.with_uris(root, "spiffe://a/\x1b[2J\nX509-SVID good").cert_pem)
    assert main(["certs", "show", str(tmp_path / "leaf")]) == 1
    assert "\x1b" not in capsys.readouterr().out
