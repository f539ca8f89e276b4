"""
How many workers `workers: auto` means: one for each core that this process may really use.

A container is often allowed a few cores' worth of time on a machine with many: the cores alone would make 64 workers
that share half a core. So the cgroup's quota counts as well, rounded up.
"""

import math
import os
from pathlib import Path

_CPU_MAX = "/sys/fs/cgroup/cpu.max"  # cgroup v2, seen from inside the container: "QUOTA PERIOD" or "max PERIOD"


def usable_cores(cpu_max: str = _CPU_MAX) -> int:
    """At least 1. cpu_max: the file with the quota; where it is missing, cores alone count."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path(cpu_max).read_text().split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError, ZeroDivisionError):
        return cores  # no such file, or no limit
