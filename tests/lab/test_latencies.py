"""Latencies: what they hold, that they add up exactly, and that reading them can be trusted with any text."""

import base64
import contextlib
import random
import struct
import zlib

import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.lab.latencies import HIGHEST_US, LOWEST_US, MOST_ENCODED, Latencies
from tests.lab.documents import latencies

SECONDS = st.lists(st.floats(min_value=0, max_value=4000), max_size=50)


def test_a_percentile_is_true_to_three_digits() -> None:
    held = latencies(*(number / 10_000 for number in range(1, 10_001)))
    assert [held.percentile(percent) for percent in (50, 90, 99, 100)] == pytest.approx([0.5, 0.9, 0.99, 1], rel=1e-3)


@settings(deadline=None, max_examples=30)
@given(recorded=SECONDS)
def test_percentiles_in_one_pass_are_the_percentiles(recorded: list[float]) -> None:
    held, percents = latencies(*recorded), (50.0, 90.0, 99.0, 99.9, 100.0)
    assert held.percentiles(percents) == {percent: held.percentile(percent) for percent in percents if recorded}


def test_nothing_recorded_has_no_percentile_and_no_bucket() -> None:
    assert (Latencies().percentile(99), Latencies().buckets(), Latencies().count) == (None, [], 0)


def test_what_is_out_of_range_counts_as_the_end_of_the_range() -> None:
    held = latencies(0.0, 1e-9, 86_400.0)
    assert [(round(seconds * 1e6), count) for seconds, count in held.buckets()] == [(LOWEST_US, 2), (HIGHEST_US, 1)]


@settings(deadline=None)
@given(first=SECONDS, second=SECONDS)
def test_the_sum_of_two_is_what_one_had_recorded(first: list[float], second: list[float]) -> None:
    parts = (Latencies.decode(latencies(*part).encode()) for part in (first, second))
    assert Latencies.sum(parts) == latencies(*first, *second)


@settings(deadline=None)
@given(recorded=SECONDS)
def test_decoding_gives_back_every_bucket(recorded: list[float]) -> None:
    held = latencies(*recorded)
    again = Latencies.decode(held.encode())
    assert (again, again.count, again.buckets()) == (held, len(recorded), held.buckets())


def test_the_text_is_what_any_hdrhistogram_reads() -> None:
    assert HdrHistogram.decode(latencies(0.25).encode()).get_max_value() == pytest.approx(250_000, rel=1e-3)


@pytest.mark.parametrize(
    ("other", "clause"),
    [
        (HdrHistogram(1, 2**40, 5), "its range is not"),  # would take 100 MB where it is trusted
        (HdrHistogram(1, 3_600_000_000, 2), "its range is not"),
    ],
)
def test_a_histogram_of_another_range_is_refused(other: HdrHistogram, clause: str) -> None:
    with pytest.raises(ValueError, match=clause):
        Latencies.decode(other.encode().decode())


def packed(payload: bytes) -> str:
    body = zlib.compress(payload)
    return base64.b64encode(struct.pack(">II", 0x1C849314, len(body)) + body).decode()


def test_a_bomb_is_not_unpacked() -> None:
    payload = zlib.decompress(base64.b64decode(latencies(0.1).encode())[8:])
    with pytest.raises(ValueError, match="unpacks to more than"):
        Latencies.decode(packed(payload + bytes(64 << 20)))


def test_a_text_without_end_is_refused_before_it_is_read() -> None:
    with pytest.raises(ValueError, match="longer than"):
        Latencies.decode("A" * (MOST_ENCODED + 1))


def test_every_prefix_is_refused() -> None:
    text = latencies(0.1, 0.2).encode()
    for length in range(len(text)):
        with pytest.raises(ValueError, match="it "):
            Latencies.decode(text[:length])


@settings(deadline=None)
@given(text=st.text(max_size=200))
def test_junk_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="it is no encoded HdrHistogram"):
        Latencies.decode(text)


@given(seed=st.integers(0, 2**32), junk=st.binary(max_size=60))
@settings(max_examples=200, deadline=None)
def test_noise_in_the_buckets_is_refused_or_read(seed: int, junk: bytes) -> None:
    """The library's decoder is C: whatever the bytes, the worst is a ValueError."""
    payload = bytearray(zlib.decompress(base64.b64decode(latencies(0.001, 0.1, 3.0).encode())[8:]))
    at = random.Random(seed).randrange(len(payload) + 1)
    payload[at:at] = junk
    with contextlib.suppress(ValueError):
        held = Latencies.decode(packed(bytes(payload)))
        assert held.count == sum(count for _, count in held.buckets())
