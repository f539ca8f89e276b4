"""A path from a person is read to its end, bounded in bytes and in time, whatever it leads to."""

import os
import threading
from pathlib import Path

import pytest

from proxy.cli.main import main
from proxy.ops.boundedread import read_bounded
from tests.configtexts import GOOD

SHORT_S = 0.05


@pytest.fixture
def fifo(tmp_path: Path) -> str:
    os.mkfifo(tmp_path / "fifo")
    return str(tmp_path / "fifo")


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 500])
def test_a_file_is_read_with_one_byte_more_than_it_may_have(tmp_path: Path, size: int) -> None:
    (tmp_path / "file").write_bytes(b"x" * size)
    assert read_bounded(str(tmp_path / "file"), 10) == b"x" * min(size, 11)


def test_what_has_no_end_is_cut() -> None:
    assert read_bounded("/dev/zero", 1 << 16) == bytes((1 << 16) + 1)


def test_a_fifo_into_which_nobody_writes_is_a_sentence(fifo: str) -> None:
    with pytest.raises(OSError, match=r"no regular file, and nothing wrote it to its end in 0\.05 s"):
        read_bounded(fifo, 10, patience_s=SHORT_S)


def test_with_no_patience_a_fifo_is_a_sentence_at_once(fifo: str) -> None:
    with pytest.raises(OSError, match="no regular file, and it is not waited for here"):
        read_bounded(fifo, 10, patience_s=0)


def test_a_silent_writer_is_not_waited_for_without_end(fifo: str) -> None:
    holder = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    try:
        os.write(holder, b"some")
        with pytest.raises(OSError, match="nothing wrote it to its end"):
            read_bounded(fifo, 10, patience_s=SHORT_S)
    finally:
        os.close(holder)


def test_a_pipe_is_read_in_all_its_pieces() -> None:
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as stream:
            stream.write(b"x" * 200_000)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert read_bounded(f"/dev/fd/{reading}", 1 << 20) == b"x" * 200_000
    finally:
        os.close(reading)
        writer.join()


def test_the_commands_do_not_hang_on_a_fifo(
    fifo: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(read_bounded.__kwdefaults__, "patience_s", SHORT_S)
    assert main(["validate", "--config", fifo]) == 2
    assert main(["certs", "show", fifo]) == 2
    assert main(["certs", "check-expiration", fifo]) == 2
    said = capsys.readouterr()
    assert (said.out + said.err).count("it is no regular file, and nothing wrote it to its end") == 3


def test_a_configuration_from_a_process_substitution_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    reading, writing = os.pipe()
    os.write(writing, (GOOD + "x: 1\n").encode())
    os.close(writing)
    try:
        assert main(["validate", "--config", f"/dev/fd/{reading}"]) == 2
    finally:
        os.close(reading)
    assert f"/dev/fd/{reading}:7: x: unknown key" in capsys.readouterr().out
