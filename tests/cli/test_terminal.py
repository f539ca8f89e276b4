"""Colour is for terminals alone."""

import io

import pytest

from proxy.cli.terminal import Colour, paint


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")


def test_a_terminal_gets_colour() -> None:
    assert paint("good", Colour.GOOD, Terminal()) == "\x1b[32mgood\x1b[0m"


def test_a_file_gets_none() -> None:
    assert paint("good", Colour.GOOD, io.StringIO()) == "good"


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_the_environment_can_turn_it_off(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert paint("good", Colour.GOOD, Terminal()) == "good"
