"""The load generator is quick enough to be a yardstick."""

import pytest

from bench.generator import ENOUGH, compare


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_it_makes_nearly_as_many_handshakes_as_openssl_s_time_for_the_same_cpu(version: str) -> None:
    ours, theirs, quotient = compare(version, rounds=1, seconds=1)
    assert quotient >= ENOUGH, f"{ours:.0f} us a handshake beside {theirs:.0f} us"
