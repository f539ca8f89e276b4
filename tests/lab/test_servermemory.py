"""Memory of a process tree."""

import os
import subprocess
import sys

import pytest

from proxy.lab.generator import LoadFault
from proxy.lab.servermemory import pss_bytes

GROWS = """
import sys
held = bytearray(40_000_000)
held[::4096] = b"x" * len(held[::4096])
print(flush=True)
sys.stdin.read()
"""


def test_what_a_child_holds_counts_for_its_parent() -> None:
    before = pss_bytes([os.getpid()])
    with subprocess.Popen([sys.executable, "-c", GROWS], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert pss_bytes([child.pid]) > 40_000_000
        assert pss_bytes([os.getpid()]) > before + 35_000_000
        assert child.stdin is not None
        child.stdin.close()


def test_a_process_that_is_not_there_is_a_sentence() -> None:
    with pytest.raises(LoadFault, match="there is no process 4194300"):
        pss_bytes([4_194_300])
