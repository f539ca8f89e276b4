"""docs/metrics.md lists every family, and its queries name series that exist."""

import importlib
import re
from pathlib import Path

import pytest

from proxy.ops.metricfamilies import FAMILIES, PREFIX, Family, Type

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.syspath_prepend(str(REPOSITORY / "docs"))
    pages = importlib.import_module("pages.metrics").generate_metric_pages()
    assert list(pages) == ["docs/metrics.md"]
    return pages["docs/metrics.md"]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_family_has_its_row(page: str, family: Family) -> None:
    (row,) = [line for line in page.splitlines() if line.startswith(f"| `{PREFIX}{family.name}` |")]
    assert family.meaning in row
    assert all(f"`{label}`" in row for label in family.labels)


def test_every_name_on_the_page_is_exported(page: str) -> None:
    exported = {PREFIX + family.name for family in FAMILIES}
    exported |= {f"{PREFIX}{family.name}_bucket" for family in FAMILIES if family.type is Type.HISTOGRAM}
    assert set(re.findall(rf"{PREFIX}\w+", page)) <= exported


def test_the_page_in_the_repository_is_up_to_date(page: str) -> None:
    assert (REPOSITORY / "docs/metrics.md").read_text() == page
