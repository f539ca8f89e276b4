"""Counters and token buckets, with the clock as an argument."""

import pytest

from proxy.core.config import Limits
from proxy.core.reasons import Reason, Rejected
from proxy.net.admission import MAX_SOURCES, Admission, TokenBucket, source_of


def taken(bucket: TokenBucket, rate: float, at: float, tries: int = 100) -> int:
    return sum(bucket.take(rate, at) for _ in range(tries))


def test_a_bucket_lets_its_rate_through_and_no_more() -> None:
    bucket = TokenBucket(10, 0.0)
    assert [taken(bucket, 10, at) for at in (0.0, 0.05, 0.1, 1.1, 100.0)] == [10, 0, 1, 10, 10]


def test_a_rate_below_one_lets_one_through_now_and_then() -> None:
    bucket = TokenBucket(0.5, 0.0)
    assert [taken(bucket, 0.5, at) for at in (0.0, 1.0, 2.0, 3.0, 4.0)] == [1, 0, 1, 0, 1]


def test_a_rate_that_is_lowered_holds_at_once() -> None:
    bucket = TokenBucket(100, 0.0)
    assert taken(bucket, 2, 0.0) == 2


def test_one_source_does_not_use_up_the_rate_of_another() -> None:
    admission = Admission(Limits(handshakes_per_s_per_source=1))
    admission.check(("10.0.0.1", 1), 0.0)
    with pytest.raises(Rejected) as caught:
        admission.check(("10.0.0.1", 1), 0.0)
    assert (caught.value.reason, "10.0.0.1" in caught.value.detail) == (Reason.RATE_LIMITED, True)
    admission.check(("10.0.0.2", 1), 0.0)
    admission.check(("10.0.0.1", 1), 1.0)


def test_a_unix_socket_has_no_source_to_be_limited_by() -> None:
    admission = Admission(Limits(handshakes_per_s_per_source=1))
    for _ in range(3):
        admission.check("", 0.0)


def test_the_memory_for_sources_is_bounded_and_forgets_the_quietest() -> None:
    admission = Admission(Limits(handshakes_per_s_per_source=1))
    for number in range(MAX_SOURCES + 10):
        admission.check((f"source {number}", 1), 0.0)
    assert len(admission._sources) == MAX_SOURCES
    with pytest.raises(Rejected):
        admission.check((f"source {MAX_SOURCES + 9}", 1), 0.0)
    admission.check(("source 0", 1), 0.0)


def test_a_source_that_is_refused_does_not_use_up_the_rate_of_all() -> None:
    admission = Admission(Limits(handshakes_per_s=2, handshakes_per_s_per_source=1))
    admission.check(("a", 1), 0.0)
    for _ in range(5):
        with pytest.raises(Rejected):
            admission.check(("a", 1), 0.0)
    admission.check(("b", 1), 0.0)


def test_zero_turns_every_limit_off() -> None:
    admission = Admission(Limits(connections=0, handshakes=0))
    admission.connections = admission.handshakes = 1_000_000
    admission.check(("a", 1), 0.0)
    assert admission.has_room()


@pytest.mark.parametrize(
    ("address", "source"),
    [
        (("192.0.2.7", 4242), "192.0.2.7"),
        (("::ffff:192.0.2.7", 4242, 0, 0), "192.0.2.7"),
        (("2001:db8:1:2:3:4:5:6", 4242, 0, 0), "2001:db8:1:2::/64"),
        (("2001:db8:1:2:ffff::1", 4242, 0, 0), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 4242, 0, 2), "fe80::/64"),
        ("", ""),
        (b"\0abstract", ""),
    ],
)
def test_a_source_is_an_ipv4_address_or_the_network_of_an_ipv6_address(address: object, source: str) -> None:
    assert source_of(address) == source
