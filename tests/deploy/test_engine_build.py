"""How `make engine` ends on a machine where something is missing: with a sentence that says what, and no traceback."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.deploy.dockerfile import REPOSITORY

SCRIPT = REPOSITORY / "engine" / "boringssl.py"


@pytest.fixture
def boringssl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """engine/boringssl.py, with a build folder of its own; it stands in no package."""
    monkeypatch.setenv("MTLS_SIDECAR_ENGINE_BUILD", str(tmp_path / "build"))
    spec = importlib.util.spec_from_file_location("engine_boringssl", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(folder: Path, *programs: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it on a machine that has these programs alone, each of which fails at whatever it is asked."""
    path = folder / "bin"
    path.mkdir()
    for name in programs:
        (path / name).write_text("#!/bin/sh\nexit 1\n")
        (path / name).chmod(0o755)
    words = {"PATH": str(path), "MTLS_SIDECAR_ENGINE_BUILD": str(folder / "build"), "PIP_NO_INDEX": "1"}
    words |= {name: value for name, value in os.environ.items() if name == "HOME"}
    done = subprocess.run(
        [sys.executable, SCRIPT], env=words | environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    return done


@pytest.mark.parametrize(
    ("programs", "environment", "missing"),
    [
        ((), {}, "a C++ compiler is missing."),
        (("g++", "ar"), {"CXX": "icpx"}, "CXX=icpx is missing."),
        (("clang++-14",), {}, "`ar`, of binutils, is missing."),
    ],
)
def test_a_machine_without_the_tools_is_told_which_and_how_to_get_them(
    programs: tuple[str, ...], environment: dict[str, str], missing: str, tmp_path: Path
) -> None:
    told = build(tmp_path, *programs, **environment).stderr
    assert told.startswith(f"mtls-sidecar: the BoringSSL engine cannot be built here: {missing}\n")
    assert "apt-get install clang g++ python3-dev" in told


def test_a_machine_without_the_static_library_is_told_before_anything_is_compiled(
    boringssl: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    compiler = tmp_path / "g++"
    compiler.write_text("#!/bin/sh\necho ${1#-print-file-name=}\n")  # what it says of a file that it does not find
    compiler.chmod(0o755)
    shutil.copy(compiler, tmp_path / "ar")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("CXX", str(compiler))
    with pytest.raises(boringssl.CannotBuild, match=r"libstdc\+\+\.a, for /.*/g\+\+ to link, is missing"):
        boringssl.find_compiler()


def test_a_machine_without_a_network_is_told_what_else_can_be_done(tmp_path: Path) -> None:
    told = build(tmp_path, "c++", "ar").stderr
    assert "mtls-sidecar: the source of BoringSSL cannot be fetched; pip's words stand above.\n" in told
    assert "`make engine-wheel` on another machine" in told


def test_what_asks_the_source_for_its_name_is_given_the_compiler_that_is_here(
    boringssl: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []

    def pip(command: list[str], *, env: dict[str, str], check: bool) -> subprocess.CompletedProcess[bytes]:
        asked.append(env["CXX"])
        (tmp_path / "grpcio-1.tar.gz").touch()
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", pip)
    assert boringssl._fetch(tmp_path, "/usr/bin/clang++-19").name == "grpcio-1.tar.gz"
    assert asked == ["/usr/bin/clang++-19"]


@pytest.mark.parametrize(
    ("plus", "plain"),
    [
        ("/usr/bin/clang++-19", "/usr/bin/clang-19"),
        ("x86_64-linux-gnu-g++-12 -m64", "x86_64-linux-gnu-gcc-12 -m64"),
        ("/opt/c++/bin/c++", "/opt/c++/bin/cc"),
        ("icpx", "icpx"),
    ],
)
def test_the_c_compiler_is_the_one_that_comes_with_the_other(boringssl: ModuleType, plus: str, plain: str) -> None:
    assert boringssl.c_compiler(plus) == plain


def test_a_compiler_that_fails_is_named_with_what_it_said(
    boringssl: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(boringssl, "_files", lambda _source: [f"{number}.cc" for number in range(300)])
    monkeypatch.setattr(boringssl, "_run", lambda command, _folder: "" if "0.cc" in command else "no such vector")
    with pytest.raises(boringssl.CannotBuild, match=r"does not compile here with clang\+\+:\nno such vector$"):
        boringssl._compile("clang++", tmp_path, tmp_path / "libboringssl.a")


def test_ctrl_c_ends_it_with_a_sentence(
    boringssl: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(boringssl, "build", interrupted)
    assert boringssl.main() == 130
    assert capsys.readouterr().err == "mtls-sidecar: interrupted; the next build starts anew\n"


@pytest.mark.needs("make")
def test_make_builds_it_again_after_it_was_uninstalled(tmp_path: Path) -> None:
    for name in (".installed-runtime", ".installed-engine"):
        (tmp_path / name).touch()
    package = tmp_path / "lib" / "python3.12" / "site-packages" / "mtls_sidecar_boringssl"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    assert "engine/boringssl.py" not in planned(tmp_path)
    shutil.rmtree(package)
    assert "engine/boringssl.py" in planned(tmp_path)


def planned(environment: Path) -> str:
    """What `make engine` would do there."""
    command = ["make", "--dry-run", "--no-print-directory", f"VENV={environment}", "engine"]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
