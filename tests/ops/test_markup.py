"""Whatever text goes into a page, it stays text."""

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from proxy.ops.markup import Markup, page, tag


class Reader(HTMLParser):
    """What a browser sees: the names of elements, and the text."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(document)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th", "dt", "dd"):  # what stands apart on the screen
            self.text += " "

    def handle_data(self, data: str) -> None:
        self.text += data


def test_markup_nests_and_text_is_escaped() -> None:
    made = tag("p", tag("b", "<1>"), " & ", None, class_="quiet", data_label='"', title=None)
    assert made == '<p class="quiet" data-label="&quot;"><b>&lt;1&gt;</b> &amp; </p>\n'


def test_a_void_element_has_no_end() -> None:
    assert tag("meta", charset="utf-8") == '<meta charset="utf-8">'


@given(st.text(max_size=200))
def test_no_text_becomes_an_element_or_an_attribute(text: str) -> None:
    seen = Reader(page(text, "", tag("p", text, data_label=text)))
    assert seen.names == ["html", "meta", "meta", "meta", "title", "style", "body", "main", "p"]
    assert [name for name, _ in seen.attributes] == [
        "lang",
        "charset",
        "name",
        "content",
        "name",
        "content",
        "data-label",
    ]


def test_controls_and_overrides_are_visible() -> None:
    assert tag("b", "a\x1b[2J\u202e") == "<b>a\\x1b[2J\\u202e</b>"


def test_markup_of_markup_is_text_again() -> None:
    """Only `tag` makes Markup: what is done to one (a slice, a join) is escaped anew."""
    assert not isinstance(tag("b", "x") + "<i>", Markup)
    assert tag("p", tag("b", "x")[:3]) == "<p>&lt;b&gt;</p>\n"
