"""A rotation that has stopped is said once for each identity, while there is still time to mend it."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from proxy.core.config import LogFormat, LogLevel
from proxy.ops.expiry import LATE_SHARE, ExpiryAlarm
from proxy.ops.log import configure

BEGINS_AT, LAPSES_AT = 1_000_000.0, 1_001_000.0
LATE_AT = LAPSES_AT - LATE_SHARE * (LAPSES_AT - BEGINS_AT)


def generation(number: int) -> SimpleNamespace:
    """As much of a Generation as the alarm looks at."""
    identity = SimpleNamespace(spiffe_id="spiffe://example.org/sa/x", valid_from=BEGINS_AT, lapses_at=LAPSES_AT)
    return SimpleNamespace(number=number, material=SimpleNamespace(identity=identity))


@pytest.fixture
def said(tmp_path: Path):
    """(the alarm, a function that reads what it has said so far)."""
    path = tmp_path / "log"
    with path.open("wb") as stream:
        log = configure(LogLevel.INFO, LogFormat.JSON, stream)
        yield ExpiryAlarm(log), lambda: [json.loads(line) for line in path.read_text().splitlines()]
        log.close()


def test_an_identity_in_its_prime_is_no_alarm(said):
    alarm, lines = said
    alarm.look(None, LATE_AT + 1)
    alarm.look(generation(1), LATE_AT - 1)

    assert lines() == []


def test_an_identity_near_its_end_is_said_once(said):
    alarm, lines = said
    for _ in range(3):
        alarm.look(generation(1), LATE_AT + 1)

    (line,) = lines()
    assert line["event"] == "identity is late"
    assert line["spiffe_id"] == "spiffe://example.org/sa/x"
    assert "no newer one has been written" in line["detail"]


def test_each_identity_has_an_alarm_of_its_own(said):
    alarm, lines = said
    alarm.look(generation(1), LATE_AT + 1)
    alarm.look(generation(2), LAPSES_AT + 1)

    assert [line["detail"].split()[0] for line in lines()] == ["3", "nothing"]
