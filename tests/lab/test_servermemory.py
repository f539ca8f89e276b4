"""Memory of a process tree."""

import os
import subprocess
import sys

import pytest

from proxy.lab.generator import LoadFault
from proxy.lab.servermemory import memory_of

GROWS = """
import sys
held = bytearray(40_000_000)
held[::4096] = b"x" * len(held[::4096])
print(flush=True)
sys.stdin.read()
"""


def test_what_a_child_holds_counts_for_its_parent() -> None:
    before = memory_of([os.getpid()]).pss_bytes
    with subprocess.Popen([sys.executable, "-c", GROWS], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert memory_of([child.pid]).pss_bytes > 40_000_000
        assert memory_of([os.getpid()]).pss_bytes > before + 35_000_000
        assert child.stdin is not None
        child.stdin.close()


def test_a_process_that_is_not_there_is_a_sentence() -> None:
    with pytest.raises(LoadFault, match="there is no process 4194300"):
        memory_of([4_194_300])
