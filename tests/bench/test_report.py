"""The tables and the JSON of a run, from numbers made by hand."""

import json

from bench import report
from bench.measures import targets

BOUNDS = targets((3, 0))
NUMBERS = {
    "full_1_3": {"bare": [800.0, 810.0, 790.0], "ordinary": [1_600.0], "product": [880.0], "bare_no_tickets": [704.0]},
    "requests": {"bare": [20.0], "product": [30.0], "outbound": [25.0]},
    "idle_mib": {"product": [31.25]},
}


def cells(table, title):
    return next(line.split() for line in table.splitlines() if line.strip().startswith(title))


def test_the_inbound_row_holds_figures_ratios_targets_and_the_verdict():
    table = report.inbound_table(NUMBERS, BOUNDS)
    wanted = [
        "us/conn",
        "800",
        "1600",
        "880",
        "1.10x",
        "0.55x",
        "0%",
        "<=",
        "1.2x",
        "bare,",
        "<=",
        "0.65x",
        "ordinary",
        "PASS",
    ]
    assert cells(table, "full handshake TLS 1.3")[4:] == wanted
    assert cells(table, "... without tickets")[-2:] == ["704", "1.25x"]


def test_a_missed_target_says_miss():
    assert cells(report.inbound_table(NUMBERS, BOUNDS), "1 KiB")[-1] == "MISS"


def test_a_side_that_was_not_measured_leaves_its_cells_empty():
    assert cells(report.inbound_table({}, BOUNDS), "bulk client")[-1] == "-"
    assert cells(report.other_paths_table(NUMBERS), "1 KiB")[-3:] == ["20.0", "25.0", "1.25x"]


def test_memory_is_judged_against_absolute_bounds():
    assert cells(report.memory_table(NUMBERS, BOUNDS), "idle PSS")[3:] == ["31.2", "<=", "45", "PASS"]


def test_check_fails_on_misses_on_missing_figures_and_on_failed_rows():
    faults = report.missed(NUMBERS, BOUNDS, {("upload", "product"): "it ended early"})
    assert "upload of product was not measured" in faults
    assert "requests: missed by more than 15 %" in faults
    assert "start_s: no figure" in faults
    assert not [fault for fault in faults if fault.startswith(("full_1_3", "idle_mib"))]


def test_the_document_is_json_and_keeps_every_round():
    document = json.loads(json.dumps(report.document(NUMBERS, {("start", "product"): "why"}, BOUNDS, {"seed": 7})))
    assert document["seed"] == 7
    assert document["rows"][0]["rounds"]["bare"] == [800.0, 810.0, 790.0]
    assert document["rows"][0]["verdict"] == "PASS"
    assert document["not_measured"] == [{"measure": "start", "side": "product", "why": "why"}]
