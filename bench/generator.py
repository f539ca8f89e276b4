"""
The load generator beside `openssl s_time`: full mutual handshakes for the same CPU time, against the same server.

usage: python -m bench.generator [--rounds N] [--seconds S] [--check]

Both load one sidecar from one core, in turns; a figure is the median over the rounds. What is compared is CPU time of
the client, because s_time has one connection in flight and its rate is half the server's. The generator does more for
it: a byte goes both ways, so that the server has accepted. `--check` exits 1 where a process of it makes fewer than 0.8
times the handshakes of s_time.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from proxy.lab.generator import Generators
from proxy.lab.plan import Plan
from proxy.lab.testbed import Sidecar, Testbed, split_cores
from proxy.tls.loadcontext import Offer

ENOUGH = 0.8
_CONNECTIONS = re.compile(r"^(\d+) connections in ", re.MULTILINE)


def s_time_cpu_s(sidecar: Sidecar, version: str, seconds: int, core: int) -> float:
    """CPU seconds that one handshake costs `openssl s_time`."""
    own = sidecar.identities.credentials
    assert own.cert is not None
    assert own.key is not None
    argv = ["openssl", "s_time", "-connect", f"{sidecar.address[0]}:{sidecar.address[1]}", "-new"]
    argv += ["-time", str(seconds), f"-tls{version.replace('.', '_')}", "-verify", "3"]
    argv += ["-cert", own.cert, "-key", own.key, "-CAfile", own.ca]
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(argv, stdout=said, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        os.sched_setaffinity(process.pid, {core})
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read()
    found = _CONNECTIONS.search(text)
    if found is None or not int(found[1]):
        raise SystemExit(f"openssl s_time made no connection: {text[-300:]}")
    return (used.ru_utime + used.ru_stime) / int(found[1])


def generator_cpu_s(generators: Generators, sidecar: Sidecar, version: str, seconds: float) -> float:
    """CPU seconds that one handshake costs a process of the generator."""
    plan = Plan(
        address=sidecar.address,
        credentials=sidecar.identities.credentials,
        offer=Offer(version=version),
        request=b"P",
        seconds=seconds,
    )
    generators.prepare(plan)
    measured = generators.measure()
    if measured.fault is not None:
        raise SystemExit(measured.fault)
    return measured.cpu_s / measured.count


def compare(version: str, *, rounds: int, seconds: int) -> tuple[float, float, float]:
    """(us of the generator, us of s_time, how many handshakes of the generator for one of s_time)."""
    cores = split_cores()
    ours, theirs = [], []
    with (
        tempfile.TemporaryDirectory() as folder,
        Testbed(Path(folder), cores) as bed,
        Generators(1, cores.load) as generators,
    ):
        sidecar = bed.sidecar("ecdsa-p256")
        for _ in range(rounds):
            ours.append(generator_cpu_s(generators, sidecar, version, seconds))
            theirs.append(s_time_cpu_s(sidecar, version, seconds, min(cores.load)))
    quotient = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
    return statistics.median(ours) * 1e6, statistics.median(theirs) * 1e6, quotient


def main(arguments: list[str]) -> int:
    """Print one line for each version."""
    parser = argparse.ArgumentParser(prog="python -m bench.generator", description=(__doc__ or "").strip())
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(arguments)
    enough = True
    for version in ("1.2", "1.3"):
        ours, theirs, quotient = compare(version, rounds=options.rounds, seconds=options.seconds)
        enough &= quotient >= ENOUGH
        print(
            f"TLS {version}, full: generator {ours:.0f} us of CPU a handshake, openssl s_time {theirs:.0f} us: "
            f"{quotient:.2f} times its handshakes",
            flush=True,
        )
    return 1 if options.check and not enough else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
