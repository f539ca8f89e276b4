"""The tables of `bench compare` and `bench relay`, from results made by hand and from short runs of the commands."""

import json
import os
import platform
import signal
import subprocess
import time
from pathlib import Path

import msgspec
import psutil
import pytest

from proxy.cli.bench_sides import Beside, Column, Table, print_sides
from proxy.lab import results
from proxy.lab.results import Kind, Mode, Result, Round, Row, Scenario, Workload
from proxy.ops.ownmodule import package_command, package_environment
from tests.e2e.waiting import until
from tests.lab import documents

FULL = "full handshake over TLS 1.3"
COLUMNS = (Column("full 1.3", FULL, "cpu_per_handshake"), Column("GB up", "upload", "cpu_per_gb"))
SHORT = ["--rounds", "1", "--seconds", "0.05", "--bulk", "1", "--idle", "8", "--engine", "openssl"]


def handshakes(side: str, *cpu_us: float) -> Row:
    scenario = Scenario(side=side, workload=Workload.HANDSHAKE, version="1.3", mode=Mode.FULL)
    return Row(scenario=scenario, rounds=tuple(Round(count=1, seconds=1.0, server_cpu_s=us / 1e6) for us in cpu_us))


def shown(capsys: pytest.CaptureFixture[str], rows: list[Row], *tables: Table) -> str:
    result = Result(
        kind=Kind.COMPARE,
        started_at="2026-11-24T12:00:00Z",
        environment=documents.ENVIRONMENT,
        seed=1,
        command="mtls-sidecar bench compare",
        rows=tuple(rows),
        sides={row.scenario.side: "words" for row in rows},
    )
    print_sides(result, tables)
    return capsys.readouterr().out


def lines_of(text: str, side: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line.startswith(side)]


