"""Sentences and tables as wide as a terminal: nothing is lost, nothing sticks out, and a pipe gets them as they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tabulate import tabulate

from proxy.lab.fitting import grid, wrapped

HEADERS = ["", "server CPU per handshake", "p50", "p99", "memory per connection"]
ROWS = [
    ["sidecar (openssl), TLS 1.3, 32 in flight", "993 µs ±4 %", "12.3 ms", "33.6 ms", "31.8 KiB"],
    ["envoy, TLS 1.3, 32 in flight", "618 µs ±15 %", "9.48 ms", "15.3 ms", "28.1 KiB"],
]
WORDS = st.text("ab µ±%", min_size=1, max_size=30).map(str.strip).filter(bool)


def widest(text: str) -> int:
    return max(map(len, text.splitlines()))


def test_a_pipe_gets_a_table_as_it_is() -> None:
    aligned = ("left", "right", "right", "right", "right")
    assert grid(HEADERS, ROWS, None) == tabulate(ROWS, HEADERS, disable_numparse=True, colalign=aligned)
    assert grid(HEADERS, ROWS, 200) == grid(HEADERS, ROWS, None)


@pytest.mark.parametrize("width", [40, 60, 80])
def test_a_table_that_is_too_wide_goes_on_below_itself_with_its_labels(width: int) -> None:
    text = grid(HEADERS, ROWS, width)
    assert widest(text) <= width
    for cell in (cell for row in ROWS for cell in row[1:]):
        assert text.count(cell) == 1
    parts = text.split("\n\n")
    assert len(parts) == {40: 2, 60: 2, 80: 1}[width]
    assert all("sidecar" in part and "envoy," in part for part in parts)


def test_what_stands_between_two_commas_of_a_label_stays_in_one_line() -> None:
    labels = [line[:24].rstrip() for line in grid(HEADERS, ROWS, 60).split("\n\n")[1].splitlines()[3:]]
    assert labels == ["sidecar (openssl),", "  TLS 1.3, 32 in flight", "envoy, TLS 1.3,", "  32 in flight"]


@given(st.lists(st.lists(WORDS, min_size=4, max_size=4), min_size=1, max_size=4), st.integers(1, 120))
def test_no_cell_is_lost_at_any_width(rows: list[list[str]], width: int) -> None:
    text = grid(["", "one", "two words", "three"], rows, width)
    for cell in (cell for row in rows for cell in row[1:]):
        assert cell in text
    assert grid(["", "one"], [], width).split() == ["one", "--", "-----"]


def test_a_sentence_is_wrapped_between_words_and_hangs() -> None:
    said = "  sidecar (openssl): a sentence of more words than a line of the terminal takes."
    lines = wrapped(said, 40, 2).splitlines()
    assert widest("\n".join(lines)) <= 40
    assert [line[:4].count(" ") for line in lines] == [2, 4, 4]
    assert " ".join(line.strip() for line in lines) == said.strip()
    assert wrapped(said, None) == said


def test_a_word_that_is_longer_than_the_line_stays_whole() -> None:
    assert "/a/path/that/is/longer/than/the/line" in wrapped("see /a/path/that/is/longer/than/the/line now", 24)
