"""The progress bar of a run."""

import io

import pytest

from proxy.cli import bench_progress
from proxy.cli.bench_progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(terminal: Terminal) -> str:
    return terminal.getvalue().rpartition("\r")[2]


def test_on_a_terminal_it_moves_within_a_step_and_says_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now, terminal = [100.0], Terminal()
    monkeypatch.setattr(bench_progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr("sys.stderr", terminal)
    with Progress("measuring", steps=4, step_s=2.0) as bar:
        now[0] += 1.0
        bar.tick()
        assert "measuring, 7 s left  12%" in shown(terminal)
        now[0] += 9.0  # a step that takes longer than planned does not run ahead
        bar.tick()
        assert " 25%" in shown(terminal)
        bar.step()
        assert "measuring, 30 s left  25%" in shown(terminal)  # by the pace so far


def test_without_a_known_end_it_says_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with Progress("searching", steps=None, step_s=2.0) as bar:
        bar.step("50/s")
        assert "searching: 50/s" in shown(terminal)


def test_elsewhere_it_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.StringIO()
    monkeypatch.setattr("sys.stderr", pipe)
    with Progress("measuring", steps=4, step_s=2.0) as bar:
        bar.tick()
        bar.step()
    assert pipe.getvalue() == ""
