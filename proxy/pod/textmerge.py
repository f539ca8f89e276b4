"""
Three texts merged by lines: what one changed and what the other changed, where they do not touch.

A YAML library that keeps comments still writes a document in its own way: it moves dashes, folds long lines, drops
blanks. Merging lets it change nothing but what injection changes: base is the document as the library writes it, ours
is the document as its author wrote it, theirs is the injected document as the library writes it. The result has the
injection's lines and the author's everywhere else.
"""

from collections.abc import Iterator
from difflib import SequenceMatcher

MAX_LINES = 20_000  # the matcher is quadratic in the worst case

Regions = list[tuple[int, int, int]]


def merge(base: str, ours: str, theirs: str) -> str | None:
    """Merge; None where both changed the same lines, or where there are too many."""
    a, b, c = (text.splitlines(keepends=True) for text in (base, ours, theirs))
    if max(len(a), len(b), len(c)) > MAX_LINES:
        return None
    merged: list[str] = []
    at = (0, 0, 0)
    for base_at, our_at, their_at, length in _common(_matches(a, b), _matches(a, c), (len(a), len(b), len(c))):
        parts = a[at[0] : base_at], b[at[1] : our_at], c[at[2] : their_at]
        chosen = _choose(*parts)
        if chosen is None:
            return None
        merged += chosen
        merged += b[our_at : our_at + length]
        at = base_at + length, our_at + length, their_at + length
    return "".join(merged)


def _choose(base: list[str], ours: list[str], theirs: list[str]) -> list[str] | None:
    if ours in (base, theirs):
        return theirs
    return ours if theirs == base else None


def _matches(one: list[str], other: list[str]) -> Regions:
    return [tuple(block) for block in SequenceMatcher(None, one, other, autojunk=False).get_matching_blocks()]  # type: ignore[misc]


def _common(ours: Regions, theirs: Regions, ends: tuple[int, int, int]) -> Iterator[tuple[int, int, int, int]]:
    """Stretches of the base that both others have: (in base, in ours, in theirs, length); the last is the empty end."""
    i = j = 0
    while i < len(ours) and j < len(theirs):
        (base_1, our_at, length_1), (base_2, their_at, length_2) = ours[i], theirs[j]
        begin, end = max(base_1, base_2), min(base_1 + length_1, base_2 + length_2)
        if begin < end:
            yield begin, our_at + begin - base_1, their_at + begin - base_2, end - begin
        if base_1 + length_1 < base_2 + length_2:
            i += 1
        else:
            j += 1
    yield (*ends, 0)
