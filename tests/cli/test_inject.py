"""`mtls-sidecar inject` as its user sees it. The outputs themselves are tests/pod/golden/."""

import io
import sys
from pathlib import Path

import pytest

from proxy.cli.main import main

POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: one}\nspec:\n  containers:\n    - name: app\n"
OPTIONS = ["--identity", "spiffe-csi", "--trust-domain", "example.org", "--allow", "spiffe://example.org/**"]


@pytest.fixture
def pod_file(tmp_path: Path) -> str:
    file = tmp_path / "pod.yaml"
    file.write_text(POD, encoding="utf-8")
    return str(file)


def test_the_stream_goes_to_stdout_alone(pod_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inject", "-f", pod_file, *OPTIONS]) == 0
    out, err = capsys.readouterr()
    assert "name: mtls-sidecar\n" in out
    assert err == ""


def test_several_files_become_one_stream(pod_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inject", "-f", pod_file, "-f", pod_file, *OPTIONS]) == 0
    assert capsys.readouterr().out.count("\n---\n") == 1


def test_a_byte_order_mark_stays_only_where_it_begins_the_stream(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "windows.yaml"
    file.write_text(f"\ufeff{POD}", encoding="utf-8")
    assert main(["inject", "-f", str(file), "-f", str(file), *OPTIONS]) == 0
    out = capsys.readouterr().out
    assert (out[:1], out.count("\ufeff")) == ("\ufeff", 1)


def test_a_kind_that_is_passed_over_is_named_unasked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rollout.yaml"
    text = "apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {name: a}\n"
    text += "spec: {template: {spec: {containers: [{}]}}}\n"
    file.write_text(text, encoding="utf-8")
    assert main(["inject", "-f", str(file), *OPTIONS]) == 0
    out, err = capsys.readouterr()
    assert out == text
    assert err.startswith("Rollout a\n  Warning: Rollout of argoproj.io/v1alpha1 is no kind that injection knows")


def test_explain_says_on_stderr_what_was_done_to_which(pod_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inject", "-f", pod_file, *OPTIONS, "--explain"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Pod one"
    assert "  Inbound: every port is redirected to the sidecar, mode STRICT." in lines


def test_explain_says_that_there_was_nothing_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "service.yaml"
    file.write_text("kind: Service\n", encoding="utf-8")
    assert main(["inject", "-f", str(file), *OPTIONS, "--explain"]) == 0
    assert capsys.readouterr() == ("kind: Service\n", "There is nothing here that makes Pods.\n")


def test_a_refusal_writes_nothing_to_stdout_and_every_reason_to_stderr(
    pod_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inject", "-f", pod_file, "-f", "/nowhere/x.yaml"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    for words in (
        f"{pod_file}:1: Pod one: There is no identity source",
        "no trust domain",
        "/nowhere/x.yaml: it cannot",
    ):
        assert words in err


@pytest.mark.parametrize(
    ("data", "status", "words"), [(POD.encode(), 0, ""), (b"\xff", 2, "it is not UTF-8, at byte 0"), (b"", 0, "")]
)
def test_standard_input_is_read(
    data: bytes, status: int, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert main(["inject", "-f", "-", *OPTIONS]) == status
    assert words in capsys.readouterr().err


def test_a_wrong_value_is_refused_by_the_option(pod_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inject", "-f", pod_file, "--mode", "strict"]) == 2
    assert "argument --mode: 'strict': write STRICT, PERMISSIVE, DISABLE" in capsys.readouterr().err


def test_a_missing_extra_is_said_with_what_to_install(
    pod_file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ruamel.yaml", None)
    for name in ("proxy.pod.yamlstream", "proxy.pod.yamldocument", "proxy.pod.yamlgraft"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert main(["inject", "-f", pod_file, *OPTIONS]) == 2
    assert "pip install 'mtls-sidecar[kubernetes]'" in capsys.readouterr().err
