"""The load generator beside openssl s_time: both are measured. How fast it is, `python -m bench.generator` says."""

import pytest

from bench.generator import compare


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_both_are_measured_against_the_same_server(version: str) -> None:
    ours_us, theirs_us, quotient = compare(version, rounds=1, seconds=1)
    assert ours_us > 0
    assert theirs_us > 0
    assert quotient == pytest.approx(theirs_us / ours_us)
