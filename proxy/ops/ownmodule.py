"""How a process of this package starts another of its modules: a worker, a generator, what `demo` and `dev` show."""

import os
import sys
from pathlib import Path

import proxy


def package_command(module: str, *arguments: str) -> list[str]:
    """
    The argv that runs a module of this package.

    -P keeps the working directory out of the module search: a developer's own folder `proxy` must not be taken for us.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def package_environment() -> dict[str, str]:
    """The environment for it: finds the package also where it runs from a source tree that was never installed."""
    environment = dict(os.environ)
    root = Path(proxy.__file__).resolve().parents[1]
    if root.name not in ("site-packages", "dist-packages"):
        others = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = f"{root}{os.pathsep}{others}" if others else str(root)
    return environment
