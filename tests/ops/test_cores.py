"""`workers: auto` is as many as may really run at the same time."""

import os
from pathlib import Path

import pytest

from proxy.ops.cores import usable_cores


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)), raising=False)


@pytest.mark.parametrize(
    ("cpu_max", "cores"),
    [
        ("max 100000\n", 8),
        ("50000 100000\n", 1),
        ("100000 100000\n", 1),
        ("150000 100000\n", 2),
        ("1600000 100000\n", 8),
        ("", 8),
        ("what is this", 8),
        ("1 0", 8),
    ],
)
def test_a_quota_counts_and_is_rounded_up(tmp_path: Path, cpu_max: str, cores: int) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(cpu_max)
    assert usable_cores(str(file)) == cores


def test_without_a_cgroup_the_cores_count(tmp_path: Path) -> None:
    assert usable_cores(str(tmp_path / "none")) == 8
