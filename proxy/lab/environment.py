"""Where a run happens: what another run has to share with it before their figures may be compared."""

import os
import platform
import ssl
from pathlib import Path

from proxy import __version__
from proxy.lab.pythonbuild import python_build
from proxy.lab.results import Environment
from proxy.ops.cores import usable_cores
from proxy.tls.binding import openssl_version


def environment(engine: str = "openssl") -> Environment:
    """Describe this machine and this process now. engine: the one that the measured sidecar runs on."""
    build = python_build()
    return Environment(
        package=__version__,
        python=f"{platform.python_implementation()} {platform.python_version()}",
        kernel=f"{platform.system()} {platform.release()}",
        machine=platform.machine(),
        cpu_model=cpu_model(Path("/proc/cpuinfo")),
        cpus=usable_cores(),
        engine=engine,
        openssl=openssl_version(),
        stdlib_openssl=ssl.OPENSSL_VERSION,
        python_optimised=build.optimised,
        python_shared=build.shared,
        load_average=round(os.getloadavg()[0], 2),
    )


def cpu_model(cpuinfo: Path) -> str:
    """As the kernel names it; ARM kernels give numbers only, and there the architecture has to do."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.lower().startswith("model name"))
    return next(names, "")[:200] or platform.machine()
