"""The entry: lazy commands, exit statuses, and a sentence in place of every traceback."""

import argparse
import os
import signal
import subprocess
import sys
import types
from importlib.util import find_spec
from pathlib import Path

import pytest

from proxy import __version__
from proxy.cli import main as entry
from proxy.core.config import TlsConfig
from proxy.tls.engine import why_not_boringssl

PROGRAM = [sys.executable, "-m", "proxy"]


def install(monkeypatch: pytest.MonkeyPatch, run: object) -> None:
    """Put a command `fake` into the table, whose module does what `run` does."""
    module = types.ModuleType("fake_command")
    module.__spec__ = argparse.__spec__  # any spec will do for find_spec
    module.add_arguments = lambda parser: None  # type: ignore[attr-defined]
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fake_command", module)
    monkeypatch.setattr(entry, "COMMANDS", {"fake": entry.Command("fake_command", "does what the test says")})


def test_the_version_names_the_program_and_its_engines(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(["--version"]) == 0
    words = capsys.readouterr().out
    assert words.startswith(f"mtls-sidecar {__version__} (")
    assert "OpenSSL 4" in words or "OpenSSL 3" in words
    assert len(words.splitlines()) == 1
    assert ("BoringSSL API" in words) is (find_spec("mtls_sidecar_boringssl") is not None)


def test_the_version_says_why_an_engine_that_is_installed_is_not_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise ImportError("undefined symbol: _ZdlPvm")

    monkeypatch.setattr("proxy.tls.engine._is_installed", lambda: True)
    monkeypatch.setattr("proxy.tls.engine.boringssl_engine", broken)
    assert entry.main(["--version"]) == 0
    first, *others = capsys.readouterr().out.splitlines()
    assert first.startswith(f"mtls-sidecar {__version__} (OpenSSL ")
    assert others == [why_not_boringssl(TlsConfig())]


def test_without_a_command_the_help_is_shown_and_the_status_is_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main([]) == 2
    assert "commands:" in capsys.readouterr().err


def test_an_unknown_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(["frobnicate"]) == 2
    assert "frobnicate" in capsys.readouterr().err


@pytest.mark.parametrize(("pid", "status"), [(1, 143), (2, 0)])
def test_sigterm_ends_what_a_container_runs(monkeypatch: pytest.MonkeyPatch, pid: int, status: int) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def run(_args: argparse.Namespace) -> int:
        signal.raise_signal(signal.SIGTERM)
        return 0

    install(monkeypatch, run)
    monkeypatch.setattr(os, "getpid", lambda: pid)
    try:
        assert entry.main(["fake"]) == status
    finally:
        signal.signal(signal.SIGTERM, before)


def test_only_commands_whose_module_is_there_are_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = {"certs": entry.COMMANDS["certs"], "later": entry.Command("proxy.cli.not_there", "comes later")}
    monkeypatch.setattr(entry, "COMMANDS", table)
    assert list(entry.available_commands()) == ["certs"]
    assert entry.main(["--help"]) == 0
    assert "later" not in capsys.readouterr().out


def test_a_command_imports_nothing_of_the_other_commands() -> None:
    code = (
        "import sys; from proxy.cli.main import main; main(['certs', '--help']); "
        "heavy = {'tabulate', 'OpenSSL', 'cryptography', 'asyncio', 'yaml', 'proxy.cli.validate'}; "
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


def test_the_status_of_the_command_is_the_status_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, lambda args: 7)
    assert entry.main(["fake"]) == 7


def test_an_interrupt_is_130_without_a_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(args: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    install(monkeypatch, interrupted)
    assert entry.main(["fake"]) == 130
    assert capsys.readouterr() == ("", "")


def test_what_nobody_caught_is_one_sentence_without_its_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(args: argparse.Namespace) -> int:
        raise ValueError("the secret is 1234")

    install(monkeypatch, broken)
    monkeypatch.delenv(entry.DEBUG_VARIABLE, raising=False)
    assert entry.main(["fake"]) == 1
    said = capsys.readouterr().err
    assert "unexpected ValueError; set MTLS_SIDECAR_DEBUG=1" in said
    assert "1234" not in said
    assert said.count("\n") == 1


def test_the_debug_variable_gives_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(args: argparse.Namespace) -> int:
        raise ValueError("why")

    install(monkeypatch, broken)
    monkeypatch.setenv(entry.DEBUG_VARIABLE, "1")
    with pytest.raises(ValueError, match="why"):
        entry.main(["fake"])


def test_an_unexpected_system_error_names_its_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(args: argparse.Namespace) -> int:
        raise OSError(28, "No space left on device", "/var/file")

    install(monkeypatch, broken)
    monkeypatch.delenv(entry.DEBUG_VARIABLE, raising=False)
    assert entry.main(["fake"]) == 1
    assert "unexpected OSError: No space left on device (/var/file);" in capsys.readouterr().err


def test_a_reader_that_went_away_ends_the_program_quietly() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        for unbuffered in ("", "1"):  # the pipe breaks at the flush, or in the middle of the command
            environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
            command = [*PROGRAM, "--version"]
            done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, env=environment, check=False)
            assert (done.returncode, done.stderr) == (141, b"")
    finally:
        os.close(writing)


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["certs", "--help"]])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_behind_standard_output_is_a_sentence(words: list[str], unbuffered: str) -> None:
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*PROGRAM, *words], stdout=full, stderr=subprocess.PIPE, env=environment, check=False)
    said = b"mtls-sidecar: the output is lost, standard output cannot take it: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, said)


def test_what_the_encoding_of_the_output_cannot_say_is_escaped() -> None:
    script = (
        "from proxy.cli import main; main._dispatch = lambda _: print('20 µs') or 0; raise SystemExit(main.main([]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"20 \\xb5s\n", b"")


def test_a_closed_standard_output_is_no_failure() -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *PROGRAM, "--version"], stderr=subprocess.PIPE, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_standard_streams_that_the_caller_closed_are_no_place_for_a_socket(
    tmp_path: Path, closed: str, loop: str
) -> None:
    """It waits for an identity that never comes, with its admin socket open, and then ends in order."""
    (tmp_path / "sidecar.yaml").write_text(
        f"identity: {{cert: a, key: b, bundles: {{example.org: c}}, wait_s: 0.1}}\n"
        f"admin: {{listen: 'unix:{tmp_path}/a'}}\n"
        "inbound: [{name: x, listen: '127.0.0.1:0', upstream: '127.0.0.1:9', mode: DISABLE}]\n"
    )
    command = [*PROGRAM, "run", "--loop", loop, "--config", str(tmp_path / "sidecar.yaml")]
    done = subprocess.run(["sh", "-c", f'exec "$@" {closed}', "sh", *command], capture_output=True, check=False)
    assert done.returncode == 1
    assert b"giving up" in done.stderr or "2>&-" in closed


def test_python_dash_m_proxy_is_the_program() -> None:
    done = subprocess.run([*PROGRAM, "certs"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: mtls-sidecar certs ")