def test_a_figure_stands_beside_its_ratio_to_the_base(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [handshakes("ours", *range(100, 107)), handshakes("theirs", *range(200, 207))]
    text = shown(capsys, rows, Table("Handshakes", COLUMNS, "ours"))
    assert lines_of(text, "ours") == [["ours", "103", "µs"]]
    assert lines_of(text, "theirs") == [["theirs", "203", "µs", "1.97x"]]
    assert "GB up" not in text  # nobody has a figure for it


def test_a_ratio_that_the_rounds_cannot_tell_from_one_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [handshakes("ours", 100, 110, 90, 100, 95, 105), handshakes("theirs", 101, 99, 100, 90, 110, 100)]
    assert lines_of(shown(capsys, rows, Table("", COLUMNS, "ours")), "theirs")[0][-1].startswith("~")


@pytest.mark.parametrize(("theirs", "ratio"), [((104, 112, 99), "~1.04x"), ((104, 112, 101), "1.04x")])
def test_rounds_too_few_for_an_interval_are_believed_only_where_they_agree(
    theirs: tuple[float, ...], ratio: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [handshakes("ours", 100, 100, 100), handshakes("theirs", *theirs)]
    assert lines_of(shown(capsys, rows, Table("", COLUMNS, "ours")), "theirs")[0][-1] == ratio


def test_what_is_added_stands_with_its_sign(capsys: pytest.CaptureFixture[str]) -> None:
    column = Column("full", FULL, "cpu_per_handshake", Beside.ADDED)
    rows = [handshakes("ours", 100), handshakes("more", 150), handshakes("less", 60)]
    text = shown(capsys, rows, Table("", (column,), "ours"))
    assert lines_of(text, "more") == [["more", "150", "µs", "+50", "µs"]]
    assert lines_of(text, "less") == [["less", "60", "µs", "-40", "µs"]]


def test_what_may_add_nothing_is_marked_and_the_mark_explained(capsys: pytest.CaptureFixture[str]) -> None:
    column = Column("full", FULL, "cpu_per_handshake", Beside.ADDED)
    rows = [
        handshakes("ours", 100, 110, 90, 100),
        handshakes("same", 103, 99, 100, 102),
        handshakes("more", *[150] * 4),
    ]
    text = shown(capsys, rows, Table("", (column,), "ours"))
    assert lines_of(text, "same")[0][-2].startswith("~")
    assert lines_of(text, "more")[0][-2].startswith("+")
    assert "~ the rounds cannot tell the two apart" in text
    assert "~" not in shown(capsys, [rows[0], rows[2]], Table("", (column,), "ours"))


def test_unknown_failed_and_absent_are_three_words(capsys: pytest.CaptureFixture[str]) -> None:
    unknown = Row(scenario=handshakes("u").scenario, rounds=(Round(count=1, seconds=1.0),))
    upload = Scenario(side="u", workload=Workload.UPLOAD, version="1.3")
    moved = Round(count=1, seconds=1.0, payload_bytes=10**9, server_cpu_s=0.5)
    failed = Row(scenario=handshakes("f").scenario, fault="it broke")
    rows = [handshakes("ours", 100), unknown, Row(scenario=upload, rounds=(moved,)), failed]
    text = shown(capsys, rows, Table("", COLUMNS, "ours"))
    assert lines_of(text, "u ") == [["u", "unknown", "500", "ms"]]
    assert lines_of(text, "f ") == [["f", "failed", "–"]]
    assert "it broke" in text


def run(*words: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        package_command("proxy", "bench", *words),
        env=package_environment() | ({"PATH": path} if path else {}),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def test_a_short_comparison_measures_every_kind_of_row(tmp_path: Path) -> None:
    file = tmp_path / "compare.json"
    done = run("compare", *SHORT, "--peers", "none", "--json", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    found = results.read(str(file))
    sides = {row.scenario.side for row in found.rows}
    assert sides == {"sidecar (openssl)", "OpenSSL in memory"}
    assert len(found.rows) == 8 + 7  # four handshakes, requests, two directions; and idle connections of the sidecar
    assert [row.fault for row in found.rows if row.fault] == []
    assert all(row.rounds[0].count for row in found.rows)
    ours = [row for row in found.rows if row.scenario.side.startswith("sidecar")]
    assert {row.negotiated_cipher for row in ours if row.scenario.version == "1.3"} == {"TLS_AES_128_GCM_SHA256"}
    assert "refused a client without a certificate and one of another CA, in TLS 1.2 and 1.3" in done.stdout
    assert "full 1.2" in done.stdout
    assert json.loads(file.read_text())["kind"] == "compare"


@pytest.mark.needs("haproxy")
def test_a_peer_stands_beside_the_sidecar_and_a_missing_one_is_named() -> None:
    done = run("compare", *SHORT, "--peers", "haproxy", "--measure", "request")
    assert done.returncode == 0
    assert lines_of(done.stdout, "haproxy ")[0][-1].endswith("x")


def test_a_peer_that_cannot_take_part_is_said_and_the_others_are_measured(tmp_path: Path) -> None:
    broken = tmp_path / "hitch"
    broken.write_text("#!/bin/sh\necho 'no such option' >&2\nexit 3\n")
    broken.chmod(0o755)
    done = run("compare", *SHORT, "--peers", "hitch", "--measure", "request", path=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 1
    assert "hitch is not measured: Hitch ended at its start (status 3): no such option" in done.stdout
    assert lines_of(done.stdout, "sidecar (openssl) ")[0][-1] == "µs"


def test_a_short_relay_shows_plaintext_tls_and_mutual_tls_side_by_side(tmp_path: Path) -> None:
    file = tmp_path / "relay.json"
    done = run("relay", *SHORT, "--measure", "connection,request", "--json", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    found = results.read(str(file))
    assert [row.fault for row in found.rows if row.fault] == []
    assert {(row.scenario.side, row.scenario.security.value) for row in found.rows} == {
        ("direct", "plaintext"),
        ("sidecar, DISABLE", "plaintext"),
        ("asyncio, TLS", "tls"),
        ("asyncio, mutual TLS", "mutual_tls"),
        ("sidecar (openssl)", "mutual_tls"),
        ("two sidecars", "mutual_tls"),
        ("OpenSSL in memory", "tls"),
        ("OpenSSL in memory", "mutual_tls"),
    }
    assert "TLS without a client certificate is no mode of the sidecar" in done.stdout
    assert "The sidecar adds" in done.stdout
    written = file.read_text()
    assert "bench relay" in found.command  # what was typed stands there, where it ran does not
    assert [place for place in (str(tmp_path), "mtls-sidecar-bench-", str(Path.cwd())) if place in written] == []
    assert platform.node() not in " ".join(map(str, msgspec.structs.astuple(found.environment))).split()


def test_a_result_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    words = ["compare", *SHORT, "--peers", "none", "--measure", "request", "--json", str(tmp_path / "no" / "file")]
    done = run(*words)
    assert done.returncode == 1
    assert "cannot be written: No such file or directory" in done.stderr
    assert done.stdout == ""  # said before anything is measured
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["compare", "--peers", "squid"], "'squid' is no peer: there are haproxy, nginx, stunnel, hitch, envoy"),
        (["compare", "--measure", "speed"], "'speed' is no measurement"),
        (["relay", "--engine", "rustls"], "'rustls' is no engine: there are openssl, boringssl"),
        (["relay", "--idle", "0"], "'0' is no whole number from 1 to 4000"),
        (["relay", "--processes", "2"], "unrecognized arguments: --processes"),  # there is no load for a second one
    ],
)
def test_what_cannot_be_is_refused_with_what_can(words: list[str], said: str) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert said in done.stderr


def test_a_reader_that_leaves_early_costs_no_result(tmp_path: Path) -> None:
    words = [*SHORT, "--peers", "none", "--measure", "request", "--json", str(tmp_path / "result.json")]
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            package_command("proxy", "bench", "compare", *words),
            env=package_environment(),
            stdout=writer,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writer)
    assert (tmp_path / "result.json").exists(), done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_stopped_leaves_no_server_behind(tmp_path: Path, number: signal.Signals) -> None:
    """SIGTERM is what a job that took too long gets, SIGHUP one whose terminal was closed."""
    assert stopped_while_it_measures(tmp_path, number) == (130, b"")
    assert left_of(tmp_path) == []


def test_a_run_that_is_killed_leaves_no_server_and_no_key_behind(tmp_path: Path) -> None:
    assert stopped_while_it_measures(tmp_path, signal.SIGKILL) == (-signal.SIGKILL, b"")
    until(lambda: not left_of(tmp_path), "all is gone", within_s=60.0)


def stopped_while_it_measures(folder: Path, number: signal.Signals) -> tuple[int, bytes]:
    """Send a signal to a comparison that has its servers in the folder; returns its exit status and what it said."""
    command = package_command("proxy", "bench", "compare", *SHORT, "--peers", "none", "--rounds", "100")
    environment = package_environment() | {"TMPDIR": str(folder)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        deadline = time.monotonic() + 60.0
        while not any(log.stat().st_size for log in folder.glob("*/*-inbound.log")):  # it says that it runs
            assert time.monotonic() < deadline
            with pytest.raises(subprocess.TimeoutExpired):  # it has not ended by itself
                running.wait(0.05)
        running.send_signal(number)
        _, said = running.communicate(timeout=60)
    return running.returncode, said


def left_of(folder: Path) -> list[object]:
    """What a run that had its files in the folder left there, and which of its processes still are."""
    lines = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    return [*folder.iterdir(), *(line for line in lines if any(str(folder) in word for word in line))]
