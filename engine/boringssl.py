"""
BoringSSL's source, fetched and compiled: `python engine/boringssl.py` makes build/engine/libboringssl.a.

The source comes with gRPC's source distribution, which is kept current by people who depend on it, and which says in a
table of its own which files make BoringSSL. source.txt pins it by version and hash. What was fetched and compiled stays
in the build folder; a change of source.txt, of the flags or of the compiler starts anew.
"""

import hashlib
import os
import platform
import re
import runpy
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = Path(os.environ.get("MTLS_SIDECAR_ENGINE_BUILD") or HERE.parent / "build" / "engine")
BORINGSSL = "third_party/boringssl-with-bazel"
FILE_LISTS = "src/python/grpcio/grpc_core_dependencies.py"

HARDENING = ["-fstack-protector-strong", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"]
if platform.machine() in ("x86_64", "AMD64"):
    HARDENING.append("-fcf-protection")
elif platform.machine() in ("aarch64", "arm64"):
    HARDENING.append("-mbranch-protection=standard")
FLAGS = ["-O2", "-DNDEBUG", "-fPIC", "-fvisibility=hidden", "-ffunction-sections", "-fdata-sections", *HARDENING]
CXX_FLAGS = ["-std=c++17", "-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics"]

# BoringSSL is written for clang. Of gcc 12's code an ECDSA signature takes more than twice, and all of a handshake 1.35
# times as long: it does not see the vectors in the selection from a table.
COMPILERS = ("clang++", *(f"clang++-{version}" for version in range(25, 13, -1)), "c++", "g++")

INSTALL = (
    "mtls-sidecar: the BoringSSL engine cannot be built here: {what} is missing.\n"
    "  Debian and Ubuntu: apt-get install clang g++ python3-dev\n"
    "  Fedora:            dnf install clang gcc-c++ libstdc++-static python3-devel\n"
    "  (g++ alone will do; what clang makes of BoringSSL needs a quarter less.)\n"
    "  Until it is built, `tls.engine: auto` uses OpenSSL, with the same configuration and the same checks."
)
UNREACHABLE = (
    "mtls-sidecar: the source of BoringSSL cannot be fetched; pip's words stand above.\n"
    "  Behind a proxy or with an index of your own: pip's settings count (PIP_PROXY, PIP_INDEX_URL, PIP_FIND_LINKS).\n"
    "  Without a network: `make engine-wheel` on another machine, and `pip install --no-deps` its wheel here.\n"
    "  Until then `tls.engine: auto` uses OpenSSL, with the same configuration and the same checks."
)


class CannotBuild(Exception):  # noqa: N818  a sentence for a person
    """Something outside of this repository is missing or failed."""


def headers() -> Path:
    """The folder of BoringSSL's public headers, once `build` has run."""
    return BUILD / "source" / BORINGSSL / "include"


def build() -> Path:
    """
    Fetch and compile what is not there yet.

    Returns: the static library
    Raises:  CannotBuild
    """
    compiler = find_compiler()
    pinned = (HERE / "source.txt").read_text(encoding="utf-8")
    source = BUILD / "source"
    stamp = hashlib.sha256(repr((pinned, FLAGS, CXX_FLAGS, _told(compiler, "--version"))).encode()).hexdigest()
    archive, done = BUILD / "libboringssl.a", BUILD / "built"
    if archive.exists() and done.exists() and done.read_text(encoding="utf-8") == stamp:
        return archive
    for own in (source, BUILD / "download", BUILD / "objects"):  # and nothing else: the folder may be somebody's
        shutil.rmtree(own, ignore_errors=True)
    done.unlink(missing_ok=True)
    BUILD.mkdir(parents=True, exist_ok=True)
    _unpack(_fetch(BUILD / "download", compiler), source)
    _compile(compiler, source, archive)
    done.write_text(stamp, encoding="utf-8")
    return archive


def find_compiler() -> str:
    """The C++ compiler that is best for this. Raises: CannotBuild when it, or what it needs for this, is missing."""
    compiler = os.environ.get("CXX") or next(filter(None, map(shutil.which, COMPILERS)), None)
    if not compiler or not shutil.which(compiler.split()[0]):
        raise CannotBuild(INSTALL.format(what="a C++ compiler" if not os.environ.get("CXX") else f"CXX={compiler}"))
    if not shutil.which("ar"):
        raise CannotBuild(INSTALL.format(what="`ar`, of binutils,"))
    if sys.platform == "linux" and _told(compiler, "-print-file-name=libstdc++.a").strip() == "libstdc++.a":
        raise CannotBuild(INSTALL.format(what=f"libstdc++.a, for {compiler} to link,"))
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        raise CannotBuild(INSTALL.format(what="Python.h, the headers of this Python,"))
    return compiler


def c_compiler(compiler: str) -> str:
    """The C compiler that comes with a C++ compiler, e.g. "/usr/bin/clang-19" with "/usr/bin/clang++-19"."""
    program, *options = compiler.split()
    folder, name = os.path.split(program)
    for plus, plain in (("clang++", "clang"), ("g++", "gcc"), ("c++", "cc")):
        if plus in name:
            return " ".join([os.path.join(folder, name.replace(plus, plain)), *options])
    return compiler


def release() -> str:
    """The pinned release that the source comes from, e.g. "grpcio 1.85.3"."""
    found = re.search(r"^(\w+)==([\w.]+)", (HERE / "source.txt").read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise CannotBuild("engine/source.txt names no release")
    return f"{found[1]} {found[2]}"


def _told(compiler: str, question: str) -> str:
    return subprocess.run([*compiler.split(), question], capture_output=True, text=True, check=False).stdout


def _fetch(folder: Path, compiler: str) -> Path:
    print(f"mtls-sidecar: fetching the source distribution of {release()}", file=sys.stderr)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-build-isolation", "--no-binary", ":all:", "--require-hashes", "--dest", str(folder)]
    command += ["--requirement", str(HERE / "source.txt")]
    # pip asks the source for its name, and gRPC's answer tries the compiler first: c++, where nothing names another.
    if subprocess.run(command, env=os.environ | {"CXX": compiler}, check=False).returncode:
        raise CannotBuild(UNREACHABLE)
    return next(folder.glob("*.tar.gz"))


def _unpack(packed: Path, folder: Path) -> None:
    """Only BoringSSL and the table of its files: a fifth of what is there."""
    with tarfile.open(packed) as archive:
        for member in archive:
            _, _, name = member.name.partition("/")
            if member.isfile() and (name == FILE_LISTS or name.startswith(f"{BORINGSSL}/")):
                member.name = name
                archive.extract(member, folder, filter="data")


def _compile(compiler: str, source: Path, archive: Path) -> None:
    files = _files(source)
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    print(f"mtls-sidecar: compiling BoringSSL, {len(files)} files on {workers} cores", file=sys.stderr)
    objects = archive.parent / "objects"
    objects.mkdir()
    made = {file: objects / f"{file.replace('/', '_')}.o" for file in files}
    compile_one = [*compiler.split(), "-c", "-Iinclude", "-I.", *FLAGS]
    commands = [
        [*compile_one, *(CXX_FLAGS if file.endswith(".cc") else []), file, "-o", str(output)]
        for file, output in made.items()
    ]
    with ThreadPoolExecutor(workers) as pool:
        try:
            failed = next(filter(None, pool.map(lambda one: _run(one, source / BORINGSSL), commands)), None)
        finally:  # after a failure, or Ctrl-C, nobody waits for the rest
            pool.shutdown(cancel_futures=True)
    if failed:
        raise CannotBuild(f"mtls-sidecar: BoringSSL does not compile here with {compiler}:\n{failed}")
    archive.unlink(missing_ok=True)
    subprocess.run(["ar", "rcs", str(archive), *map(str, made.values())], check=True)
    shutil.rmtree(objects)


def _files(source: Path) -> list[str]:
    """BoringSSL's files for this system, the largest first, so that the last core is not left alone with it."""
    tables = runpy.run_path(str(source / FILE_LISTS))
    prefix = f"{BORINGSSL}/"
    named = [*tables["CORE_SOURCE_FILES"], *tables["ASM_SOURCE_FILES"]["crypto_asm"]]
    files = [name.removeprefix(prefix) for name in named if name.startswith(prefix)]
    foreign = ("-win.S", "-linux.S") if sys.platform == "darwin" else ("-win.S", "-apple.S")
    ours = [file for file in files if not file.endswith(foreign) and not file.startswith("gen/test_support/")]
    return sorted(ours, key=lambda file: file != "crypto/fipsmodule/bcm.cc")


def _run(command: Sequence[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.stderr or f"{command[-1]} failed" if done.returncode else ""


def main() -> int:
    try:
        print(build())
    except CannotBuild as why:
        print(why, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("mtls-sidecar: interrupted; the next build starts anew", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
