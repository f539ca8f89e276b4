"""
Resolve the requirement lists into hash locks, for every Python and platform at once, naming no host.

run.txt is what the product is installed from; tools.txt repeats its pins exactly and adds what the extras need, and
dev.txt repeats both and adds the tools of development. interop.txt and charts.txt are programs, and crds.txt types of
custom resources, that `make interop` adds for the tests which need them.
"""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def lock(name: str, *options: str) -> None:
    """Write NAME.txt from NAME.in. Raises CalledProcessError when the set has no solution."""
    argv = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11"]
    argv += ["--generate-hashes", "--no-emit-index-url", "--no-emit-find-links", "--no-header", "--no-annotate"]
    argv += ["--upgrade", f"{name}.in", "--output-file", f"{name}.txt", *options]
    subprocess.run(argv, cwd=HERE, check=True)  # noqa: S603  our own argv


if __name__ == "__main__":
    lock("run")
    lock("tools", "--constraint", "run.txt")
    lock("dev", "--constraint", "tools.txt")
    lock("interop")
    lock("charts", "--no-deps")
    lock("crds")
