"""Pictures: files that are what they say, and SVG that can stand in a page."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from proxy.lab.difference import difference
from proxy.lab.drawing import HUES, Width
from proxy.lab.figure import Figure, Shape
from proxy.lab.figures import figures
from proxy.lab.plots import VARIABLES, inline, save
from proxy.lab.results import Kind
from tests.lab.documents import result_of, round_of, row_of
from tests.lab.samples import handshakes

BEFORE, AFTER = handshakes(1, rtts_s=(0.0, 0.02)), handshakes(2, slower=1.2, rtts_s=(0.0, 0.02))
BY_SHAPE: dict[Shape, Figure] = {figure.shape: figure for figure in figures(AFTER, difference(BEFORE, AFTER))}


def test_every_shape_is_drawn() -> None:
    assert set(BY_SHAPE) == set(Shape)


def test_a_figure_is_saved_as_png_and_svg(tmp_path: Path) -> None:
    paths = save(BY_SHAPE[Shape.BARS], tmp_path)
    assert [path.name for path in paths] == ["handshakes_per_s.png", "handshakes_per_s.svg"]
    assert paths[0].read_bytes().startswith(b"\x89PNG")
    assert ElementTree.fromstring(paths[1].read_text()).tag.endswith("svg")


@pytest.mark.parametrize("shape", Shape)
@pytest.mark.parametrize("width", Width)
def test_an_inline_picture_obeys_the_page(shape: Shape, width: Width) -> None:
    picture = inline(BY_SHAPE[shape], width)
    root = ElementTree.fromstring(picture.replace("xlink:href", "href"))
    assert (root.tag, root.attrib["aria-hidden"], root.attrib["class"]) == ("svg", "true", width.name.lower())
    assert not re.search(r"https?:|<!--|<metadata|<script|<style>[^<]*@import", picture)
    assert not [colour for colour in VARIABLES if colour in picture]
    assert "var(--ink)" in picture
    ids = re.findall(r'\bid="([^"]*)"', picture)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(|href=")#([^")]*)', picture)) <= set(ids)


def test_two_pictures_of_a_page_share_no_id() -> None:
    ids = [re.findall(r'\bid="([^"]*)"', inline(figure, width)) for figure in BY_SHAPE.values() for width in Width]
    flat = [name for names in ids for name in names]
    assert len(flat) == len(set(flat))


def test_a_label_is_neither_markup_nor_mathematics() -> None:
    rows = [row_of(round_of(), round_of(), side=side) for side in ("</svg><script>alert(1)</script>", "$\\frac{1}{2}$")]
    figure = next(iter(figures(result_of(*rows, kind=Kind.COMPARE))))
    picture = inline(figure, Width.WIDE)
    assert "<script" not in picture
    assert "$\\frac{1}{2}$" in picture


def test_a_label_of_any_letters_is_drawn(tmp_path: Path) -> None:
    rows = [row_of(round_of(), side=side) for side in ("代理\x07\x00\x1b[31m\n", "sidecar")]
    figure = next(iter(figures(result_of(*rows, kind=Kind.COMPARE))))
    save(figure, tmp_path)
    picture = inline(figure, Width.NARROW)
    assert "代理" in picture
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", picture)


def test_a_picture_in_a_page_is_drawn_to_a_hundredth_of_a_point_and_no_finer() -> None:
    picture = inline(BY_SHAPE[Shape.DISTRIBUTION], Width.WIDE)
    assert re.findall(r"\d\.\d{3,}", picture) == []
    assert re.search(r"L \d+\.\d\d? ", picture)
    assert "\n" not in picture


def test_a_label_keeps_its_digits() -> None:
    figure = next(iter(figures(result_of(row_of(round_of(), side='a  b d="1.23456"\n'), row_of(side="c")))))
    assert 'a  b d="1.23456"' in inline(figure, Width.WIDE)


def test_the_same_figure_is_drawn_alike() -> None:
    assert inline(BY_SHAPE[Shape.GAP], Width.WIDE) == inline(BY_SHAPE[Shape.GAP], Width.WIDE)


def test_every_hue_has_its_variable() -> None:
    assert [VARIABLES[hue] for hue in HUES] == [f"--hue{number}" for number in range(len(HUES))]
