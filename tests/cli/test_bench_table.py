"""The table of `bench handshake`: it fits the terminal, and says what it had to leave out."""

import io
import os

import pytest

from proxy.cli.bench_table import print_result
from proxy.core.reasons import Reason
from proxy.lab.environment import environment
from proxy.lab.latencies import Latencies
from proxy.lab.results import Kind, Mode, Result, Round, Row, Scenario, Workload


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def result(*, cpu_s: float | None = 0.1, failures: int = 0) -> Result:
    """One handshake a millisecond, in TLS 1.2 and 1.3."""
    latencies = Latencies()
    latencies.record(0.002, 100)
    round_ = Round(
        count=100,
        seconds=0.1,
        server_cpu_s=cpu_s,
        client_cpu_s=0.05,
        bytes_sent=100_000,
        bytes_received=200_000,
        round_trips=300,
        latency=latencies.encode(),
        failures={Reason.HANDSHAKE_TIMEOUT: failures} if failures else {},
    )
    rows = [
        Row(
            scenario=Scenario(side="sidecar", workload=Workload.HANDSHAKE, version=version, mode=Mode.FULL),
            rounds=(round_,) * 6,
        )
        for version in ("1.2", "1.3")
    ]
    return Result(
        kind=Kind.HANDSHAKE,
        started_at="2026-11-24T12:00:00Z",
        environment=environment(),
        seed=1,
        command="mtls-sidecar bench handshake",
        rows=tuple(rows),
    )


def shown(monkeypatch: pytest.MonkeyPatch, columns: int | None, shows: Result) -> str:
    stream = Terminal() if columns else io.StringIO()
    monkeypatch.setattr("sys.stdout", stream)
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((columns or 80, 24)))
    print_result(shows)
    return stream.getvalue()


def test_every_figure_has_its_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, None, result())
    (line,) = [line for line in text.splitlines() if line.startswith("TLS 1.3, full")]
    assert line.split("  ")[-1].strip() == "3"
    for figure in ("1,000/s", "1 ms", "500 µs", "2 ms", "3,000"):
        assert figure in line
    assert "failed" not in text


@pytest.mark.parametrize("columns", [80, 100])
def test_a_narrow_terminal_has_fewer_columns_and_is_told(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    lines = shown(monkeypatch, columns, result()).splitlines()
    assert max(map(len, lines)) <= columns
    assert any("a wider terminal also has p90" in line for line in lines)
    header = next(line for line in lines if "per second" in line)
    for kept in ("server CPU", "p99", "round trips"):
        assert kept in header


def test_what_does_not_fit_even_so_goes_on_below(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(monkeypatch, 40, result()).splitlines()
    assert max(map(len, lines)) <= 40
    assert sum(line.startswith("TLS 1.3, full") for line in lines) == 2  # once in either part


def test_a_wide_terminal_has_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "a wider terminal" not in shown(monkeypatch, 200, result())


def test_failures_have_a_column_where_there_are_any(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, None, result(failures=25))
    assert "failed" in text
    assert "20 %" in text


def test_unknown_cpu_is_called_that(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "unknown" in shown(monkeypatch, None, result(cpu_s=None))
