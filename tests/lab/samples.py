"""Whole results as a run would leave them: distributions with tails, rounds that vary, all of it from a seed."""

import random

import msgspec

from proxy.core.reasons import Reason
from proxy.lab.latencies import Latencies
from proxy.lab.results import Certificate, Kind, Mode, Result, Round, Row, Scenario, Security, Workload
from tests.lab.documents import result_of

ROUNDS = 5
_CPU_US = {"1.2": (620.0, 210.0), "1.3": (700.0, 390.0)}  # full, resumed
_ROUND_TRIPS = {("1.2", Mode.FULL): 3, ("1.2", Mode.RESUMED): 2, ("1.3", Mode.FULL): 2, ("1.3", Mode.RESUMED): 2}
_KEY_FACTOR = {"ECDSA P-256": 1.0, "RSA-2048": 1.9}


def made_round(
    dice: random.Random, cpu_us: float, scenario: Scenario, *, floor_s: float = 0.0, count: int = 400
) -> Round:
    """A round of so much CPU for each success, give or take 2 %, with a tail of latencies."""
    cpu_s = cpu_us / 1e6 * dice.gauss(1, 0.02)
    held = Latencies()
    for _ in range(count):
        held.record(floor_s + (scenario.concurrency or 1) * cpu_s * dice.lognormvariate(0, 0.35))
    trips = _ROUND_TRIPS.get((scenario.version or "", scenario.mode or Mode.FULL), 1)
    return Round(
        count=count,
        seconds=count * cpu_s,
        server_cpu_s=count * cpu_s,
        client_cpu_s=count * cpu_s * 0.6,
        bytes_sent=count * 1700,
        bytes_received=count * 2600,
        round_trips=trips * count,
        latency=held.encode(),
        client_limited=False,
    )


def handshakes(seed: int = 7, *, slower: float = 1.0, rtts_s: tuple[float, ...] = (0.0, 0.02, 0.08)) -> Result:
    """The default table, with round trips. slower: factor on TLS 1.3's CPU."""
    dice = random.Random(seed)
    rows = []
    for rtt_s in rtts_s:
        for version in ("1.2", "1.3"):
            for key in _KEY_FACTOR:
                for mode in Mode:
                    scenario = Scenario(
                        side="sidecar",
                        workload=Workload.HANDSHAKE,
                        version=version,
                        key=key,
                        mode=mode,
                        concurrency=8,
                        rtt_s=rtt_s,
                    )
                    factor = _KEY_FACTOR[key] if mode is Mode.FULL else 1.0
                    cpu_us = _CPU_US[version][mode is Mode.RESUMED] * factor * (slower if version == "1.3" else 1.0)
                    floor_s = rtt_s * _ROUND_TRIPS[version, mode]
                    rounds = tuple(made_round(dice, cpu_us, scenario, floor_s=floor_s) for _ in range(ROUNDS))
                    rows.append(Row(scenario=scenario, rounds=rounds, negotiated_group="X25519MLKEM768"))
    rows[0] = msgspec.structs.replace(
        rows[0], rounds=(msgspec.structs.replace(rows[0].rounds[0], failures={Reason.RESET: 2}), *rows[0].rounds[1:])
    )
    return result_of(
        *rows,
        seed=seed,
        certificates=(
            Certificate(
                whose="server", key="ECDSA P-256", signature="ecdsa-with-SHA256", chain_length=1, chain_bytes=431
            ),
        ),
        sides={"sidecar": "mtls-sidecar 0.2.0, OpenSSL 4.0.3"},
    )


def peers(seed: int = 3) -> Result:
    """A comparison of proxies."""
    dice = random.Random(seed)
    factors = {"sidecar": 1.0, "haproxy": 1.9, "nginx": 1.7, "envoy": 0.65}
    rows = []
    for side, factor in factors.items():
        for version in ("1.2", "1.3"):
            for mode in Mode:
                scenario = Scenario(
                    side=side, workload=Workload.HANDSHAKE, version=version, key="ECDSA P-256", mode=mode, concurrency=8
                )
                cpu_us = _CPU_US[version][mode is Mode.RESUMED] * factor
                rows.append(
                    Row(scenario=scenario, rounds=tuple(made_round(dice, cpu_us, scenario) for _ in range(ROUNDS)))
                )
    rows[-1] = Row(scenario=rows[-1].scenario, fault="envoy resumed no session in TLS 1.3")
    return result_of(*rows, kind=Kind.COMPARE, sides={side: f"{side} 1.0" for side in factors})


def relay(seed: int = 5) -> Result:
    """Requests, bulk and idle memory: plaintext, TLS, mutual TLS."""
    dice = random.Random(seed)
    rows = []
    for security, factor in ((Security.PLAINTEXT, 1.0), (Security.TLS, 1.3), (Security.MUTUAL_TLS, 1.31)):
        base = Scenario(
            side="sidecar", workload=Workload.REQUEST, security=security, concurrency=64, message_bytes=1024
        )
        base = msgspec.structs.replace(base, version=None if security is Security.PLAINTEXT else "1.3")
        rounds = tuple(made_round(dice, 15 * factor, base) for _ in range(ROUNDS))
        rows.append(Row(scenario=base, rounds=rounds))
        for workload in (Workload.UPLOAD, Workload.DOWNLOAD):
            bulk = msgspec.structs.replace(base, workload=workload, message_bytes=None, concurrency=1)
            moved = tuple(
                Round(count=1, seconds=factor * dice.gauss(1, 0.02), server_cpu_s=0.7 * factor, payload_bytes=10**9)
                for _ in range(ROUNDS)
            )
            rows.append(Row(scenario=bulk, rounds=moved))
        idle = msgspec.structs.replace(base, workload=Workload.IDLE, message_bytes=None, concurrency=None)
        rows.append(
            Row(
                scenario=idle,
                rounds=tuple(Round(count=1000, seconds=1, memory_bytes=int(25e6 * factor)) for _ in range(3)),
            )
        )
    return result_of(*rows, kind=Kind.RELAY)


def rates(seed: int = 9) -> Result:
    """An open loop at rising rates, up to the knee."""
    dice = random.Random(seed)
    rows = []
    for rate in (200.0, 400.0, 600.0, 800.0, 1000.0, 1100.0):
        scenario = Scenario(
            side="sidecar", workload=Workload.HANDSHAKE, version="1.3", key="ECDSA P-256", mode=Mode.FULL, rate=rate
        )
        wait = 1 / max(0.04, 1 - rate / 1150)
        rows.append(Row(scenario=scenario, rounds=tuple(made_round(dice, 700 * wait, scenario) for _ in range(ROUNDS))))
    return result_of(*rows)
