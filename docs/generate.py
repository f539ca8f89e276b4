"""
Writes every page that is generated from the code, or with --check names those that differ.

A page function takes nothing and returns {path from the root of the repository: text}. Adding one is one line in PAGES.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from pages.annotations import generate_annotation_pages
from pages.chart import generate_chart_pages
from pages.configuration import generate_config_pages
from pages.metrics import generate_metric_pages
from pages.reasons import generate_reason_pages

ROOT = Path(__file__).resolve().parent.parent

PAGES: tuple[Callable[[], dict[str, str]], ...] = (
    generate_config_pages,
    generate_reason_pages,
    generate_metric_pages,
    generate_annotation_pages,
    generate_chart_pages,
)


def main() -> int:
    """Write or check; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 and name the pages that differ")
    check = parser.parse_args().check
    different = []
    for page in PAGES:
        for path, text in page().items():
            target = ROOT / path
            if target.is_file() and target.read_text(encoding="utf-8") == text:
                continue
            different.append(path)
            if not check:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text, encoding="utf-8")
    for path in different:
        print(f"{path} differs from the code; run `make docs`" if check else f"{path} written")  # noqa: T201
    return 1 if check and different else 0


if __name__ == "__main__":
    sys.exit(main())
