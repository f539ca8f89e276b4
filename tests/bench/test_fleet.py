"""The processes of a run end with it, also where it is killed."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from bench import fleet
from proxy.lab.keeper import Keeper
from tests.e2e.waiting import until
from tests.e2e.workers import is_gone

ROOT = Path(__file__).resolve().parents[2]


def test_a_run_that_is_killed_leaves_no_process_and_no_key_behind(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "bench", "quick", "--sides", "product", "--no-memory"]
    with subprocess.Popen(argv, cwd=ROOT, env=os.environ | {"TMPDIR": str(tmp_path)}) as run:
        until(
            lambda: any(log.stat().st_size for log in tmp_path.glob("*/*-product.log")), "the sidecar says that it runs"
        )
        children = [child.pid for child in psutil.Process(run.pid).children()]
        run.kill()
    assert run.returncode == -signal.SIGKILL
    assert len(children) >= 3  # the keeper, the app and its sidecar; the client, too
    until(lambda: all(is_gone(child) for child in children), "its children have ended")
    assert list(tmp_path.iterdir()) == []


def test_an_app_that_does_not_start_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dying = [sys.executable, "-c", "raise SystemExit('there is no such module')"]
    monkeypatch.setattr(fleet, "package_command", lambda *_: dying)
    with (
        contextlib.closing(Keeper(None)) as keeper,
        pytest.raises(SystemExit, match="the app did not start: there is no such module"),
        fleet.Fleet(tmp_path, keeper, apps=1),
    ):
        pass
