"""
Whole files through the command: NAME.in.yaml and, beside it, NAME.out.yaml. The first line of the former says with
which options.

    MTLS_SIDECAR_WRITE_GOLDEN=1 pytest tests/pod/test_golden.py     # writes the outputs; read the diff
"""

import shlex
from pathlib import Path

from proxy import __version__

FOLDER = Path(__file__).parent / "golden"
NAMES = sorted(file.name.removesuffix(".in.yaml") for file in FOLDER.glob("*.in.yaml"))
VERSION_MARK = "0.0.0-version"  # so that a release does not change every file


def text_of(name: str, side: str) -> str:
    """One side, `in` or `out`, of a pair."""
    return (FOLDER / f"{name}.{side}.yaml").read_text(encoding="utf-8").replace(VERSION_MARK, __version__)


def options_of(name: str) -> list[str]:
    """The options in the first line of an input."""
    first = text_of(name, "in").partition("\n")[0]
    return shlex.split(first.removeprefix("# options:"))
