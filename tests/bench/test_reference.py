"""What stands in the overview of kept results."""

from pathlib import Path

import msgspec

from bench.reference import COMMAND, write_overview
from proxy.lab.results import Kind, write
from tests.lab.documents import ENVIRONMENT, result_of, row_of


def overview(folder: Path) -> str:
    return write_overview(folder, {"handshake": "what one costs", "rtt": "", "relay": ""}).read_text()


def test_the_overview_has_what_is_there_in_the_order_of_the_scenarios(tmp_path: Path) -> None:
    write(str(tmp_path / "relay.json"), result_of(kind=Kind.RELAY, started_at="2026-11-24T13:00:00Z"))
    write(str(tmp_path / "handshake.json"), result_of())
    rows = [line for line in overview(tmp_path).splitlines() if line.startswith("| ")][1:]
    assert rows == [
        "| handshake | 2026-11-24T12:00:00Z | [handshake.md](handshake.md) | [handshake.html](handshake.html) | "
        "[handshake.json](handshake.json) |",
        "| relay | 2026-11-24T13:00:00Z | [relay.md](relay.md) | [relay.html](relay.html) | [relay.json](relay.json) |",
    ]


def test_the_overview_says_where_and_what_to_type(tmp_path: Path) -> None:
    write(str(tmp_path / "handshake.json"), result_of())
    write(
        str(tmp_path / "rtt.json"),
        result_of(environment=msgspec.structs.replace(ENVIRONMENT, kernel="Linux 6.12.0"), command="mtls-sidecar b"),
    )
    lines = overview(tmp_path).splitlines()
    assert f"    {COMMAND}" in lines
    assert "## handshake: what one costs" in lines
    assert "- machine: AMD EPYC 7B13, 2 CPUs, x86_64" in lines
    assert "- kernel: Linux 6.1.0 (handshake); Linux 6.12.0 (rtt)" in lines
    assert "    mtls-sidecar b" in lines


def test_what_makes_figures_worth_less_is_never_left_out(tmp_path: Path) -> None:
    row = msgspec.structs.replace(row_of(), fault="it broke")
    said = tuple(f"{number} is a note." for number in range(5))
    write(
        str(tmp_path / "handshake.json"),
        result_of(row, row_of(version="1.2"), notes=(*said, "This machine had other work: x.")),
    )
    text = overview(tmp_path)
    assert "- Not whole: TLS 1.3, full: it broke." in text
    assert "- This machine had other work: x." in text
    assert "- 4 is a note." not in text


def test_the_yardsticks_are_named_where_they_are(tmp_path: Path) -> None:
    assert "python -m bench full" not in overview(tmp_path)
    (tmp_path / "reference.json").write_text("{}")
    assert "python -m bench full" in overview(tmp_path)
