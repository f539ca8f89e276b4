"""`mtls-sidecar demo`: it exits 0 because all of it held, and 1 with what differed in a world that is broken."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from proxy.cli import demo_acts, demo_world
from proxy.cli.demo_refusals import REFUSALS
from proxy.cli.main import main
from proxy.lab.keeper import Keeper
from proxy.ops.ownmodule import package_command, package_environment
from tests.e2e.waiting import until
from tests.e2e.workers import is_gone

PATIENCE_S = 100.0


def test_help_says_what_the_exit_status_means(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--help"]) == 0
    assert "0 if every step held, 1 if not" in capsys.readouterr().out


@pytest.mark.slow
def test_the_whole_story_holds_and_its_files_can_be_kept(tmp_path: Path) -> None:
    kept = tmp_path / "story"
    done = subprocess.run(
        package_command("proxy", "demo", "--json", "--keep", str(kept)),
        env=package_environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.stderr == ""
    story = json.loads(done.stdout)
    assert [step for step in story["steps"] if not step["held"]] == []
    assert (done.returncode, story["held"], story["kept"]) == (0, True, str(kept))
    told = {step["claim"]: step["facts"].get("reason") for step in story["steps"]}
    assert {refusal.claim: str(refusal.reason) for refusal in REFUSALS}.items() <= told.items()
    assert [one["claim"].split(":")[0] for one in story["steps"] if one["act"].startswith("2.")] == [
        "TLS 1.3, full handshake",
        "TLS 1.3, resumed",
        "TLS 1.2, full handshake",
        "TLS 1.2, resumed",
    ]
    assert {"sidecar-b.yaml", "sidecar-b.log", "app-b.log"} <= {entry.name for entry in kept.iterdir()}


@pytest.mark.slow
def test_a_world_that_lets_everybody_in_is_not_shown_as_good(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo_world, "ALLOW", [f"spiffe://{demo_world.TRUST_DOMAIN}/**"])
    monkeypatch.setattr(demo_acts, "ROTATIONS", 1)
    monkeypatch.setattr(demo_acts, "ACTS", [act for act in demo_acts.ACTS if not act.title.startswith("3.")])
    assert main(["demo", "--json"]) == 1
    story = json.loads(capsys.readouterr().out)
    assert not story["held"]
    wrong = [step["claim"] for step in story["steps"] if not step["held"]]
    assert "a proven identity that is not in `allow` is refused" in wrong
    assert "an expired certificate is refused" not in wrong


def test_a_sidecar_that_does_not_start_ends_the_demo_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo_world.World, "_start", _failing_start)
    assert main(["demo"]) == 1
    text = capsys.readouterr().out
    assert "ended with status 3" in text
    assert "1 of 2 steps did not hold" in text


def _failing_start(world: demo_world.World, name: str, _argv: list[str], log: str) -> object:
    argv = [sys.executable, "-c", "raise SystemExit(3)"]
    process = demo_world.LoggedProcess(name, argv, world.folder / log)
    world._running.callback(process.kill)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_demo_with_all_its_children(tmp_path: Path, number: signal.Signals) -> None:
    status, stderr, children = stopped_in_mid_story(tmp_path, number)
    assert (status, stderr) == (130, "")
    assert [child for child in children if not is_gone(child)] == []
    assert list(tmp_path.iterdir()) == []


def test_a_demo_that_is_killed_leaves_no_child_and_no_key_behind(tmp_path: Path) -> None:
    status, _, children = stopped_in_mid_story(tmp_path, signal.SIGKILL)
    assert status == -signal.SIGKILL
    until(lambda: all(is_gone(child) for child in children), "its children have ended")
    assert list(tmp_path.iterdir()) == []


def test_a_child_that_is_being_started_when_ctrl_c_comes_ends_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def start(*args: Any, **kwargs: Any) -> "subprocess.Popen[bytes]":
        started.append(popen(*args, **kwargs))
        if len(started) > 1:  # the keeper is the first
            signal.raise_signal(signal.SIGINT)
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    with contextlib.closing(Keeper(tmp_path)) as keeper:
        world = demo_world.World(tmp_path, keeper)
        with pytest.raises(KeyboardInterrupt):
            world.start_app()
        world.close()
    assert [process.returncode for process in started] == [0, -signal.SIGKILL]


def stopped_in_mid_story(folder: Path, number: signal.Signals) -> tuple[int, str, list[int]]:
    """Send a signal to a demo that has its files in the folder. Returns: status, stderr, and what children it had."""
    process = subprocess.Popen(
        package_command("proxy", "demo"),
        env=package_environment() | {"TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if "sidecar B is ready" in line:
                break
        children = _children(process.pid)
        assert len(children) >= 3  # the keeper, app B and its sidecar
        process.send_signal(number)
        _, stderr = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.wait()
    return process.returncode, stderr, children


def _children(parent: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def test_a_folder_that_holds_something_is_not_written_into(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").touch()
    assert main(["demo", "--keep", str(tmp_path)]) == 1
    assert "not empty" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["mine"]
