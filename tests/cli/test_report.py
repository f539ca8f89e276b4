"""`mtls-sidecar report plaintext` as its user sees it: words, JSON, exit status."""

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from proxy.cli.main import main
from tests.ops.test_plaintextsources import line

CLIENT = "10.0.0.1"


def log(folder: Path, *ages_h: float, security: str = "plaintext", hours: float = 30) -> str:
    """A log of the last hours, up to now: connections of these ages, and one of mutual TLS at each end."""
    now = datetime.now(UTC)

    def at(age_h: float, security: str) -> bytes:
        moment = (now - timedelta(hours=age_h)).isoformat()
        return line(timestamp=moment, start_time=moment, duration_s=0.5, security=security)

    lines = [at(hours, "mutual_tls"), *(at(age, security) for age in ages_h), at(0, "mutual_tls")]
    file = folder / "orders.log"
    file.write_bytes(b"\n".join(lines))
    return str(file)


def report(*arguments: str) -> int:
    return main(["report", "plaintext", *arguments])


def test_safe_is_exit_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(log(tmp_path)) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("STRICT is safe.")
    assert "let in: 2 mutual_tls" in shown
    assert "Next: `mode: STRICT` for http" in shown


def test_a_client_that_must_move_is_exit_1_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = tmp_path / "pods.txt"
    names.write_text(f"{CLIENT} shop cart-7d9f\n")
    assert report(log(tmp_path, 1.01, 2), "--names", str(names)) == 1
    shown = capsys.readouterr().out
    assert shown.startswith("STRICT is not safe.")
    (row,) = [text.split() for text in shown.splitlines() if text.startswith(CLIENT)]
    assert row[:6] == [CLIENT, "shop", "cart-7d9f", "http", "15006", "plaintext"]
    assert row[-3:] == ["1", "h", "ago"]


def test_too_little_evidence_is_exit_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(log(tmp_path, hours=2)) == 1
    assert "STRICT is not known to be safe." in capsys.readouterr().out
    assert report(log(tmp_path, hours=2), "--window", "1h") == 0


def test_a_client_of_before_the_window_is_listed_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(log(tmp_path, 25)) == 0
    assert "Not seen for 1 d or longer:\nCLIENT" in capsys.readouterr().out


def test_prefixes_and_ignored_networks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = log(tmp_path, 1)
    assert report(file, "--group-by", "prefix=16/48") == 1
    assert "10.0.0.0/16 " in capsys.readouterr().out
    assert report(file, "--ignore", "192.0.2.0/24", "--ignore", f"{CLIENT}/32") == 0
    assert "1 connection left out by --ignore" in capsys.readouterr().out


def test_json_has_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = log(tmp_path, 1, 26, security="app_tls")
    assert report(file, "--json") == 1
    document = json.loads(capsys.readouterr().out)
    assert document["verdict"] == "not_safe"
    (listener,) = document["listeners"]
    assert listener["connections"] == {"app_tls": 2, "mutual_tls": 2}
    (client,) = listener["clients"]
    assert (client["client"], client["speaks"], client["connections"]) == (CLIENT, "app_tls", 2)
    assert document["sources"] == [{"source": file, "kind": "log", "lines": 4, "skipped": 0}]


def test_a_source_that_cannot_be_read_is_exit_2_and_the_others_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(log(tmp_path), str(tmp_path / "missing")) == 2
    shown = capsys.readouterr()
    assert shown.out.startswith("STRICT is safe.")
    assert shown.err == f"mtls-sidecar report: {tmp_path / 'missing'}: No such file or directory\n"


def test_nothing_that_can_be_read_gives_no_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(str(tmp_path / "missing")) == 2
    assert capsys.readouterr().out == ""


def test_names_that_cannot_be_read_are_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(log(tmp_path), "--names", str(tmp_path / "missing")) == 2
    assert "--names" in capsys.readouterr().err


def test_a_dash_is_standard_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(log(tmp_path, 1), "rb") as stdin:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(stdin))
        assert report("-") == 1
    assert CLIENT in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["--group-by", "name"],
        ["--group-by", "prefix=33/64"],
        ["--group-by", "prefix=24"],
        ["--ignore", "10.0.0.1/8"],
        ["--ignore", "kubelet"],
        ["--window", "0"],
    ],
)
def test_a_wrong_argument_is_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert report("x.log", *arguments) == 2
    assert arguments[1] in capsys.readouterr().err


def test_a_peer_cannot_paint_on_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "forged.log"
    file.write_bytes(
        line(downstream_remote_address="\x1b[2J", listener="\x9b31m", timestamp=datetime.now(UTC).isoformat())
    )
    for options in ([], ["--json"]):
        assert report(str(file), *options) == 1
        assert "\x1b" not in (shown := capsys.readouterr().out)
        assert "\x9b" not in shown


def test_a_long_table_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    now = datetime.now(UTC).isoformat()
    lines = [
        line(timestamp=now, start_time=now, duration_s=0, downstream_remote_address=f"10.0.0.{number}:1")
        for number in range(60)
    ]
    file = tmp_path / "many.log"
    file.write_bytes(b"\n".join(lines))
    assert report(str(file)) == 1
    assert "10 more: --json has all" in capsys.readouterr().out
