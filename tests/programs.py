"""
Where the programs of other projects lie on this machine: the one look-up behind `@pytest.mark.needs(...)`.

A name is a program's own, except for two that are not one file in the PATH: `nginx-stream` is nginx with its stream
module, and the names of PostgreSQL's server programs are looked up in the newest version that is installed.
"""

import shutil
import sys
from pathlib import Path

_FOLDERS = (
    Path(sys.executable).parent,  # what `make interop` installed, also where the environment is not activated
    Path("/usr/sbin"),
    Path("/sbin"),
)
NGINX_STREAM_MODULES = (
    Path("/usr/lib/nginx/modules/ngx_stream_module.so"),  # Debian
    Path("/usr/lib64/nginx/modules/ngx_stream_module.so"),
)


def find_program(name: str) -> str | None:
    """The path of a program, or None when it is not installed."""
    if name == "nginx-stream":
        return find_program("nginx") if any(module.exists() for module in NGINX_STREAM_MODULES) else None
    found = shutil.which(name)
    folders = [*_FOLDERS, *_postgresql_folders()]
    return found or next((str(folder / name) for folder in folders if (folder / name).is_file()), None)


def program(name: str) -> str:
    """The path of a program that the test's marker has asked for."""
    path = find_program(name)
    assert path is not None, f'the test lacks @pytest.mark.needs("{name}")'
    return path


def _postgresql_folders() -> list[Path]:
    versions = Path("/usr/lib/postgresql").glob("*/bin")  # e.g. 15 or 17
    return sorted(versions, key=lambda folder: float(folder.parent.name), reverse=True)
