"""The result document: round trips, and a sentence for everything that is none."""

import contextlib
import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.lab.results import MOST_BYTES, BadResult, decode, encode, read, try_place, write
from tests.lab.documents import REJECTED_ONCE, result_of, round_of, row_of

RESULT = result_of(row_of(round_of(failures=REJECTED_ONCE), round_of(cpu_us=None)), row_of(version="1.2", rate=100.0))
TEXT = encode(RESULT)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write(str(path), RESULT)
    assert read(str(path)) == RESULT
    assert list(tmp_path.iterdir()) == [path]  # nothing is left beside it


def test_a_device_stays_one(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write(str(pipe), RESULT)
        assert os.read(reader, len(TEXT) + 1) == encode(RESULT)
        assert pipe.is_fifo()
    finally:
        os.close(reader)


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    link = tmp_path / "latest.json"
    link.symlink_to(tmp_path / "result.json")
    write(str(link), RESULT)
    assert link.is_symlink()
    assert read(str(tmp_path / "result.json")) == RESULT


@pytest.mark.parametrize("path", ["", "/", "/nowhere/result.json", "/dev/null/result.json"])
def test_a_place_that_takes_no_file_is_an_oserror(path: str) -> None:
    with pytest.raises(OSError, match="directory"):
        write(path, RESULT)
    with pytest.raises(OSError, match="directory"):
        try_place(path)


@pytest.mark.parametrize("name", ["new.json", "old.json"])
def test_a_place_is_tried_without_a_trace(tmp_path: Path, name: str) -> None:
    (tmp_path / "old.json").write_bytes(TEXT)
    try_place(str(tmp_path / name))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"old.json": TEXT}


def test_unknown_is_null_and_not_zero() -> None:
    assert b'"server_cpu_s": null' in TEXT


def test_every_prefix_is_refused_with_the_name() -> None:
    for length in range(0, len(TEXT.rstrip()), 7):
        with pytest.raises(BadResult, match=r"^a file is no result of"):
            decode(TEXT[:length], "a file")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"schema": 1', '"schema": 2', "has version 2 of the result format, and this mtls-sidecar reads version 1"),
        ("mtls-sidecar bench result", "other", "its format is 'other'"),
        ('"count": 100', '"count": 99', r"rows\[0\].rounds\[0\].latency holds 100 latencies of 99 successes"),
        ('"count": 100', '"count": -1', "Expected `int` >= 0"),
        ('"seconds": 1.0', '"seconds": 1e999', "out of range"),
        ('"count"', '"number"', "unknown field `number`"),
        ("UPSTREAM_REJECTED_US", "DOG_ATE_IT", "Invalid enum value 'DOG_ATE_IT'"),
        ('"version": "1.2"', '"version": "1.3"', "damaged"),
        ('"latency": "HIST', '"latency": "MIST', r"rows\[0\].rounds\[0\].latency: its? "),
    ],
)
def test_a_damaged_document_is_refused_with_what_and_where(old: str, new: str, sentence: str) -> None:
    damaged = TEXT.decode().replace(old, new, 1)
    assert damaged != TEXT.decode()
    damaged = damaged.replace('"rate": 100.0', '"rate": null')
    with pytest.raises(BadResult, match=sentence):
        decode(damaged.encode(), "a file")


def test_two_rows_of_one_scenario_are_refused() -> None:
    with pytest.raises(BadResult, match=r"the scenario of rows\[0\] is there twice"):
        encode(result_of(row_of(), row_of()))


def test_what_could_not_be_read_back_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(BadResult):
        write(str(tmp_path / "result.json"), result_of(row_of(round_of(seconds=-1.0))))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("other", [b"", b"[]", b"null", b"{}", b"[" * 100_000, b'{"format": 1}', b"\xff\xfe", b"---\n"])
def test_other_files_are_refused(other: bytes) -> None:
    with pytest.raises(BadResult, match="a file is no result of `mtls-sidecar bench --json`: "):
        decode(other, "a file")


@given(junk=st.binary(max_size=100), at=st.integers(0, len(TEXT)))
@settings(max_examples=150, deadline=None)
def test_noise_is_refused_or_read(junk: bytes, at: int) -> None:
    with contextlib.suppress(BadResult):  # and nothing else
        assert decode(TEXT[:at] + junk + TEXT[at:], "a file").format == RESULT.format


def test_a_file_without_end_is_refused() -> None:
    with pytest.raises(BadResult, match="/dev/zero is longer than 64 MiB"):
        read("/dev/zero")


def test_a_file_that_is_too_long_is_refused() -> None:
    with pytest.raises(BadResult, match="longer than 64 MiB"):
        decode(b" " * (MOST_BYTES + 1), "a file")


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadResult, match=r"none\.json cannot be read: No such file or directory"):
        read(str(tmp_path / "none.json"))


def test_the_scenario_is_told_apart_by_every_field() -> None:
    base = row_of().scenario
    other = {"side": "haproxy", "rtt_s": 0.02, "group": None, "client_certificate": False, "chain_length": 2}
    changed = {msgspec.structs.replace(base, **{field: value}) for field, value in other.items()}
    assert len(changed | {base}) == len(other) + 1
