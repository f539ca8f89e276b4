"""The scenarios of the laboratory: each is a command line that the product takes."""

import argparse
from pathlib import Path

import pytest

from bench.scenarios import SCENARIOS, argv, keep, main
from proxy.cli import bench
from proxy.lab.results import write
from tests.lab.documents import result_of, round_of, row_of


@pytest.mark.parametrize("length", ["quick", "full"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_each_scenario_is_a_command_that_the_product_takes(name: str, length: str, tmp_path: Path) -> None:
    words = argv(name, length, tmp_path)
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    options = parser.parse_args(words[words.index("bench") + 1 :])
    assert options.subcommand == SCENARIOS[name].command[0]
    assert options.json == str(tmp_path / f"{name}.json")


def test_a_scenario_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["quick", "--only", "handshake,speed"])
    assert "no such scenario: speed" in capsys.readouterr().err


def test_a_result_is_kept_with_its_reports_and_an_overview(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measured, kept = tmp_path / "measured", tmp_path / "kept"
    measured.mkdir()
    kept.mkdir()
    write(str(measured / "rtt.json"), result_of(row_of(round_of(latency=None))))
    assert keep(measured / "rtt.json", kept) == []
    assert sorted(file.name for file in kept.iterdir()) == ["README.md", "rtt.html", "rtt.json", "rtt.md"]
    assert (kept / "rtt.json").read_bytes() == (measured / "rtt.json").read_bytes()
    assert "<svg" in (kept / "rtt.html").read_text()
    assert "What a TLS handshake costs" in (kept / "rtt.md").read_text()
    assert "[rtt.md](rtt.md)" in (kept / "README.md").read_text()
    assert [file.name for file in kept.iterdir() if str(tmp_path) in file.read_text()] == []
    assert f"left rtt in {kept}" in capsys.readouterr().out


def test_a_result_that_nobody_can_read_is_not_kept(tmp_path: Path) -> None:
    (tmp_path / "rtt.json").write_text("{}")
    kept = tmp_path / "kept"
    kept.mkdir()
    assert keep(tmp_path / "rtt.json", kept) == ["the reports of rtt"]
    assert [file.name for file in kept.iterdir()] == ["README.md"]


def test_a_result_of_another_version_in_the_folder_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rtt.json").write_text("{}")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "relay.json").write_text("{}")
    assert keep(tmp_path / "rtt.json", tmp_path / "kept") == ["the reports of rtt", "the overview"]
    assert "no overview: " in capsys.readouterr().err
