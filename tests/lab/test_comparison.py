"""What is said of a comparison, and of the price of TLS, from rows made by hand."""

from proxy.lab import comparison, relaycosts
from proxy.lab.latencies import Latencies
from proxy.lab.results import Mode, Round, Row, Scenario, Security, Workload
from proxy.lab.workloads import FLOOR


def full(side: str, *cpu_us: float) -> Row:
    scenario = Scenario(side=side, workload=Workload.HANDSHAKE, version="1.3", mode=Mode.FULL)
    return Row(scenario=scenario, rounds=tuple(Round(count=1, seconds=1.0, server_cpu_s=us / 1e6) for us in cpu_us))


def request(side: str, security: Security, concurrency: int, *, p50_us: float, cpu_us: float | None) -> Row:
    scenario = Scenario(side=side, workload=Workload.REQUEST, security=security, concurrency=concurrency)
    latencies = Latencies()
    latencies.record(p50_us / 1e6)
    cpu_s = None if cpu_us is None else cpu_us / 1e6
    return Row(scenario=scenario, rounds=(Round(count=1, seconds=1.0, server_cpu_s=cpu_s, latency=latencies.encode()),))


def test_the_floor_is_set_against_the_engine_that_it_is_made_of() -> None:
    rows = [full("sidecar (boringssl)", 700), full("sidecar (openssl)", 900), full("envoy", 500), full(FLOOR, 600)]
    assert comparison.meaning(rows) == [
        "Of the 900 µs of a full handshake over TLS 1.3 on sidecar (openssl), 600 µs are OpenSSL's own; sockets, the "
        "way to the app, identity, policy and Python are the rest.",
        "A full handshake over TLS 1.3 costs least on envoy: 500 µs.",
    ]


def test_whom_the_rounds_cannot_tell_from_the_cheapest_is_named_beside_it() -> None:
    rows = [full("ours", 500, 520, 480), full("hitch", 510, 515, 490), full("nginx", 505, 540, 470)]
    (said,) = comparison.meaning([*rows, full("envoy", 700, 700, 700)])
    assert said.endswith("costs least on ours: 500 µs; the rounds cannot tell hitch, nginx from it.")


def test_nothing_is_said_of_what_was_not_measured() -> None:
    assert comparison.meaning([full(FLOOR, 600)]) == []
    assert comparison.meaning([Row(scenario=full("sidecar (openssl)", 1).scenario, fault="it broke")]) == []
    assert relaycosts.meaning([full("sidecar (openssl)", 900)]) == []


def test_the_price_of_mutual_tls_is_what_lies_between_two_modes_of_the_sidecar() -> None:
    mutual, plain = Security.MUTUAL_TLS, Security.PLAINTEXT
    rows = [
        request("direct", plain, 1, p50_us=20, cpu_us=None),
        request("sidecar, DISABLE", plain, 1, p50_us=100, cpu_us=20),
        request("sidecar (openssl)", mutual, 1, p50_us=150, cpu_us=30),
        request("sidecar, DISABLE", plain, 64, p50_us=1, cpu_us=20),
        request("sidecar (openssl)", mutual, 64, p50_us=1, cpu_us=25),
    ]
    assert relaycosts.meaning(rows) == [
        "A 1 KiB request takes 20 µs without a proxy (median). The sidecar adds 80 µs in DISABLE, and 130 µs with "
        "mutual TLS.",
        "It costs 20 µs of the sidecar's CPU in DISABLE and 25 µs with mutual TLS: 1.25 times as much.",
    ]


def test_the_client_certificate_is_priced_where_nothing_else_is() -> None:
    rows = [
        Row(
            scenario=Scenario(side=FLOOR, workload=Workload.HANDSHAKE, security=security, concurrency=32),
            rounds=(Round(count=10, seconds=1.0, server_cpu_s=cpu_us * 10 / 1e6),),
        )
        for security, cpu_us in ((Security.TLS, 250), (Security.MUTUAL_TLS, 600))
    ]
    assert relaycosts.meaning(rows) == [
        "The client certificate costs the server 350 µs of each full handshake, nothing later (OpenSSL in memory: "
        "250 µs without, 600 µs with it)."
    ]
