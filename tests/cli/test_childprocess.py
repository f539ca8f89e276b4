"""Children: their log as data, their deadlines, and their certain end."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.cli.childprocess import LoggedProcess, NotShown
from proxy.ops.ownmodule import package_command, package_environment

TALKS = """
import json, sys, time
print("no json", file=sys.stderr)
for n in (1, 2):
    print(json.dumps({"event": "number", "n": n}), file=sys.stderr, flush=True)
time.sleep(600)
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], LoggedProcess]]:
    running: list[LoggedProcess] = []

    def begin(program: str) -> LoggedProcess:
        running.append(LoggedProcess("child", [sys.executable, "-c", program], tmp_path / "child.log"))
        return running[-1]

    yield begin
    for process in running:
        process.kill()


def test_lines_are_data_and_kept_in_the_file(start: Callable[[str], LoggedProcess], tmp_path: Path) -> None:
    child = start(TALKS)
    assert child.line(lambda line: line.get("n") == 2, "2") == {"event": "number", "n": 2}
    assert [line["n"] for line in child.lines("number")] == [1, 2]
    assert child.unreadable == ["no json"]
    assert (tmp_path / "child.log").read_text().count("\n") == 3


def test_a_line_is_looked_for_from_the_mark_on(start: Callable[[str], LoggedProcess]) -> None:
    child = start(TALKS)
    child.line(lambda line: line.get("n") == 2, "2")
    with pytest.raises(NotShown, match=r"child did not log 1 within 0\.01 s"):
        child.line(lambda line: line.get("n") == 1, "1", since=child.mark, within_s=0.01)


def test_a_child_that_ends_is_not_waited_for(start: Callable[[str], LoggedProcess]) -> None:
    child = start("import sys; print('sorry', file=sys.stderr); sys.exit(7)")
    with pytest.raises(NotShown, match="did not log it: it ended with status 7; it said: sorry"):
        child.line(lambda _line: False, "it", within_s=600)


def test_a_child_that_minds_no_signal_is_killed(start: Callable[[str], LoggedProcess]) -> None:
    child = start(f"import signal; signal.signal({int(signal.SIGTERM)}, signal.SIG_IGN)\n{TALKS}")
    child.line(lambda line: line.get("n") == 2, "2")
    assert child.terminate(within_s=0.05) is None
    assert child.process.returncode == -signal.SIGKILL


def test_a_folder_named_as_we_are_is_not_taken_for_us(tmp_path: Path) -> None:
    (tmp_path / "proxy").mkdir()
    (tmp_path / "proxy" / "__main__.py").write_text("raise SystemExit('the wrong one')")
    done = subprocess.run(
        package_command("proxy", "--version"),
        cwd=tmp_path,
        env=package_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout.split()[0]) == (0, "mtls-sidecar")
