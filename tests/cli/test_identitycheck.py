"""`validate` judges the identity files too: the Reason, the detail and the advice, or warnings and status 0."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.cli import validate
from proxy.core.config import IdentityConfig
from proxy.core.reasons import EXPLANATIONS, Reason
from proxy.tls.identityfiles import KEY_FILE
from tests import minting
from tests.configtexts import GOOD
from tests.minting import DOMAIN

ROOT = minting.authority()


@pytest.fixture
def identity(tmp_path: Path) -> IdentityConfig:
    (tmp_path / "sidecar.yaml").write_text(GOOD)
    return minting.write_identity(tmp_path, minting.svid(ROOT), {DOMAIN: ROOT})


def run(folder: Path, *words: str) -> int:
    parser = argparse.ArgumentParser()
    validate.add_arguments(parser)
    return validate.run(parser.parse_args([*words, "--config", str(folder / "sidecar.yaml")]))


def test_good_files_are_status_0(tmp_path: Path, identity: IdentityConfig, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path) == 0
    shown = capsys.readouterr()
    assert ": good: " in shown.out
    assert shown.err == ""


def test_a_warning_is_shown_beside_the_verdict_and_changes_nothing(
    tmp_path: Path, identity: IdentityConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(identity.key).chmod(0o644)
    assert run(tmp_path, "--json") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["good"] is True
    assert ": warning: identity.key (" in shown.err
    assert "mode 0644" in shown.err


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder: (folder / KEY_FILE).unlink(), Reason.FILE_MISSING),
        (lambda folder: (folder / KEY_FILE).write_bytes(b""), Reason.PEM_MALFORMED),
        (lambda folder: (folder / KEY_FILE).write_bytes(minting.svid(ROOT).key_pem), Reason.KEY_MISMATCH),
        (
            lambda folder: minting.write_identity(folder, minting.svid(minting.authority()), {DOMAIN: ROOT}),
            Reason.CHAIN_UNTRUSTED,
        ),
        (
            lambda folder: (folder / "ca.crt").write_bytes(minting.authority("partner.test").bundle_pem),
            Reason.CERTIFICATE_INVALID,
        ),
        (
            lambda folder: minting.write_identity(folder, minting.expired(ROOT), {DOMAIN: ROOT}),
            Reason.CERTIFICATE_EXPIRED,
        ),
    ],
)
def test_a_bad_set_is_status_2_with_reason_and_advice(
    tmp_path: Path,
    identity: IdentityConfig,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], object],
    reason: Reason,
) -> None:
    spoil(tmp_path)
    assert run(tmp_path) == 2
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{tmp_path / 'sidecar.yaml'}:1: identity: {reason}: ")
    assert str(tmp_path / "tls.") in line or str(tmp_path / "ca.crt") in line
    assert line.endswith(EXPLANATIONS[reason].advice)
    assert "the detail" not in line  # which is a key of the log; here it is the sentence before


def test_good_files_that_cannot_serve_with_the_configured_words_are_a_fault_of_these(
    tmp_path: Path, identity: IdentityConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "sidecar.yaml"
    file.write_text(GOOD + "tls:\n  max_version: '1.2'\n  groups: [X25519]\n")
    assert run(tmp_path) == 2
    said = capsys.readouterr().out
    assert said.startswith(f"{file}:8: tls: ")
    assert "our own certificate cannot serve with what `tls` allows: a handshake with itself in TLS 1.2 ended" in said


def test_the_configuration_can_be_judged_without_its_files(
    tmp_path: Path, identity: IdentityConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(identity.key).unlink()
    assert run(tmp_path, "--skip-identity-files") == 0
    assert ": good: " in capsys.readouterr().out
    (tmp_path / "sidecar.yaml").write_text(GOOD + "x: 1\n")
    assert run(tmp_path, "--skip-identity-files") == 2
