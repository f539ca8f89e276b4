"""
The extension module, as cffi builds it: src/interface.h says what Python sees, src/*.c what it does.

cffi's API mode compiles real calls, so a wrong signature is a compiler's error and not a crash. Nothing but the
module's own entry point leaves the shared object: a process that also holds OpenSSL (through `cryptography`) has the
same names twice, and must never mix them.
"""

import os
import shutil
import sys
import sysconfig
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import boringssl  # noqa: E402  it stands beside this file, which is no package

C_FLAGS = ["-std=c11", "-O2", "-DNDEBUG", "-Wall", "-Wextra", "-fvisibility=hidden", *boringssl.HARDENING]
LINK_FLAGS = {
    "linux": [
        f"-Wl,--version-script={HERE / 'src' / 'exports.map'}",
        "-Wl,--gc-sections,-z,relro,-z,now,-z,noexecstack",
        "-l:libstdc++.a",  # of which one operator is used; nothing is left to be found at run time
        "-static-libgcc",
    ],
    "darwin": ["-Wl,-dead_strip"],
}

if "CC" not in os.environ and not shutil.which((sysconfig.get_config_var("CC") or "cc").split()[0]):
    # setuptools takes the compiler that built this Python, which need not be the one that is here.
    os.environ["CC"] = boringssl.c_compiler(boringssl.find_compiler())

builder = FFI()
builder.cdef((HERE / "src" / "interface.h").read_text(encoding="utf-8"))
archive = boringssl.build()
builder.set_source(
    "mtls_sidecar_boringssl._boringssl",
    '#include "engine.h"',
    sources=[str(path.relative_to(HERE)) for path in sorted((HERE / "src").glob("*.c"))],
    define_macros=[("BS_RELEASE", f'"{boringssl.release()}"')],
    include_dirs=[str(HERE / "src"), str(boringssl.headers())],
    depends=[__file__, str(archive), *(str(path) for path in (HERE / "src").iterdir())],
    extra_compile_args=C_FLAGS,
    extra_objects=[str(archive)],
    extra_link_args=LINK_FLAGS.get(sys.platform, []),
)
