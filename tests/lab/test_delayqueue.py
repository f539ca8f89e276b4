"""Bytes under way in one direction: never early, never out of order, never more than the window."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.lab.delayqueue import DelayQueue, End

DELAY_S = 0.5


def queue(*, window_bytes: int = 1000, opens_at_s: float = 0.0) -> DelayQueue:
    return DelayQueue(DELAY_S, window_bytes, opens_at_s)


def test_bytes_are_due_one_delay_after_they_were_put_in() -> None:
    line = queue()
    line.put(b"hello", 1.0)
    assert line.next_due_s == 1.5
    assert line.take(1.499) is None
    assert line.take(1.5) == (b"hello", 1.5)
    assert line.next_due_s is None


def test_what_comes_before_the_opening_counts_as_sent_then() -> None:
    line = queue(opens_at_s=2.0)
    line.put(b"early", 1.0)
    line.put(b"late", 2.25)
    assert line.take(2.5) == (b"early", 2.5)
    assert line.take(2.5) is None
    assert line.take(2.75) == (b"late", 2.75)


def test_an_end_travels_behind_the_bytes_before_it() -> None:
    line = queue()
    line.put(b"last words", 1.0)
    line.put(End.FIN, 1.0)
    assert [line.take(1.5), line.take(1.5), line.take(1.5)] == [(b"last words", 1.5), (End.FIN, 1.5), None]


def test_what_the_receiver_did_not_take_comes_first_again_and_counts_as_held() -> None:
    line = queue(window_bytes=10)
    line.put(b"abcdef", 1.0)
    line.put(b"gh", 1.0)
    assert line.room_bytes == 2
    assert line.take(2.0) == (b"abcdef", 1.5)
    line.put_back(b"ef", 1.5)
    assert line.room_bytes == 6
    assert [line.take(2.0), line.take(2.0)] == [(b"ef", 1.5), (b"gh", 1.5)]
    assert line.room_bytes == 10


STEPS = st.lists(st.tuples(st.floats(0, 2), st.binary(min_size=1, max_size=40), st.integers(0, 40)), max_size=40)


@given(steps=STEPS, opens_at_s=st.floats(0, 5))
def test_every_byte_arrives_once_in_order_and_never_early(
    steps: list[tuple[float, bytes, int]], opens_at_s: float
) -> None:
    """Each step: time passes, bytes come as far as there is room, and the receiver takes so many bytes at most."""
    line, now_s, sent, received = queue(window_bytes=100, opens_at_s=opens_at_s), 0.0, b"", b""
    for passes_s, data, takes in steps:
        now_s += passes_s
        load = data[: line.room_bytes]
        if load:
            line.put(load, now_s)
            sent += load
        if taken := line.take(now_s):
            arrived, due_s = taken
            assert isinstance(arrived, bytes)
            assert max(opens_at_s, 0.0) + DELAY_S <= due_s <= now_s
            received += arrived[:takes]
            if arrived[takes:]:
                line.put_back(arrived[takes:], due_s)
        assert 100 - line.room_bytes == len(sent) - len(received)
    while taken := line.take(now_s + 10):
        assert isinstance(taken[0], bytes)
        received += taken[0]
    assert received == sent
