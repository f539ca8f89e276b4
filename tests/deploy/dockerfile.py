"""A Dockerfile as data, and its build stage carried out without Docker: its commands, in a sandbox with its paths."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

from tests.programs import program

REPOSITORY = Path(__file__).resolve().parents[2]
DOCKERFILE = REPOSITORY / "Dockerfile"
ENGINE = "mtls-sidecar-boringssl"
_OURS = ("dev", "opt", "proc", "rootfs", "src", "sys", "tmp", "wheels")  # not the machine's while we build


class Instruction(NamedTuple):
    """One instruction: RUN, COPY ..., and what stands behind it on one line."""

    word: str
    value: str


def stages(file: Path = DOCKERFILE) -> dict[str, list[Instruction]]:
    """The instructions of each named stage, in order; the last stage is the image that is built by default."""
    text = re.sub(r"^\s*#.*\n", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found: dict[str, list[Instruction]] = {}
    current: list[Instruction] = []
    for line in re.sub(r"\\\n", " ", text).splitlines():
        word, _, value = line.partition(" ")
        if word == "FROM":
            current = found.setdefault(value.split(" AS ")[1], [])
        if line.strip():
            current.append(Instruction(word, " ".join(value.split()) if word != "HEALTHCHECK" else value))
    return found


def health_check() -> list[str]:
    """The command of HEALTHCHECK in the default image."""
    (check,) = [value for word, value in list(stages().values())[-1] if word == "HEALTHCHECK"]
    command: list[str] = json.loads(check.partition("CMD ")[2])
    return command


def entry_point() -> str:
    """The program of the default image."""
    (value,) = [value for word, value in stages()["sidecar"] if word == "ENTRYPOINT"]
    (program_path,) = json.loads(value)
    return str(program_path)


def default_command() -> list[str]:
    """What the default image does without arguments."""
    (value,) = [value for word, value in stages()["sidecar"] if word == "CMD"]
    command: list[str] = json.loads(value)
    return command


def environment(stage: list[Instruction]) -> dict[str, str]:
    """What ENV sets in a stage."""
    return dict(pair.split("=", 1) for word, value in stage if word == "ENV" for pair in value.split())


def build(stage: list[Instruction], place: Path) -> Path:
    """
    Carry out a stage into `place`; apt-get is left to the machine. Returns: the root that it has assembled.

    python is this test's own, which has pip as the official image's has. The stage that compiles the second engine
    takes minutes; its place is taken by the engine that is installed here, in the same form.
    """
    folders = {name: place / name for name in ("opt", "src", "rootfs", "wheels")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    if has_engine():
        _pack(importlib.metadata.distribution(ENGINE), folders["wheels"])
    for word, value in stage:
        if word == "COPY" and not value.startswith("--from="):
            *sources, target = value.split()
            for source in sources:
                _copy(REPOSITORY / source, folders["src"] / Path(target).relative_to("/src"), target.endswith("/"))
        elif word == "RUN" and not value.startswith("apt-get"):
            _run(value, folders, environment(stage))
    return folders["rootfs"]


def has_engine() -> bool:
    """Whether the second engine is installed here (`make engine`)."""
    try:
        importlib.metadata.distribution(ENGINE)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _pack(distribution: importlib.metadata.Distribution, folder: Path) -> None:
    """Make what is installed a wheel again."""
    tag = re.search(r"^Tag: (\S+)$", distribution.read_text("WHEEL") or "", re.MULTILINE)
    assert tag is not None
    name = f"{ENGINE.replace('-', '_')}-{distribution.version}-{tag.group(1)}.whl"
    with zipfile.ZipFile(folder / name, "w") as wheel:
        for file in distribution.files or ():
            if "__pycache__" not in file.parts and file.name not in ("INSTALLER", "REQUESTED", "direct_url.json"):
                wheel.write(str(file.locate()), str(file))


def _copy(source: Path, target: Path, into: bool) -> None:
    target = target / source.name if into else target
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def _run(command: str, folders: dict[str, Path], variables: dict[str, str]) -> None:
    argv = [program("bwrap"), "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"]
    for entry in sorted(Path("/").iterdir()):
        if entry.is_symlink():
            argv += ["--symlink", os.readlink(entry), str(entry)]
        elif entry.name not in _OURS and entry.is_dir():
            argv += ["--ro-bind", str(entry), str(entry)]
    for name, folder in folders.items():
        argv += ["--bind", str(folder), f"/{name}"]
    if Path("/opt").is_dir():  # what else lies there, e.g. the wheels of a mirror that pip is told to look at
        for entry in Path("/opt").iterdir():
            argv += ["--ro-bind", str(entry), str(entry)]
    argv += ["--ro-bind", sys.prefix, sys.prefix]  # last: a checkout below /tmp, or in /src itself, is hidden else
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    done = subprocess.run(
        [*argv, "--", "/bin/sh", "-ec", command],
        env={**os.environ, **variables, "PATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
