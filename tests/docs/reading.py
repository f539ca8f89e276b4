"""The pages that people read, taken apart: prose, fenced blocks, the lines that are commands."""

import re
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        *REPOSITORY.glob("*.md"),
        *(REPOSITORY / "docs").rglob("*.md"),
        *(REPOSITORY / "deploy").rglob("*.md"),
        *(REPOSITORY / "bench").glob("*.md"),
    ]
)

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"^    (.*)$", re.MULTILINE)
_CODE = re.compile(r"`([^`\n]+)`")


class Block(NamedTuple):
    """A fenced block, and what it is written in."""

    page: Path
    language: str
    text: str


def blocks_of(page: Path) -> list[Block]:
    return [Block(page, language, text) for language, text in _BLOCK.findall(page.read_text(encoding="utf-8"))]


def prose_of(page: Path) -> str:
    """A page without its fenced and indented blocks."""
    return _INDENTED.sub("", _BLOCK.sub("", page.read_text(encoding="utf-8")))


def commands_of(page: Path) -> list[str]:
    """Every line that is a command of ours, with what follows a backslash: in an indented block, or in backticks."""
    text = re.sub(r"\\\n\s*", "", page.read_text(encoding="utf-8"))
    lines = [*_INDENTED.findall(text), *_CODE.findall(text)]
    found = (re.search(r"(?:^|/)mtls-sidecar (\S.*)$", line.strip().removesuffix(" &")) for line in lines)
    return [match.group(1) for match in found if match is not None]
