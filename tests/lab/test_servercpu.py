"""The CPU of a server: its tree, its cgroup, or a sentence."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from proxy.lab.generator import LoadFault
from proxy.lab.servercpu import CgroupCpu, ProcessCpu, Waiting, settled_s

_BURN = """
import subprocess, sys, time
def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end: pass
if sys.argv[1] == "parent":
    argv = [sys.executable, "-c", sys.argv[2], "child", ""]
    child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child.stdout.readline()
    burn(0.05)
else:
    burn(0.05)
print("burnt", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def burner() -> Iterator[int]:
    """A process with a child, each of which has used 50 ms of CPU and now waits."""
    argv = [sys.executable, "-c", _BURN, "parent", _BURN]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"burnt\n"
        yield process.pid
        assert process.stdin is not None
        process.stdin.close()


def test_the_whole_tree_counts(burner: int) -> None:
    used_s = settled_s(ProcessCpu([burner]))
    (child,) = psutil.Process(burner).children()
    assert settled_s(ProcessCpu([child.pid])) >= 0.05
    assert used_s >= 0.1
    assert used_s == pytest.approx(settled_s(ProcessCpu([burner])), abs=0.02)  # who waits uses none


def test_how_long_a_server_waited_for_a_core_is_a_share(burner: int) -> None:
    server = ProcessCpu([burner])
    waited_s = server.waited_s()
    assert waited_s is None or waited_s >= 0
    share = Waiting([server, server, None]).share()
    assert share is None or 0 <= share <= 1
    assert Waiting([None]).share() is None


def test_a_process_that_is_not_there_is_said_with_what_to_try() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    with pytest.raises(LoadFault) as fault:
        ProcessCpu([process.pid])
    assert f"there is no process {process.pid} to be seen here" in str(fault.value)
    assert "--cgroup" in str(fault.value)


@pytest.mark.parametrize("where", ["psutil", "proc"])
def test_a_process_that_may_not_be_read_is_said_with_what_to_try(
    burner: int, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def denied(*_: object, **__: object) -> str:
        raise psutil.AccessDenied if where == "psutil" else PermissionError

    if where == "psutil":
        monkeypatch.setattr(psutil.Process, "children", denied)
    else:
        monkeypatch.setattr(time, "clock_gettime", lambda _: os.stat("/nonexistent"))  # as in a sandbox's kernel
        monkeypatch.setattr(Path, "read_text", denied)
    with pytest.raises(LoadFault) as fault:
        ProcessCpu([burner])
    assert f"no permission to read the CPU time of process {burner}: run as its user or as root" in str(fault.value)


def test_a_cgroup_of_either_version_is_read(tmp_path: Path) -> None:
    (tmp_path / "cpu.stat").write_text("usage_usec 1500000\nuser_usec 1000000\n")
    assert CgroupCpu(str(tmp_path)).used_s() == 1.5
    old = tmp_path / "old"
    old.mkdir()
    (old / "cpu.stat").write_text("nr_periods 0\n")
    (old / "cpuacct.usage").write_text("2500000000\n")
    assert CgroupCpu(str(old)).used_s() == 2.5


def test_a_cgroup_that_counts_nothing_is_said_with_what_to_type(tmp_path: Path) -> None:
    for path in (str(tmp_path), "no/such/group"):
        with pytest.raises(LoadFault, match="cat /proc/PID/cgroup"):
            CgroupCpu(path)
