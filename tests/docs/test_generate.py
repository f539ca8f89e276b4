"""docs/generate.py writes what differs, and --check only names it."""

import importlib
import sys
from pathlib import Path

import pytest


@pytest.fixture
def generate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "docs"))
    module = importlib.import_module("generate")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "PAGES", (lambda: {"docs/page.md": "text\n"},))
    return module


def test_check_names_a_page_that_differs_and_writes_nothing(
    generate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["generate.py", "--check"])
    assert generate.main() == 1
    assert capsys.readouterr().out == "docs/page.md differs from the code; run `make docs`\n"
    assert list(tmp_path.iterdir()) == []


def test_what_was_written_passes_the_check(
    generate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["generate.py"])
    assert generate.main() == 0
    assert (tmp_path / "docs" / "page.md").read_text() == "text\n"
    monkeypatch.setattr(sys, "argv", ["generate.py", "--check"])
    assert generate.main() == 0
    assert capsys.readouterr().out == "docs/page.md written\n"
