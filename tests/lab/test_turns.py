"""The timetable of a fleet."""

import pytest

from proxy.lab.generator import LoadFault
from proxy.lab.turns import Turns
from tests.lab.test_fleet import NOON, FakeClock


def turns(time: FakeClock) -> Turns:
    return Turns(start_at=NOON + 10, warm_up_s=1.0, seconds=5.0, slack_s=2.0, clock=time.clock)


def test_turns_follow_each_other_at_equal_distance() -> None:
    time = FakeClock()
    timetable = turns(time)
    instants = []
    for turn in range(3):
        timetable.prepare(turn)
        instants.append(time.time - NOON)
        timetable.measure(turn)
        instants.append(time.time - NOON)
    assert instants == [10, 13, 20, 23, 30, 33]


def test_who_is_early_waits_and_who_took_longer_is_in_step_again() -> None:
    time = FakeClock()
    timetable = turns(time)
    timetable.prepare(0)
    time.time += 2.9  # a slow warm-up, within the slack
    timetable.measure(0)
    assert time.slept == pytest.approx([10.0, 0.1])


def test_who_is_late_does_not_measure() -> None:
    time = FakeClock()
    timetable = turns(time)
    timetable.prepare(0)
    time.time += 6.0
    with pytest.raises(
        LoadFault, match=r"was 3\.0 s late for its turn, and the others measured without it: raise --slack"
    ):
        timetable.measure(0)
    timetable.prepare(1)
    assert time.time == NOON + 20
