"""The scenarios of the laboratory: each is a command line that the product takes."""

import argparse
from pathlib import Path

import pytest

from bench.scenarios import SCENARIOS, argv, main
from proxy.cli import bench


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
