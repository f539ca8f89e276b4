"""The page: whole, escaped, offline; and in a real browser, in light and dark, wide and as narrow as a phone."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from proxy.lab.difference import difference
from proxy.lab.gate import judge, parse
from proxy.lab.report import report
from proxy.lab.reporthtml import html
from proxy.lab.results import Kind
from tests.lab.browser import Browser
from tests.lab.documents import result_of, round_of, row_of
from tests.lab.samples import handshakes

PHONE = 360
VOID = {"meta", "link", "br", "use", "path"}
BEFORE, AFTER = handshakes(1, rtts_s=(0.0,)), handshakes(2, slower=1.2, rtts_s=(0.0,))
COMPARED = difference(BEFORE, AFTER)
FINDINGS = judge(parse("cpu_per_handshake > +10%"), AFTER, COMPARED)


class Outline(HTMLParser):
    """What the tests ask of a page's structure."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.pictures: list[str] = []
        self.heads: list[str | None] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.ids += [named["id"] or ""] if "id" in named else []
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action")]
        self.pictures += [named["aria-label"] or ""] if named.get("role") == "img" else []
        self.heads += [named.get("scope")] if tag == "th" else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return {
        "handshakes": html(report(handshakes(rtts_s=(0.0, 0.02)))),
        "comparison": html(report(AFTER, COMPARED, FINDINGS)),
    }


def test_a_page_needs_nothing_else(pages: dict[str, str]) -> None:
    for page in pages.values():
        assert not re.search(r"https?://|<script|@import|url\((?!#)", page)
        assert all(link.startswith(("#", "data:,")) for link in Outline(page).links)
        assert "default-src 'none'" in page


def test_a_page_is_well_formed_and_can_be_heard(pages: dict[str, str]) -> None:
    for page in pages.values():
        outline = Outline(page)
        assert outline.open == []
        assert len(outline.ids) == len(set(outline.ids))
        assert all(outline.pictures)
        assert set(outline.heads) == {"col", "row"}


def test_every_figure_stands_beside_its_table(pages: dict[str, str]) -> None:
    assert pages["handshakes"].count('role="img"') == pages["handshakes"].count("The numbers as a table") == 5


def test_the_gate_speaks_first(pages: dict[str, str]) -> None:
    page = pages["comparison"]
    assert page.index("The gate fails") < page.index("What changed") < page.index("In short")
    assert "cpu_per_handshake &gt; +10%: fails in 4 of 8 rows" in page


def test_what_a_file_says_is_never_markup() -> None:
    evil = '<img src=x onerror="alert(1)">'
    rows = [row_of(round_of(), side=side) for side in (evil, "sidecar")]
    page = html(report(result_of(*rows, kind=Kind.COMPARE, command=evil, notes=(evil,), sides={evil: evil})))
    assert "<img" not in page
    assert page.count("&lt;img src=x") > 5


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.mark.needs("chromium")
@pytest.mark.parametrize(("name", "dark"), [("handshakes", False), ("handshakes", True), ("comparison", True)])
def test_a_browser_shows_it(browser: Browser, pages: dict[str, str], tmp_path: Path, name: str, dark: bool) -> None:
    page = tmp_path / "report.html"
    page.write_text(pages[name], encoding="utf-8")
    shots = {}
    for width, shown in ((1100, "wide"), (PHONE, "narrow")):
        browser.open(page, width=width, dark=dark)
        complaints = [
            event for event in browser.events if event["method"] in ("Log.entryAdded", "Runtime.exceptionThrown")
        ]
        requests = [
            event["params"]["request"]["url"]
            for event in browser.events
            if event["method"] == "Network.requestWillBeSent"
        ]
        assert (complaints, requests) == ([], [page.as_uri()])
        assert browser.value("document.documentElement.scrollWidth") <= width
        visible = "[...document.querySelectorAll('figure svg')].filter(s => s.getBoundingClientRect().width > 0)"
        assert browser.value(f"{visible}.map(s => s.classList[0])") == [shown] * pages[name].count('role="img"')
        assert browser.value(f"{visible}.every(s => s.getBoundingClientRect().right <= {width})")
        shots[width] = browser.screenshot(tmp_path / f"{width}.png")
    ground = browser.value("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(13, 17, 23)" if dark else "rgb(255, 255, 255)")
    assert all(shot.startswith(b"\x89PNG") and len(shot) > 50_000 for shot in shots.values())


@pytest.mark.needs("chromium")
def test_text_can_be_read_against_its_ground(browser: Browser, pages: dict[str, str], tmp_path: Path) -> None:
    """WCAG's contrast of 4.5 for every colour of text, in both schemes; what is drawn has its figure beside it."""
    page = tmp_path / "report.html"
    page.write_text(pages["comparison"], encoding="utf-8")
    variables = {"--ink": 4.5, "--muted": 4.5, "--good": 4.5, "--bad": 4.5} | {f"--hue{at}": 2.0 for at in range(8)}
    for dark in (False, True):
        browser.open(page, width=PHONE, dark=dark)
        style = {
            name: str(browser.value(f"getComputedStyle(document.documentElement).getPropertyValue('{name}')")).strip()
            for name in (*variables, "--paper", "--sheet")
        }
        for ground in ("--paper", "--sheet"):
            for name, least in variables.items():
                assert contrast(style[name], style[ground]) >= least, (name, ground, dark)


def contrast(first: str, second: str) -> float:
    """WCAG 2.2, relative luminance of two #rrggbb colours."""

    def luminance(colour: str) -> float:
        channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    lighter, darker = sorted((luminance(first), luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)
