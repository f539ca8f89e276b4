"""What one page says of another is true: every link leads to a file, and every anchor to a heading of it."""

import re
from collections.abc import Iterator
from pathlib import Path

from tests.docs.reading import PAGES, REPOSITORY, prose_of

LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)


def links() -> Iterator[tuple[Path, str]]:
    """Every (page, target) of a link to a file of this repository."""
    for page in PAGES:
        for target in LINK.findall(prose_of(page)):
            if not target.startswith(("http://", "https://")):
                yield page, target


def anchors_of(page: Path) -> set[str]:
    """The anchors that forges make of headings: lower case, words joined by hyphens, everything else gone."""
    headings = (re.sub(r"[^\w\- ]", "", heading).strip().lower() for heading in HEADING.findall(prose_of(page)))
    return {heading.replace(" ", "-") for heading in headings}


def test_there_are_links() -> None:
    assert len(list(links())) > 30  # else the test below would be true of nothing


def test_every_link_leads_to_a_file() -> None:
    broken = [(page.name, target) for page, target in links() if not _file_of(page, target).exists()]
    assert broken == []


def test_every_anchor_is_a_heading() -> None:
    pointing = [(page, target.partition("#")[2], _file_of(page, target)) for page, target in links() if "#" in target]
    assert [(page.name, anchor) for page, anchor, file in pointing if anchor not in anchors_of(file)] == []


def test_every_page_is_reached_from_the_readme() -> None:
    """Directly or over other pages; a page that nobody links to is not read."""
    reached, to_visit = set(), [REPOSITORY / "README.md"]
    while to_visit:
        page = to_visit.pop()
        if page not in reached:
            reached.add(page)
            to_visit += [
                file
                for target in LINK.findall(prose_of(page))
                if (file := _file_of(page, target)).suffix == ".md" and file.exists()
            ]
    assert {page.relative_to(REPOSITORY).as_posix() for page in set(PAGES) - reached} == set()


def _file_of(page: Path, target: str) -> Path:
    path = target.partition("#")[0]
    return (page.parent / path).resolve() if path else page
