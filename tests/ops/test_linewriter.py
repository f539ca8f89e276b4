"""Whole lines, none waited for."""

import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.ops import linewriter
from proxy.ops.linewriter import LineWriter


def notice(lines: int) -> bytes:
    return b"lost %d\n" % lines


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for end in (reader, writer):
        try:
            os.close(end)
        except OSError:
            pass


def read_all(descriptor: int) -> bytes:
    os.set_blocking(descriptor, False)
    data = b""
    try:
        while part := os.read(descriptor, 1 << 20):
            data += part
    except BlockingIOError:
        pass
    return data


def test_a_line_reaches_a_pipe_whole(pipe: tuple[int, int]) -> None:
    writer = LineWriter(pipe[1], notice)
    writer.write(b"one\n")
    assert read_all(pipe[0]) == b"one\n"
    writer.close()


def test_the_inherited_descriptor_stays_blocking(pipe: tuple[int, int]) -> None:
    writer = LineWriter(pipe[1], notice)
    assert not fcntl.fcntl(pipe[1], fcntl.F_GETFL) & os.O_NONBLOCK
    writer.close()


@pytest.mark.parametrize("reopened", [True, False], ids=["reopened", "polled"])
def test_a_stalled_pipe_drops_lines_counts_them_and_says_so_later(
    pipe: tuple[int, int], reopened: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not reopened:
        # As where the pipe belongs to another user: it cannot be opened anew.
        def refuse(*_: object) -> int:
            raise PermissionError

        monkeypatch.setattr(linewriter.os, "open", refuse)
    writer = LineWriter(pipe[1], notice)
    line = b"x" * 1023 + b"\n"
    while not writer.dropped:
        writer.write(line)
    writer.write(line)
    assert writer.dropped == 2
    assert set(read_all(pipe[0]).splitlines(keepends=True)) == {line}
    writer.write(b"after\n")
    writer.write(b"later\n")
    assert read_all(pipe[0]) == b"lost 2\nafter\nlater\n"
    writer.close()


def test_a_long_line_taken_in_part_is_finished_before_the_next(pipe: tuple[int, int]) -> None:
    writer = LineWriter(pipe[1], notice)
    long = b"y" * 200_000 + b"\n"  # more than a pipe holds
    writer.write(long)
    writer.write(b"lost\n")
    assert writer.dropped == 1
    data = b""
    while not data.endswith(b"\n"):
        data += read_all(pipe[0])
        writer.write(b"z\n")
    assert data.startswith(long)
    assert data[len(long) :].startswith(b"lost ")
    writer.close()


def test_a_reader_that_went_away_is_no_error(pipe: tuple[int, int]) -> None:
    writer = LineWriter(pipe[1], notice)
    os.close(pipe[0])
    writer.write(b"one\n")
    assert writer.dropped == 1
    writer.close()


def test_a_line_after_close_counts_as_dropped(pipe: tuple[int, int]) -> None:
    writer = LineWriter(pipe[1], notice)
    writer.close()
    writer.write(b"one\n")
    assert writer.dropped == 1


def test_a_file_is_appended_to_at_its_own_position(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb", buffering=0) as file:
        file.write(b"before\n")
        writer = LineWriter(file.fileno(), notice)
        writer.write(b"one\n")
        file.write(b"after\n")
        writer.close()
    assert (tmp_path / "log").read_bytes() == b"before\none\nafter\n"


def test_a_socket_as_journald_gives_it_is_never_waited_for() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        writer = LineWriter(ours.fileno(), notice)
        writer.write(b"one\n")
        assert theirs.recv(100) == b"one\n"
        while not writer.dropped:
            writer.write(b"x" * 4095 + b"\n")
        assert ours.getblocking()
        writer.close()
