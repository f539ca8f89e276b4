"""`validate` prints every fault and exits 2, or says in one line what would run and exits 0."""

import argparse
import io
import json
from pathlib import Path

import pytest

from proxy.cli import validate
from proxy.core.config import Config
from proxy.ops.configsource import Source
from tests.configtexts import GOOD, with_line


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    validate.add_arguments(parser)
    return validate.run(parser.parse_args(list(words)))


@pytest.fixture(autouse=True)
def no_identity_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests are about the configuration; test_identitycheck.py is about the files that it names."""
    monkeypatch.setattr(validate, "judge_identity_files", lambda _config, _source: ())


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> str:
        path = tmp_path / "sidecar.yaml"
        path.write_text(text)
        return str(path)

    return write


def test_a_good_file_is_one_line_and_status_0(write, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(GOOD)
    assert run("--config", path) == 0
    assert capsys.readouterr().out == f"{path}: good: inbound http 0.0.0.0:15006 -> 127.0.0.1:8080 STRICT\n"


def test_every_fault_is_a_line_and_the_status_is_2(write, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(with_line(4, "listen: x") + "workers: 0\n")
    assert run("--config", path) == 2
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" expected ")[0] for line in lines] == [f"{path}:4: inbound[0].listen:", f"{path}:7: workers:"]


def test_json_says_the_same_to_programs(write, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(GOOD + "x: 1\n")
    assert run("--json", "--config", path) == 2
    report = json.loads(capsys.readouterr().out)
    assert (report["file"], report["good"]) == (path, False)
    assert [(fault["line"], fault["path"]) for fault in report["faults"]] == [(7, "x")]
    assert run("--json", "--config", write(GOOD)) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["good"], report["faults"]) == (True, [])
    assert report["listeners"] == [
        {
            "direction": "inbound",
            "name": "http",
            "listen": "0.0.0.0:15006",
            "upstream": "127.0.0.1:8080",
            "mode": "STRICT",
        }
    ]


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/nonexistent/sidecar.yaml", "the configuration cannot be read: No such file or directory"),
        ("/", "the configuration cannot be read: Is a directory"),
        ("/dev/zero", "the file has more than 1048576 bytes"),
        ("/dev/null", "the file is empty"),
        ("a\0b", "not the path of a file"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(path: str, why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--config", path) == 2
    (line,) = capsys.readouterr().out.splitlines()
    assert why in line


def test_a_dash_is_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO((GOOD + "x: 1\n").encode())))
    assert run("--config", "-") == 2
    assert capsys.readouterr().out.startswith("<stdin>:7: x: ")


def test_a_pattern_that_can_match_nobody_is_a_warning_beside_the_verdict(
    write, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(with_line(6, "allow: [spiffe://exmaple.org/ns/web/**]"))
    assert run("--config", path) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"{path}: good: ")
    first = said.err.splitlines()[0]
    assert first.startswith(f"{path}: warning: inbound[0].allow[0]: spiffe://exmaple.org/ns/web/** can match nobody")


def test_an_engine_that_is_installed_and_not_used_is_a_warning(
    write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise ImportError("undefined symbol: _ZdlPvm")

    monkeypatch.setattr("proxy.tls.engine._is_installed", lambda: True)
    monkeypatch.setattr("proxy.tls.engine.boringssl_engine", broken)
    path = write(GOOD)
    assert run("--config", path) == 0
    assert capsys.readouterr().err.startswith(f"{path}: warning: BoringSSL is installed and cannot be used, so OpenSSL")
    assert run("--config", write(GOOD + "tls: {engine: openssl}\n")) == 0
    assert capsys.readouterr().err == ""


def test_faults_of_the_identity_files_are_faults(
    write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(GOOD)
    seen = []

    def check(config: Config, source: Source) -> tuple[str, ...]:
        seen.append(config.identity.cert)
        raise source.fault("identity.cert", "not there")

    monkeypatch.setattr(validate, "judge_identity_files", check)
    assert run("--config", path) == 2
    assert seen == [str(Path(path).parent / "tls.crt")]
    assert capsys.readouterr().out == f"{path}:1: identity.cert: not there\n"
