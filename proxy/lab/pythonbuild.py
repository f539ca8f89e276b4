"""
How the Python that runs us, and so every server that we start, was built: what makes the same code cost more or less.

Profile-guided optimisation is an option of CPython's configure, and what configure was told is recorded. Distributions
may do the same by other means (Debian calls the target itself, on some architectures, and records nothing), so from one
of those a missing option tells nothing. What cannot be told is None: unknown, never guessed.
"""

import platform
import shlex
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

_OPTION = "--enable-optimizations"
_PACKAGED = "/usr"  # the prefix that distributions have for themselves
_DEBIAN_PROFILES = ("x86_64", "aarch64")  # python3.x's changelog.Debian: 3.8.0~b2-3 and 3.8.0~b3-1


class Build(NamedTuple):
    """optimised: by a profile; shared: whether the interpreter is in a shared library, libpython. None: unknown"""

    optimised: bool | None
    shared: bool | None


def python_build() -> Build:
    """Of this process."""
    try:
        system: Mapping[str, str] = platform.freedesktop_os_release()
    except OSError:
        system = {}
    told = sysconfig.get_config_var("CONFIG_ARGS") if sys.implementation.name == "cpython" else None
    return Build(
        optimised=is_optimised(told, sys.base_prefix, system, platform.machine()),
        shared=is_shared(Path("/proc/self/maps")),
    )


def is_optimised(told: str | None, prefix: str, system: Mapping[str, str], machine: str) -> bool | None:
    """
    Whether a CPython was optimised by a profile of itself.

    told:   what its configure was told, as sysconfig has it; None or empty where it has nothing
    prefix: of its installation; system: the fields of os-release; machine: as uname has it
    """
    if not told:
        return None
    try:
        options = [word for word in shlex.split(told) if word.partition("=")[0] in (_OPTION, "--disable-optimizations")]
    except ValueError:
        return None
    if options:
        return options[-1] in (_OPTION, f"{_OPTION}=yes")
    if prefix != _PACKAGED:
        return False
    is_debian = "debian" in (system.get("ID", ""), *system.get("ID_LIKE", "").split())
    return True if is_debian and machine in _DEBIAN_PROFILES else None


def is_shared(maps: Path) -> bool | None:
    """
    Whether libpython is among the libraries of a process.

    sysconfig does not say it: Debian's describes the library that it builds too, and the program does without it.
    """
    try:
        return "/libpython" in maps.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
