"""Durations as people write them."""

import argparse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cli.arguments import MAX_DURATION_S, duration_s


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1", 1), ("3600", 3600), ("90s", 90), ("30m", 1800), ("1h30m", 5400), ("7d", 604800), ("2w", 1209600)],
)
def test_a_duration_is_seconds_or_counts_with_units(text: str, seconds: int) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0s", "-1", "1.5h", "h", "1x", "1h x", " 1h", "1h\n", "٣", "101w0", "5300w"])
def test_anything_else_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"no duration|out of range"):
        duration_s(text)


@given(st.text(max_size=40))
def test_no_text_gets_anything_but_a_duration_or_a_refusal(text: str) -> None:
    try:
        seconds = duration_s(text)
    except argparse.ArgumentTypeError:
        return
    assert 1 <= seconds <= MAX_DURATION_S
