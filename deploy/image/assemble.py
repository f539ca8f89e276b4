"""
Copies what the sidecar needs, and nothing else, into the root of an image: the virtual environment, the interpreter
that it was made with, and the shared libraries of both.

The image then has no shell, no package manager and no C compiler's worth of packages to patch. What a scanner wants to
know is kept the way that distroless images keep it: /etc/os-release, and one file for each Debian package that a copied
file came from in /var/lib/dpkg/status.d. Python's own packages are found by their .dist-info folders.

It runs on the build stage's Python, with the standard library alone; tests/deploy/test_image.py runs the same file.
"""

import argparse
import compileall
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from py_compile import PycInvalidationMode

UID = 1337  # what service meshes give their proxies; proxy/pod/names.py has the same
PROGRAMS = ("nft",)  # `intercept apply` in the init container

# Of the standard library: what only developers and desktops use, with the libraries that it would drag along.
LEFT_OUT = (
    "__pycache__",
    "config-*",
    "dist-packages",
    "distutils",
    "ensurepip",
    "idlelib",
    "lib2to3",
    "pydoc_data",
    "site-packages",
    "sqlite3",
    "_sqlite3*",
    "test",
    "_test*",
    "_ctypes_test*",
    "_xxtest*",
    "xxlimited*",
    "xxsubtype*",
    "tkinter",
    "_tkinter*",
    "turtle*",
    "venv",
    "nis*",
    "curses",
    "_curses*",
    "readline*",
    "_dbm*",
    "_gdbm*",
)
FOLDERS = ("dev", "etc/mtls-sidecar", "proc", "run/svid", "sys", "tmp")  # where a runtime mounts something
FILES = {
    "etc/passwd": f"root:x:0:0:root:/:/sbin/nologin\nmtls-sidecar:x:{UID}:{UID}:mtls-sidecar:/:/sbin/nologin\n",
    "etc/group": f"root:x:0:\nmtls-sidecar:x:{UID}:\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}
_LIBRARY = re.compile(r"(?:=> |^\s*)(/\S+) \(0x", re.MULTILINE)
_ABOUT = (
    "import json, sys, sysconfig; p = sysconfig.get_paths(); print(json.dumps([sys._base_executable, p['stdlib']]))"
)


class Root:
    """The root that is being filled. `sources` are the files outside the environment that were copied."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.sources: set[Path] = set()
        for name in ("bin", "lib", "lib64", "sbin"):  # merged, as Debian's own
            if Path("/", name).is_symlink():
                (target / "usr" / name).mkdir(parents=True, exist_ok=True)
                (target / name).symlink_to(f"usr/{name}")

    def inside(self, path: Path) -> Path:
        """Where a path of this machine lies in the root."""
        return self.target / path.relative_to("/")

    def copy(self, path: Path) -> None:
        """Copy a file, or the chain of symlinks that leads to it, to the same place."""
        place = self.inside(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        self.sources.add(path)
        if path.is_symlink():
            if not place.is_symlink():
                place.symlink_to(os.readlink(path))
            self.copy(path.parent / os.readlink(path))
        elif not place.exists():
            shutil.copy2(path, place)

    def copy_tree(self, path: Path, *left_out: str) -> None:
        """Copy a folder, symlinks as they are."""
        ignore = shutil.ignore_patterns(*left_out)
        shutil.copytree(path, self.inside(path), symlinks=True, ignore=ignore, dirs_exist_ok=True)

    def binaries(self) -> Iterator[Path]:
        """Every ELF file in the root, by its place on this machine."""
        for folder, _, names in os.walk(self.target):
            for name in names:
                file = Path(folder, name)
                if not file.is_symlink() and file.is_file():
                    with file.open("rb") as opened:
                        if opened.read(4) == b"\x7fELF":
                            yield Path("/", file.relative_to(self.target))

    def copy_libraries(self) -> None:
        """Copy what the binaries are linked with; a library that the environment brings itself is there already."""
        for path in set(self.libraries(self.binaries())):
            if not self.inside(path).exists():
                self.copy(path)

    def link(self) -> None:
        """Tell the loader of folders that it would not look into by itself, /usr/local/lib for one."""
        for name in ("ld.so.conf", "ld.so.conf.d"):
            path = Path("/etc", name)
            if path.is_dir():
                self.copy_tree(path)
            elif path.exists():
                self.copy(path)
        subprocess.run(["/sbin/ldconfig", "-r", self.target], check=True)

    @staticmethod
    def libraries(binaries: Iterable[Path]) -> Iterator[Path]:
        """Ask the loader, in one run, which libraries it would take."""
        shown = subprocess.run(["ldd", *binaries], capture_output=True, text=True, check=False).stdout
        if missing := re.findall(r"^\s*(\S+) => not found", shown, re.MULTILINE):
            raise SystemExit(f"assemble: this machine lacks libraries of the environment: {', '.join(missing)}")
        yield from (Path(found) for found in _LIBRARY.findall(shown))

    def note_packages(self) -> None:
        """Write which Debian packages the copied files came from, where scanners of distroless images look."""
        shutil.copy2("/etc/os-release", self.target / "etc" / "os-release")
        if shutil.which("dpkg-query") is None:
            return
        places = {str(path) for path in self.sources} | {str(path.resolve()) for path in self.sources}
        # dpkg knows files by where they were before /lib and /usr/lib became one.
        places |= {place.removeprefix("/usr") for place in places}
        found = subprocess.run(["dpkg-query", "--search", *places], capture_output=True, text=True, check=False).stdout
        folder = self.target / "var" / "lib" / "dpkg" / "status.d"
        folder.mkdir(parents=True, exist_ok=True)
        for name in sorted(set(re.findall(r"^([a-z0-9][a-z0-9.+-]+)(?::\w+)?: ", found, re.MULTILINE))):
            shown = subprocess.run(["dpkg-query", "--status", name], capture_output=True, text=True, check=True).stdout
            (folder / name).write_text(shown)


def assemble(environment: Path, target: Path, programs: Iterable[str]) -> Root:
    """
    Fill a root.

    environment: the virtual environment, without pip
    target:      an empty folder, or none
    programs:    names of other programs, from the PATH
    """
    about = subprocess.run([environment / "bin" / "python", "-I", "-c", _ABOUT], capture_output=True, check=True).stdout
    executable, library = (Path(path) for path in json.loads(about))
    root = Root(target)
    root.copy_tree(environment)
    root.copy_tree(library, *LEFT_OUT)
    root.copy(executable)
    for link in (environment / "bin").iterdir():  # `python` of the environment leads to a name beside the executable
        if link.is_symlink() and os.path.isabs(os.readlink(link)):
            root.copy(Path(os.readlink(link)))
    for name in programs:
        found = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
        if found is None:
            raise SystemExit(f"assemble: there is no {name} to copy; install its package first")
        root.copy(Path(found))
    root.copy_libraries()
    root.link()
    for folder in FOLDERS:
        (target / folder).mkdir(parents=True, exist_ok=True)
    for file, text in FILES.items():
        (target / file).write_text(text)
    (target / "tmp").chmod(0o1777)
    if os.geteuid() == 0:  # a new volume of Docker's takes the owner of the folder that it is mounted on
        os.chown(target / "run" / "svid", UID, UID)
    root.note_packages()
    # Whoever runs on it cannot write, so bytecode is there from the start; by hash, as an image may set every mtime.
    for folder in (library, environment):
        compileall.compile_dir(
            root.inside(folder),
            quiet=2,
            force=True,
            workers=0,
            stripdir=target,
            prependdir="/",
            invalidation_mode=PycInvalidationMode.UNCHECKED_HASH,
        )
    return root


def main() -> None:
    """Take the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.strip().partition("\n\n")[0])
    parser.add_argument("--environment", type=Path, required=True, help="the virtual environment to take")
    parser.add_argument("--target", type=Path, required=True, help="the root to fill")
    parser.add_argument("--program", action="append", default=list(PROGRAMS), help="one more program to take along")
    args = parser.parse_args()
    assemble(args.environment, args.target, args.program)


if __name__ == "__main__":
    sys.exit(main())
