"""Result documents for the tests of what reads, merges and shows them."""

import msgspec

from proxy.core.reasons import Reason
from proxy.lab.latencies import Latencies
from proxy.lab.results import (
    Environment,
    Kind,
    Mode,
    Result,
    Round,
    Row,
    Scenario,
    Workload,
)

ENVIRONMENT = Environment(
    package="0.2.0",
    python="CPython 3.11.7",
    kernel="Linux 6.1.0",
    machine="x86_64",
    cpu_model="AMD EPYC 7B13",
    cpus=2,
    engine="openssl",
    openssl="OpenSSL 4.0.3 29 Sep 2026",
    stdlib_openssl="OpenSSL 3.0.20",
    load_average=0.5,
)
SCENARIO = Scenario(
    side="sidecar",
    workload=Workload.HANDSHAKE,
    version="1.3",
    key="P-256",
    group="X25519",
    mode=Mode.FULL,
    concurrency=8,
)


def latencies(*seconds: float) -> Latencies:
    held = Latencies()
    for latency in seconds:
        held.record(latency)
    return held


def round_of(count: int = 100, *, latency_s: float = 0.004, cpu_us: float | None = 700.0, **fields: object) -> Round:
    """A round whose figures are easy to say: every handshake took latency_s, and cpu_us of the server."""
    held = Latencies()
    held.record(latency_s, count)
    base = Round(
        count=count,
        seconds=1.0,
        server_cpu_s=None if cpu_us is None else count * cpu_us / 1e6,
        client_cpu_s=count * 400 / 1e6,
        failures={},
        bytes_sent=count * 1500,
        bytes_received=count * 2500,
        round_trips=count * 2,
        latency=held.encode(),
    )
    return msgspec.structs.replace(base, **fields)


def row_of(*rounds: Round, **scenario: object) -> Row:
    return Row(scenario=msgspec.structs.replace(SCENARIO, **scenario), rounds=rounds or (round_of(),))


def result_of(*rows: Row, **fields: object) -> Result:
    base = Result(
        kind=Kind.HANDSHAKE,
        started_at="2026-11-24T12:00:00Z",
        environment=ENVIRONMENT,
        seed=7,
        command="mtls-sidecar bench handshake",
        configuration={"rounds": 5},
        rows=rows or (row_of(),),
    )
    return msgspec.structs.replace(base, **fields)


REJECTED_ONCE = {Reason.UPSTREAM_REJECTED_US: 1}
