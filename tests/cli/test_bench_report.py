"""`bench report` as a user and a pipeline type it."""

import io
import json
from pathlib import Path

import pytest

from proxy.cli.main import main
from proxy.lab.results import write
from tests.lab.documents import result_of
from tests.lab.samples import handshakes, relay


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("results")
    results = {
        "before": handshakes(1, rtts_s=(0.0,)),
        "after": handshakes(2, slower=1.2, rtts_s=(0.0,)),
        "same": handshakes(3, rtts_s=(0.0,)),
        "relay": relay(),
        "small": result_of(),
    }
    for name, result in results.items():
        write(str(folder / f"{name}.json"), result)
    return {name: str(folder / f"{name}.json") for name in results}


def test_one_file_is_sentences_and_a_table(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "report", files["before"]]) == 0
    out = capsys.readouterr().out
    assert out.startswith("What a TLS handshake costs - 2026-11-24T12:00:00Z")
    assert "Resumed against full, server CPU per handshake:" in out


def test_page_and_plots_are_written(files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, plots = tmp_path / "report.html", tmp_path / "plots" / "new"
    assert main(["bench", "report", files["small"], "--html", str(page), "--plots", str(plots)]) == 0
    assert page.read_text().startswith("<!doctype html>")
    written = sorted(path.name for path in plots.iterdir())
    assert written[:2] == ["cpu_per_handshake.png", "cpu_per_handshake.svg"]
    assert f"wrote {len(written)} files to {plots}" in capsys.readouterr().err


def test_a_page_is_printed_for_whoever_reads_a_log(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "report", files["small"], "--html", "-"]) == 0
    out = capsys.readouterr().out
    assert (out.startswith("<!doctype html>"), out.endswith("</html>\n")) == (True, True)


def test_markdown_is_for_a_pull_request(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "report", files["before"], files["after"], "--markdown"]) == 0
    assert capsys.readouterr().out.startswith("### What a TLS handshake costs: before and after\n")


@pytest.mark.parametrize(
    ("after", "gate", "status", "verdict"),
    [
        ("after", "cpu_per_handshake > +10%", 1, "The gate fails"),
        ("same", "cpu_per_handshake > +10%", 0, "The gate passes"),
        ("after", "cpu_per_handshake[version=1.2] > +10%", 0, "The gate passes"),
        ("after", "memory_per_connection > +10%", 1, "The gate fails"),  # nobody measured it
    ],
)
def test_a_gate_is_an_exit_status(
    files: dict[str, str], after: str, gate: str, status: int, verdict: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "report", files["before"], files[after], "--fail-if", gate]) == status
    assert verdict in capsys.readouterr().out


def test_several_gates_fail_if_one_does(files: dict[str, str]) -> None:
    gates = ["--fail-if", "p99 > 10s", "--fail-if", "round_trips > 1"]
    assert main(["bench", "report", files["before"], *gates]) == 1


def test_json_has_every_figure_change_and_gate(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    gate = ["--fail-if", "cpu_per_handshake > +10%"]
    assert main(["bench", "report", files["before"], files["after"], "--json", *gate]) == 1
    made = json.loads(capsys.readouterr().out)
    assert made["fails"] is True
    assert len(made["rows"]) == 8
    assert made["rows"][0]["measures"]["cpu_per_handshake"]["coverage"] == 0.9375
    change = next(one for one in made["changes"] if one["measure"] == "cpu_per_handshake" and "1.3" in one["row"])
    assert (change["verdict"], change["unit"]) == ("higher", "s")
    assert change["factor"]["low"] > 1.1
    assert {one["outcome"] for one in made["gates"]} == {"passed", "failed"}


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["none.json"], 2, "none.json cannot be read: No such file or directory"),
        (["{before}", "{relay}"], 2, "these two cannot be compared: the first is of `bench handshake`"),
        (["{before}", "--fail-if", "speed > 3"], 2, "'speed' is no measure; these are: handshakes_per_s"),
        (["{before}", "--fail-if", "p99 > +10%"], 2, "asks for a change: give two files"),
        (["{small}", "--html", "/nowhere/report.html"], 1, "/nowhere/report.html cannot be written: No such file"),
        (["{small}", "--plots", "/dev/null/plots"], 1, "/dev/null/plots cannot be written: Not a directory"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(
    files: dict[str, str], arguments: list[str], status: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "report", *(word.format(**files) for word in arguments)]) == status
    complaint = capsys.readouterr().err
    assert complaint.startswith("mtls-sidecar bench report: ")
    assert sentence in complaint
    assert complaint.count("\n") == 1


def test_help_shows_gates_and_measures(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "report", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--fail-if 'cpu_per_handshake > +10%'" in shown
    assert "failure_share" in shown


def test_a_sum_of_generators_is_reported_like_any_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = [str(tmp_path / f"{number}.json") for number in range(2)]
    for part in parts:
        write(part, result_of(target="orders:15006"))
    total = str(tmp_path / "all.json")
    assert main(["bench", "merge", *parts, "-o", total]) == 0
    assert main(["bench", "report", total, "--markdown"]) == 0
    assert "- generators: 2, started 2026-11-24T12:00:00Z to 2026-11-24T12:00:00Z" in capsys.readouterr().out


@pytest.mark.parametrize("columns", [60, 80])
def test_a_report_fits_the_terminal(files: dict[str, str], monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdout", shown := Terminal())
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["bench", "report", files["relay"]]) == 0
    assert max(map(len, shown.getvalue().splitlines())) in range(columns - 10, columns + 1)
