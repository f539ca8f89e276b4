"""`bench merge` as a user types it."""

from pathlib import Path

import pytest

from proxy.cli.main import main
from proxy.lab.results import read, write
from tests.lab.documents import result_of, row_of


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    paths = [str(tmp_path / f"{number}.json") for number in range(3)]
    for path in paths:
        write(path, result_of(target="orders:15006"))
    return paths


def test_many_become_one(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "all.json")
    assert main(["bench", "merge", *files, "-o", out]) == 0
    assert capsys.readouterr().out == f"{out}: generators: 3, rows: 1, successes: 300, failures: 0\n"
    total = read(out)
    assert (total.rows[0].rounds[0].count, total.rows[0].scenario.concurrency) == (300, 24)


def test_a_folder_stands_for_its_files_and_not_for_the_sum(files: list[str], tmp_path: Path) -> None:
    out = str(tmp_path / "all.json")
    for _ in range(2):  # the second time the sum lies among them
        assert main(["bench", "merge", str(tmp_path), "--expect", "3", "-o", out]) == 0
        assert len(read(out).merged_from) == 3


def test_a_generator_that_is_missing_is_not_passed_over(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "merge", str(tmp_path), "--expect", "4", "-o", str(tmp_path / "all.json")]) == 2
    assert "4 generators are expected, and 3 are there" in capsys.readouterr().err


def test_an_empty_folder_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "merge", str(tmp_path), "-o", str(tmp_path / "all.json")]) == 2
    assert "there is no .json file to add up" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(None, "cannot be read: No such file"), (b"{}", "is no result of `mtls-sidecar bench"), ("other", "does not fit")],
)
def test_what_cannot_be_added_is_said(
    content: bytes | str | None, sentence: str, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "odd.json", tmp_path / "all.json"
    if content == "other":
        write(str(path), result_of(row_of(), target="payments:15006"))
    elif isinstance(content, bytes):
        path.write_bytes(content)
    assert main(["bench", "merge", *files, str(path), "-o", str(out)]) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith("mtls-sidecar bench merge: ")
    assert sentence in complaint
    assert not out.exists()


def test_a_sum_that_cannot_be_written_is_said(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "merge", *files, "-o", "/nowhere/all.json"]) == 1
    assert capsys.readouterr().err == (
        "mtls-sidecar bench merge: /nowhere/all.json cannot be written: No such file or directory\n"
    )
