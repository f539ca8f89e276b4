"""Many generators as one: meeting, shares, and everything that keeps them from beginning together."""

import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.lab.arrivals import arrivals
from proxy.lab.fleet import Clock, Fleet, FleetFault, meet, parse_instant
from proxy.lab.plan import Arrivals, ClosedLoop, OpenLoop, Plan
from proxy.tls.loadcontext import Credentials

NOON = 1_795_521_600.0  # 2026-11-24T12:00:00Z


class FakeClock:
    """Time passes only where somebody waits. reach: called at each wait, for what happens meanwhile."""

    def __init__(self) -> None:
        self.time = NOON
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds

    @property
    def clock(self) -> Clock:
        return Clock(now=lambda: self.time, sleep=self.sleep)


def plan(pace: ClosedLoop | OpenLoop) -> Plan:
    return Plan(address=("127.0.0.1", 1), credentials=Credentials(ca="ca.crt"), pace=pace, max_open=100)


@pytest.mark.parametrize("spacing", Arrivals)
def test_the_arrivals_of_a_fleet_are_those_of_one_generator(spacing: Arrivals) -> None:
    """Three generators of two processes at 20/s each begin what one generator at 60/s would."""
    alone = list(arrivals(OpenLoop(rate=60, arrivals=spacing, seed=4), 3.0))
    together: list[float] = []
    for index in range(3):
        whole, first, of = Fleet(index, 3).widen(plan(OpenLoop(rate=20, arrivals=spacing, seed=4)), 2)
        assert isinstance(whole.pace, OpenLoop)
        assert whole.max_open == 300
        for share in range(2):
            together += arrivals(whole.pace, 3.0, share=first + share, shares=of)
    assert sorted(together) == pytest.approx(alone)


def test_in_a_closed_loop_every_generator_has_its_own_clients() -> None:
    closed = plan(ClosedLoop(in_flight=16))
    assert Fleet(2, 3).widen(closed, 2) == (closed, 0, 2)


def test_a_fleet_of_one_is_no_fleet() -> None:
    opened = plan(OpenLoop(rate=20))
    assert Fleet().widen(opened, 2) == (opened, 0, 2)


def test_all_of_them_read_one_instant_that_lies_ahead(tmp_path: Path) -> None:
    folder, instants = tmp_path / "run", {}

    def come(index: int) -> None:
        instants[index] = meet(folder, Fleet(index, 3), within_s=20.0, lead_s=30.0)

    threads = [threading.Thread(target=come, args=(index,)) for index in (2, 0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert set(instants) == {0, 1, 2}
    assert len(set(instants.values())) == 1
    assert 0 < instants[0] - Clock().now() <= 30


def test_nobody_begins_while_one_is_missing(tmp_path: Path) -> None:
    time = FakeClock()
    (tmp_path / "generator-1.ready").touch()
    with pytest.raises(FleetFault, match=r"1 missing: generator-2\.ready\. Do all of them run"):
        meet(tmp_path, Fleet(0, 3), within_s=60.0, clock=time.clock)
    assert time.time >= NOON + 60
    assert not (tmp_path / "start").exists()


def test_who_waits_for_a_start_that_never_comes_gives_up(tmp_path: Path) -> None:
    with pytest.raises(FleetFault, match=r"1 missing: start\."):
        meet(tmp_path, Fleet(1, 2), within_s=60.0, clock=FakeClock().clock)


def test_a_folder_of_an_earlier_run_is_refused(tmp_path: Path) -> None:
    meet(tmp_path, Fleet(0, 1), within_s=1.0, clock=FakeClock().clock)
    with pytest.raises(FleetFault, match=r"generator-0\.ready is there already"):
        meet(tmp_path, Fleet(0, 1), within_s=1.0, clock=FakeClock().clock)


def test_a_start_that_is_seen_too_late_is_said(tmp_path: Path) -> None:
    (tmp_path / "start").write_text("2026-11-24T11:59:20Z")
    with pytest.raises(FleetFault, match=r"was seen 40 s too late.*Raise --meet-lead"):
        meet(tmp_path, Fleet(1, 2), within_s=1.0, clock=FakeClock().clock)


def test_a_folder_that_cannot_be_made_is_said() -> None:
    with pytest.raises(FleetFault, match="cannot be used to meet in: Not a directory"):
        meet(Path("/dev/null/run"), Fleet(0, 1), within_s=1.0)


def test_an_instant_is_rfc_3339() -> None:
    assert {parse_instant(text) for text in ("2026-11-24T12:00:00Z", "2026-11-24T13:00:00+01:00")} == {NOON}


@settings(deadline=None)
@given(text=st.text(max_size=40))
def test_another_word_is_no_instant(text: str) -> None:
    try:
        parse_instant(text)
    except FleetFault as fault:
        assert "is no instant: write it as 2026-11-24T15:00:00Z" in str(fault)  # noqa: PT017  # some text may be one
