"""A report as Markdown and on a terminal."""

from collections import Counter

import pytest

from proxy.lab.difference import difference
from proxy.lab.gate import judge, parse
from proxy.lab.report import Report, report
from proxy.lab.reporttext import markdown, text
from proxy.lab.results import Kind
from proxy.ops.printable import printable
from tests.lab.documents import result_of, round_of, row_of
from tests.lab.samples import handshakes, relay


@pytest.fixture(scope="module")
def compared() -> Report:
    before, after = handshakes(1, rtts_s=(0.0,)), handshakes(2, slower=1.2, rtts_s=(0.0,))
    apart = difference(before, after)
    return report(after, apart, judge(parse("cpu_per_handshake > +10%"), after, apart))


def test_markdown_begins_with_the_verdict(compared: Report) -> None:
    lines = markdown(compared).splitlines()
    assert lines[0] == "### What a TLS handshake costs: before and after"
    assert lines[4:7] == ["**The gate fails**", "", "- cpu\\_per\\_handshake &gt; +10%: fails in 4 of 8 rows"]


def test_every_line_of_a_markdown_table_has_as_many_cells(compared: Report) -> None:
    for made in (compared, report(relay())):
        blocks = [block.splitlines() for block in markdown(made).split("\n\n") if block.startswith("|")]
        assert blocks
        for block in blocks:
            assert len({line.count("|") for line in block}) == 1


def test_what_a_file_says_is_neither_a_link_nor_a_mention_nor_a_tag() -> None:
    evil = "[x](javascript:1) @everyone <b> | `\n# head"
    row = row_of(round_of(), side=evil)
    made = markdown(report(result_of(row, row_of(), kind=Kind.COMPARE, command=evil, notes=(evil,))))
    assert "@everyone" not in made.replace("&#64;everyone", "")
    assert "[x](" not in made.replace("\\[x](", "")
    assert not any(line.startswith("# head") for line in made.splitlines())
    assert "<b>" not in made


def test_a_terminal_gets_the_sentences_and_the_tables(compared: Report) -> None:
    shown = text(compared, printable)
    assert shown.index("The gate fails") < shown.index("What changed") < shown.index("In short")
    assert "TLS 1.3, ECDSA P-256, full" in shown
    assert "+20 % worse" in shown


@pytest.mark.parametrize("width", [60, 80])
def test_a_narrow_terminal_gets_all_of_it_in_lines_that_fit(compared: Report, width: int) -> None:
    shown = text(compared, printable, width)
    assert max(map(len, shown.splitlines())) <= width
    words, all_words = (Counter(said.replace("-", " ").split()) for said in (shown, text(compared, printable)))
    assert all_words - words == Counter()  # labels and rules are there more often, nothing less often


def test_a_terminal_obeys_no_file() -> None:
    made = text(report(result_of(notes=("\x1b[31mred\x07",))), printable)
    assert "\x1b" not in made
    assert "\x07" not in made


def test_what_was_not_measured_is_a_dash() -> None:
    rows = [row_of(round_of(cpu_us=None)), row_of(round_of(), version="1.2")]
    (line,) = [
        line for line in text(report(result_of(*rows)), printable).splitlines() if line.startswith("TLS 1.3, full")
    ]
    assert "–" in line
