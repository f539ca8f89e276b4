"""What a report draws, as data: the right figures, each with its words and its numbers."""

import msgspec
import pytest

from proxy.lab.difference import difference
from proxy.lab.figure import Shape
from proxy.lab.figures import MOST_BARS, figures
from proxy.lab.results import Result
from tests.lab.documents import result_of, round_of, row_of
from tests.lab.samples import handshakes, peers, rates, relay


def keys(result: Result) -> list[str]:
    return [figure.key for figure in figures(result)]


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (
            handshakes(),
            ["cpu_per_handshake", "handshakes_per_s", "full_and_resumed", "latency_handshake", "p50_handshake_by_rtt"],
        ),
        (peers(), ["cpu_per_handshake", "handshakes_per_s", "full_and_resumed", "latency_handshake"]),
        (rates(), ["cpu_per_handshake", "handshakes_per_s", "latency_handshake", "p99_handshake_by_rate"]),
        (
            relay(),
            [
                "cpu_per_request",
                "requests_per_s",
                "latency_request",
                "throughput_upload",
                "cpu_per_gb_upload",
                "throughput_download",
                "cpu_per_gb_download",
                "memory_per_connection",
            ],
        ),
        (result_of(msgspec.structs.replace(row_of(), rounds=(), fault="the target left")), []),
    ],
    ids=["handshakes", "peers", "rates", "relay", "nothing"],
)
def test_a_result_has_the_figures_of_what_was_measured(result: Result, expected: list[str]) -> None:
    assert keys(result) == expected


def test_figures_of_a_comparison_show_the_changes_first() -> None:
    before, after = handshakes(1, rtts_s=(0.0,)), handshakes(2, slower=1.2, rtts_s=(0.0,))
    first = figures(after, difference(before, after))[0]
    assert (first.key, first.shape) == ("change_handshakes_per_s", Shape.CHANGES)
    assert {series.hue for series in first.panels[0].series if not series.light} == {1}  # all of them for the worse


@pytest.mark.parametrize(
    "result", [handshakes(), peers(), relay(), rates()], ids=["handshakes", "peers", "relay", "rates"]
)
def test_every_figure_has_its_words_and_its_table(result: Result) -> None:
    for figure in figures(result):
        assert figure.alt
        assert figure.table
        assert all(len(row) == len(figure.headers) for row in figure.table)
        assert all(row[1] in figure.alt for row in figure.table[:12])
        assert sum(len(panel.series) for panel in figure.panels) <= len(figure.table) * 2


def test_versions_have_colours_and_resumed_handshakes_are_light() -> None:
    (figure,) = [one for one in figures(handshakes()) if one.key == "cpu_per_handshake"]
    assert [panel.title for panel in figure.panels] == ["ECDSA P-256", "RSA-2048"]
    looks = [(series.label, series.hue, series.light) for series in figure.panels[0].series]
    assert looks == [
        ("TLS 1.2 full", 0, False),
        ("TLS 1.2 resumed", 0, True),
        ("TLS 1.3 full", 1, False),
        ("TLS 1.3 resumed", 1, True),
    ]


def test_panels_of_one_row_each_are_one_panel() -> None:
    (figure,) = [one for one in figures(rates()) if one.key == "latency_handshake"]
    (panel,) = figure.panels
    assert [series.label for series in panel.series][:2] == ["200/s offered", "400/s offered"]


def test_a_distribution_rises_to_one() -> None:
    (figure,) = [one for one in figures(handshakes()) if one.shape is Shape.DISTRIBUTION]
    for panel in figure.panels:
        for series in panel.series:
            xs, shares = [x for x, _ in series.points], [point.value for _, point in series.points]
            assert (xs, shares, shares[-1]) == (sorted(xs), sorted(shares), 1.0)


def test_a_side_has_one_colour_in_all_figures() -> None:
    """Also where one of them has no figure of a measure, as nobody reads the CPU of a connection without a proxy."""
    rows = [row_of(round_of(cpu_us=None), side="direct"), row_of(side="sidecar"), row_of(side="haproxy")]
    for figure in figures(result_of(*rows)):
        hues = {series.label: series.hue for panel in figure.panels for series in panel.series}
        assert hues | {"direct": 0, "sidecar": 1, "haproxy": 2} == {"direct": 0, "sidecar": 1, "haproxy": 2}


def test_a_matrix_of_many_rows_is_cut_and_not_a_picture_without_end() -> None:
    rows = [row_of(round_of(), version="1.3", concurrency=number) for number in range(1, 100)]
    for figure in figures(result_of(*rows)):
        drawn = sum(len(panel.series) for panel in figure.panels)
        assert drawn <= MOST_BARS
        assert figure.left_out == len(rows) - drawn  # the table has them all
        assert figure.alt.endswith("; and 87 more, in the table")
