"""The notes below a table of handshakes."""

import msgspec
import pytest

from proxy.lab.meaning import DISTURBED, notes, of_python
from proxy.lab.results import Mode, Round, Row, Scenario, Workload
from tests.lab.documents import ENVIRONMENT


def row(
    version: str = "1.3", *, trips: int | None = 3, busy: float | None = 1.0, limited: bool = False, **scenario: object
) -> Row:
    """Three rounds of a second, 100 handshakes each. busy: cores that the server used"""
    round_ = Round(
        count=100,
        seconds=1.0,
        server_cpu_s=busy,
        round_trips=None if trips is None else trips * 100,
        client_limited=limited,
    )
    fields: dict[str, object] = {
        "side": "sidecar",
        "workload": Workload.HANDSHAKE,
        "version": version,
        "mode": Mode.FULL,
    }
    return Row(scenario=msgspec.convert(fields | scenario, Scenario), rounds=(round_,) * 3)


def test_round_trips_are_named_by_version_and_mode() -> None:
    (first, *_) = notes([row("1.2", trips=4), row("1.3", trips=3)])
    assert "TLS 1.2 full 4, TLS 1.3 full 3" in first


def test_what_was_not_observed_is_not_said() -> None:
    assert notes([]) == []
    assert not any("round trips" in note for note in notes([row(trips=None), row("1.2", trips=None)]))
    assert notes([row(busy=None)]) == []


def test_who_set_the_pace_is_said_where_all_rows_agree() -> None:
    assert any("at least one core busy in every row" in note for note in notes([row(busy=0.97)]))
    assert any("Neither side was busy" in note for note in notes([row(busy=0.4)]))
    assert notes([row(busy=0.4, limited=True)]) == []
    assert notes([row(busy=0.97), row("1.2", busy=0.4, trips=None)]) == []


def test_in_an_open_loop_the_arrivals_set_the_pace() -> None:
    assert notes([row(busy=0.1, rate=50.0)]) == []


def test_a_machine_with_other_work_is_said_instead_of_a_pace() -> None:
    (note,) = notes([row(busy=0.4)], waited=DISTURBED + 0.1)
    assert "waited for their core 25 %" in note
    assert "CPU time grows less, but it grows" in note  # neighbours share caches and hyperthreads
    assert "Neither side" in notes([row(busy=0.4)], waited=DISTURBED)[0]


def test_rows_with_a_fault_say_nothing() -> None:
    assert notes([msgspec.structs.replace(row(busy=0.97), fault="it was refused")]) == []


@pytest.mark.parametrize(("optimised", "sentences"), [(None, 0), (True, 0), (False, 1)])
def test_a_python_that_is_known_not_to_be_optimised_is_said(optimised: bool | None, sentences: int) -> None:
    said = of_python(msgspec.structs.replace(ENVIRONMENT, python_optimised=optimised))
    assert len(said) == sentences
    assert all("5 to 10 % more CPU" in sentence for sentence in said)
