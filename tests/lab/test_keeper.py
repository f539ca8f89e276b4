"""Who ends the servers of a run that was killed, and removes its folder."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.lab import keeper
from proxy.lab.keeper import Keeper, keep, uninterrupted

Start = Callable[[str], "subprocess.Popen[bytes]"]
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); signal.pause()"
WAITING = "import signal; print(flush=True); signal.pause()"


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a program in a group of its own that has said that it runs."""
    running: list[subprocess.Popen[bytes]] = []

    def one(code: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, process_group=0)
        running.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        return process

    yield one
    for process in running:
        process.kill()
        process.communicate()


def test_what_was_noted_is_ended_and_the_folder_removed(start: Start) -> None:
    kept, removed = start(WAITING), list[int | None]()
    keep([b"+%d\n" % kept.pid], lambda: removed.append(kept.poll()))
    assert removed == [-signal.SIGTERM]  # first the process, which may still write there


def test_who_does_not_listen_is_killed(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "_PATIENCE_S", 0.1)
    deaf = start(DEAF)
    keep([b"+%d\n" % deaf.pid], lambda: None)
    assert deaf.wait(10) == -signal.SIGKILL


def test_what_was_forgotten_or_has_ended_is_left_alone(start: Start) -> None:
    forgotten, ended, removed = start(WAITING), start("print(flush=True)"), list[bool]()
    ended.wait(10)
    lines = [b"+%d\n" % forgotten.pid, b"+%d\n" % ended.pid, b"-%d\n" % forgotten.pid, b"-1\n"]
    keep(lines, lambda: removed.append(True))
    assert forgotten.poll() is None
    assert removed == [True]


def test_when_all_is_done_nothing_is_touched(start: Start) -> None:
    running, removed = start(WAITING), list[bool]()
    keep([b"+%d\n" % running.pid, b"done\n"], lambda: removed.append(True))
    assert (running.poll(), removed) == (None, [])


def test_a_keeper_that_is_closed_removes_nothing(tmp_path: Path) -> None:
    (tmp_path / "kept").touch()
    Keeper(tmp_path).close()
    assert (tmp_path / "kept").exists()


def test_a_keeper_of_no_folder_ends_what_was_noted(start: Start) -> None:
    kept = start(WAITING)
    one = Keeper(None)
    one.note(kept.pid)
    assert one._process.stdin is not None
    one._process.stdin.close()  # as the kernel does where this process is killed
    assert (kept.wait(10), one._process.wait(10)) == (-signal.SIGTERM, 0)


def test_a_run_goes_on_without_its_keeper(tmp_path: Path) -> None:
    one = Keeper(tmp_path)
    one._process.kill()
    one._process.wait(10)
    one.note(1)
    one.forget(1)
    one.close()


def test_what_interrupts_waits_for_the_end_of_the_block() -> None:
    reached = list[bool]()

    def interrupted() -> None:
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            reached.append(True)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert reached


def test_what_is_started_under_nohup_still_outlives_the_terminal() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with uninterrupted():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
