"""Merging three texts by lines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.pod.textmerge import MAX_LINES, merge

texts = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "d\n", " \n"]), max_size=12).map("".join)


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "merged"),
    [
        ("a\nb\nc\n", "a\n b\nc\n", "a\nb\nc\nnew\n", "a\n b\nc\nnew\n"),
        ("a\nb\nc\n", "a\n b\nc\n", "a\nb\nnew\nc\n", None),
        ("a\nb\n", "a\nb\n", "x\na\nb\ny\n", "x\na\nb\ny\n"),
        ("a\nb\nc\n", "A\nb\nc\n", "a\nb\n", "A\nb\n"),
        ("a\nb\n", "a\nx\n", "a\nx\n", "a\nx\n"),
        ("a\nb\n", "a\nx\n", "a\ny\n", None),
        ("", "", "", ""),
        ("a", "a\n", "a", "a\n"),
    ],
)
def test_what_does_not_touch_is_merged(base: str, ours: str, theirs: str, merged: str | None) -> None:
    assert merge(base, ours, theirs) == merged


@given(texts, texts)
def test_where_one_side_changed_nothing_the_other_side_is_the_result(base: str, changed: str) -> None:
    assert merge(base, changed, base) == changed
    assert merge(base, base, changed) == changed
    assert merge(base, changed, changed) == changed


def test_a_text_of_too_many_lines_is_not_merged() -> None:
    assert merge("a\n", "a\n" * (MAX_LINES + 1), "a\n") is None
