"""docs/reasons.md says every word once, where it belongs."""

import importlib
from pathlib import Path

import pytest

from proxy.core.reasons import EXPLANATIONS, Kind, Reason

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.syspath_prepend(str(REPOSITORY / "docs"))
    pages = importlib.import_module("pages.reasons").generate_reason_pages()
    assert list(pages) == ["docs/reasons.md"]
    return pages["docs/reasons.md"]


@pytest.mark.parametrize("reason", Reason)
def test_a_word_stands_once_with_its_sentence_and_advice(page: str, reason: Reason) -> None:
    (row,) = [line for line in page.splitlines() if line.startswith(f"| `{reason}` |")]
    assert EXPLANATIONS[reason].sentence in row
    assert EXPLANATIONS[reason].advice in row


def test_words_stand_under_their_kind(page: str) -> None:
    sections = page.split("\n## ")[1:]
    for section, kind in zip(sections, (Kind.REJECTED, Kind.ENDED, Kind.RELOAD), strict=True):
        words = [line.split("`")[1] for line in section.splitlines() if line.startswith("| `")]
        assert words == [reason for reason, word in EXPLANATIONS.items() if word.kind is kind]


def test_the_page_in_the_repository_is_up_to_date(page: str) -> None:
    assert (REPOSITORY / "docs/reasons.md").read_text() == page
