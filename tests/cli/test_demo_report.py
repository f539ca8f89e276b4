"""The steps of the demo as a person and as a program read them."""

import io
import json

from proxy.cli.demo_report import Report


def written(encoding: str) -> tuple[Report, io.BytesIO]:
    raw = io.BytesIO()
    return Report(io.TextIOWrapper(raw, encoding=encoding, write_through=True)), raw


def test_marks_are_ascii_where_the_stream_is() -> None:
    for encoding, good, bad in (("utf-8", "✓", "✗"), ("ascii", "ok", "!!")):
        report, raw = written(encoding)
        report.show("it rains")
        report.show("it snows", False, differed="it hails")
        text = raw.getvalue().decode(encoding)
        assert f"  {good} it rains\n  {bad} it snows\n      but           it hails\n" in text


def test_a_step_that_differs_is_repeated_at_the_end() -> None:
    report, raw = written("utf-8")
    report.begin("1. Weather")
    report.show("it snows", False, differed="it hails")
    report.finish(None)
    assert "1 of 1 steps did not hold" in raw.getvalue().decode()
    assert raw.getvalue().decode().endswith("  ✗ it snows: it hails\n")
    assert not report.all_held


def test_a_report_without_steps_did_not_hold() -> None:
    assert not Report(io.StringIO()).all_held


def test_controls_in_what_a_log_says_reach_no_terminal() -> None:
    report, raw = written("utf-8")
    report.show("a name", facts={"detail": "\x1b[2J\u202e"})
    assert b"\x1b" not in raw.getvalue()
    assert "\u202e" not in raw.getvalue().decode()


def test_json_is_one_document() -> None:
    stream = io.StringIO()
    report = Report(stream, as_json=True)
    report.begin("1. Weather")
    report.say("quiet")
    report.show("it rains", facts={"seen": "wet"})
    report.finish("/kept")
    story = json.loads(stream.getvalue())
    step = {"act": "1. Weather", "claim": "it rains", "held": True, "differed": "", "facts": {"seen": "wet"}}
    assert (story["held"], story["kept"], story["steps"]) == (True, "/kept", [step])
