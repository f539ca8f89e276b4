"""Times and spans in words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.clockwords import describe_period, rfc3339, span


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [
        (0.0, "1970-01-01T00:00:00Z"),
        (-1.0, "1969-12-31T23:59:59Z"),
        (1767225600.999, "2026-01-01T00:00:00Z"),
        (253402300799.0, "9999-12-31T23:59:59Z"),
        (1e300, "9999-12-31T23:59:59Z"),
        (-1e300, "0001-01-01T00:00:00Z"),
    ],
)
def test_a_time_is_written_as_rfc_3339_in_utc(epoch: float, expected: str) -> None:
    assert expected == rfc3339(epoch)


def test_milliseconds_are_written_on_demand_and_cut() -> None:
    assert rfc3339(1767225600.2509, milliseconds=True) == "2026-01-01T00:00:00.250Z"
    assert rfc3339(1767225600, milliseconds=True) == "2026-01-01T00:00:00.000Z"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "less than 1 s"),
        (0.9, "less than 1 s"),
        (1, "1 s"),
        (-45.7, "45 s"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (7380, "2 h 3 min"),
        (3601, "1 h"),
        (86400 + 5, "1 d"),
        (90 * 86400 + 7200, "90 d 2 h"),
    ],
)
def test_a_span_has_its_two_largest_units(seconds: float, expected: str) -> None:
    assert expected == span(seconds)


@pytest.mark.parametrize(
    ("now", "verdict"),
    [
        (999.0, "not valid for another 1 s"),
        (1000.0, "expires in 1 h"),
        (4600.0, "expires in less than 1 s"),
        (4600.5, "expired less than 1 s ago"),
        (11980.0, "expired 2 h 3 min ago"),
    ],
)
def test_a_period_is_described_with_both_clocks(now: float, verdict: str) -> None:
    expected = f"valid from 1970-01-01T00:16:40Z to 1970-01-01T01:16:40Z, our clock says {rfc3339(now)}: {verdict}"
    assert expected == describe_period(1000.0, 4600.0, now)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_no_clock_reading_breaks_the_words(epoch: float) -> None:
    assert rfc3339(epoch).endswith("Z")
    assert span(epoch)
    assert describe_period(0.0, 1.0, epoch)
