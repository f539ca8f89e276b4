"""`certs check-expiration`: the table, the JSON and the exit status."""

import json
from pathlib import Path

import pytest

from proxy.cli.main import main
from proxy.tls.authority import Authority
from tests import minting

CONFIG = """\
identity:
  cert: svid/tls.crt
  key: svid/tls.key
  bundles: {example.org: svid/ca.crt}
inbound:
  - {name: http, listen: 127.0.0.1:15006, upstream: 127.0.0.1:8080, allow: ["spiffe://example.org/**"]}
"""


@pytest.fixture(scope="module")
def root() -> Authority:
    return minting.authority()


@pytest.fixture
def svid(tmp_path: Path, root: Authority) -> Path:
    minting.write_identity(tmp_path / "svid", minting.svid(root), {"example.org": root})
    return tmp_path / "svid"


def check(*words: object) -> int:
    return main(["certs", "check-expiration", *map(str, words)])


def test_the_table_has_the_soonest_first(svid: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(svid / "ca.crt", svid / "tls.crt") == 0
    head, leaf, ca = capsys.readouterr().out.splitlines()
    assert head.split("  ")[0] == "CERTIFICATE"
    assert "RESIDUAL TIME" in head
    assert leaf.startswith(f"{minting.CART}  leaf ")
    assert "59 min" in leaf
    assert " valid " in leaf
    assert ca.startswith("spiffe://example.org ")
    assert " itself " in ca


def test_the_configuration_names_the_files(tmp_path: Path, svid: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG)
    assert check("--config", tmp_path / "config.yaml") == 0
    said = capsys.readouterr().out
    assert f"{svid}/tls.crt" in said
    assert f"{svid}/ca.crt" in said


def test_a_faulty_configuration_is_status_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.yaml").write_text("identity: {}\n")
    assert check("--config", tmp_path / "config.yaml") == 2
    assert "config.yaml:1: identity" in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "status"), [("expired", "expired"), ("not_yet_valid", "not yet valid")])
def test_what_is_out_of_its_time_is_status_one(
    tmp_path: Path, root: Authority, capsys: pytest.CaptureFixture[str], kind: str, status: str
) -> None:
    (tmp_path / "leaf").write_bytes(getattr(minting, kind)(root).cert_pem)
    assert check(tmp_path / "leaf") == 1
    assert status in capsys.readouterr().out


@pytest.mark.parametrize(("within", "status"), [("30m", 0), ("2h", 1)])
def test_warn_within_decides_about_what_expires_soon(svid: Path, within: str, status: int) -> None:
    assert check(svid / "tls.crt", "--warn-within", within) == status


def test_the_json_parses(svid: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check("--json", svid / "tls.crt", "--warn-within", "7d") == 1
    document = json.loads(capsys.readouterr().out)
    (row,) = document["certificates"]
    assert (row["certificate"], row["kind"], row["status"]) == (minting.CART, "leaf", "expires soon")
    assert 0 < row["residual_s"] <= 3600
    assert document["faults"] == []


@pytest.mark.parametrize("data", [b"", b"garbage"])
def test_a_file_without_certificates_is_status_two_and_hides_no_other(
    tmp_path: Path, svid: Path, capsys: pytest.CaptureFixture[str], data: bytes
) -> None:
    (tmp_path / "bad").write_bytes(data)
    assert check(tmp_path / "bad", svid / "tls.crt", tmp_path / "no") == 2
    said = capsys.readouterr()
    assert minting.CART in said.out
    assert said.err.count("mtls-sidecar certs: ") == 2


def test_a_key_alone_does_not_expire(svid: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(svid / "tls.key") == 2
    assert "keys do not expire" in capsys.readouterr().err


def test_nothing_to_check_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert check() == 2
    assert "--config FILE" in capsys.readouterr().err
