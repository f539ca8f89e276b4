"""`bench handshake` as one of many, as it is typed."""

import argparse
from pathlib import Path

import pytest

from proxy.cli.bench_fleet import add_fleet, fleet, turns_of
from proxy.cli.main import main
from proxy.lab.fleet import Fleet, FleetFault
from tests.lab.test_fleet import NOON, FakeClock

TARGET = ["--target", "127.0.0.1:9", "--ca", "ca.crt"]


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_fleet(parser)
    parser.set_defaults(warm_up=0.5)
    return parser.parse_args(words)


def test_a_share_is_an_index_below_a_size() -> None:
    assert (fleet("0/1"), str(fleet("3/4"))) == (Fleet(0, 1), "3/4")


@pytest.mark.parametrize("text", ["", "1", "4/4", "-1/4", "1/0", "a/b", "1/2/3", "0/99999", "٣/4"])
def test_another_word_is_no_share(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        fleet(text)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([*TARGET, "--meet", "x", "--start-at", "y"], "--start-at and --meet are two ways to agree on the start"),
        ([*TARGET, "--meet", "x"], "--meet needs --fleet I/N"),
        (["--fleet", "0/2"], "name it with --target"),
        (["--start-at", "2026-11-24T12:00:00Z"], "name it with --target"),
        ([*TARGET, "--fleet", "0/2", "--find-max", "--slo", "p99=20ms"], "it cannot be one of many"),
    ],
)
def test_options_that_do_not_fit_together_are_said(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "handshake", *words]) == 2
    assert sentence in capsys.readouterr().err


def test_a_run_by_itself_has_no_timetable() -> None:
    assert turns_of(options(), 2.0) is None


def test_a_timetable_begins_at_the_instant() -> None:
    made = turns_of(options("--start-at", "2026-11-24T12:01:00Z", "--slack", "4s"), 2.0, FakeClock().clock)
    assert made is not None
    assert (made.start_at, made.length_s) == (NOON + 60, 10.5)


def test_an_instant_that_has_passed_is_said() -> None:
    with pytest.raises(FleetFault, match="--start-at 2026-11-24T11:00:00Z: it is past that"):
        turns_of(options("--start-at", "2026-11-24T11:00:00Z"), 2.0, FakeClock().clock)


def test_a_timetable_begins_where_the_fleet_has_met(tmp_path: Path) -> None:
    made = turns_of(options("--fleet", "0/1", "--meet", str(tmp_path), "--meet-lead", "30s"), 2.0, FakeClock().clock)
    assert made is not None
    assert made.start_at == NOON + 30
