"""What can be told of how a Python was built, and what cannot."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from proxy.lab.pythonbuild import is_optimised, is_shared, python_build

DEBIAN, UBUNTU, FEDORA = {"ID": "debian"}, {"ID": "ubuntu", "ID_LIKE": "debian"}, {"ID": "fedora"}
ITS_OWN = "'--prefix=/usr' '--enable-shared' 'CFLAGS=-g -O2'"
BY_HAND = "'--prefix=/opt/python' 'LDFLAGS=-L/opt/--enable-optimizations'"


@pytest.mark.parametrize(
    ("told", "prefix", "system", "machine", "optimised"),
    [
        ("'--enable-optimizations' '--with-lto'", "/usr/local", DEBIAN, "x86_64", True),
        ("--enable-optimizations=yes", "/usr", FEDORA, "s390x", True),
        ("'--enable-optimizations=no'", "/usr/local", DEBIAN, "x86_64", False),
        ("--enable-optimizations --disable-optimizations", "/opt", {}, "x86_64", False),
        (BY_HAND, "/opt/python", DEBIAN, "x86_64", False),
        (ITS_OWN, "/usr", DEBIAN, "x86_64", True),
        (ITS_OWN, "/usr", UBUNTU, "aarch64", True),
        (ITS_OWN, "/usr", DEBIAN, "riscv64", None),
        (ITS_OWN, "/usr", FEDORA, "x86_64", None),
        (ITS_OWN, "/usr", {}, "x86_64", None),
        ("'unfinished", "/opt", {}, "x86_64", None),
        ("", "/opt", {}, "x86_64", None),
        (None, "/usr", DEBIAN, "x86_64", None),
    ],
)
def test_what_configure_was_told_decides_and_else_who_made_the_package(
    told: str | None, prefix: str, system: Mapping[str, str], machine: str, optimised: bool | None
) -> None:
    assert is_optimised(told, prefix, system, machine) is optimised


def test_a_shared_library_is_seen_among_those_of_the_process(tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    assert is_shared(maps) is None
    maps.write_text("7f00-7f01 r-xp 00000000 fe:00 1  /usr/bin/python3.11\n")
    assert is_shared(maps) is False
    maps.write_text("7f00-7f01 r-xp 00000000 fe:00 1  /usr/local/lib/libpython3.12.so.1.0\n")
    assert is_shared(maps) is True


@pytest.mark.needs("ldd")
def test_this_python_is_what_its_program_is_linked_with() -> None:
    linked = subprocess.run(["ldd", sys.executable], capture_output=True, text=True, check=True).stdout
    assert python_build().shared is ("libpython" in linked)
