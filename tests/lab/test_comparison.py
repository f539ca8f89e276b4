"""What is said of a comparison, and of the price of TLS, from rows made by hand."""

from proxy.lab import comparison, relaycosts
from proxy.lab.latencies import Latencies
from proxy.lab.results import Mode, Round, Row, Scenario, Security, Workload
from proxy.lab.workloads import FLOOR


def full(side: str, *cpu_us: float) -> Row:
    scenario = Scenario(side=side, workload=Workload.HANDSHAKE, version="1.3", mode=Mode.FULL)
    return Row(scenario=scenario, rounds=tuple(Round(count=1, seconds=1.0, server_cpu_s=us / 1e6) for us in cpu_us))


def request(
    side: str, concurrency: int, p50_us: tuple[float, ...], cpu_us: float | None = None, vary: float = 0.0
) -> Row:
    """A round for each median. vary: what the CPU of every other round has more"""
    mutual = side.startswith("sidecar (")
    scenario = Scenario(
        side=side,
        workload=Workload.REQUEST,
        security=Security.MUTUAL_TLS if mutual else Security.PLAINTEXT,
        concurrency=concurrency,
    )
    rounds = []
    for at, median_us in enumerate(p50_us):
        latencies = Latencies()
        latencies.record(median_us / 1e6)
        cpu_s = None if cpu_us is None else (cpu_us + vary * (at % 2)) / 1e6
        rounds.append(Round(count=1, seconds=1.0, server_cpu_s=cpu_s, latency=latencies.encode()))
    return Row(scenario=scenario, rounds=tuple(rounds))


def relayed(direct: tuple[float, ...], disabled: tuple[float, ...], mutual: tuple[float, ...]) -> list[Row]:
    return [
        request("direct", 1, direct),
        request("sidecar, DISABLE", 1, disabled),
        request("sidecar (openssl)", 1, mutual),
    ]


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
    rows = [
        *relayed((20, 20, 20), (100, 100, 100), (150, 150, 150)),
        request("sidecar, DISABLE", 64, (1, 1, 1), 20),
        request("sidecar (openssl)", 64, (1, 1, 1), 25),
    ]
    assert relaycosts.meaning(rows) == [
        "A 1 KiB request takes 20 µs without a proxy (median). The sidecar adds 80 µs in DISABLE, and 130 µs with "
        "mutual TLS.",
        "It costs 20 µs of the sidecar's CPU in DISABLE and 25 µs with mutual TLS: 1.25 times as much.",
    ]


def test_what_the_rounds_cannot_tell_is_said_beside_what_is_added() -> None:
    (noisy,) = relaycosts.meaning(relayed((20, 21, 20, 20), (100, 140, 101, 100), (120, 99, 150, 102)))
    assert noisy.endswith("with mutual TLS; the rounds cannot tell mutual TLS from DISABLE.")
    (lost,) = relaycosts.meaning(relayed((20, 150, 20, 90), (100, 30, 140, 20), (30, 140, 21, 120)))
    assert lost.endswith(
        "; the rounds cannot tell DISABLE from no proxy, nor mutual TLS from no proxy, nor mutual TLS from DISABLE."
    )


def test_one_round_knows_nothing_of_its_noise() -> None:
    (said,) = relaycosts.meaning(relayed((20,), (100,), (150,)))
    assert said.endswith("130 µs with mutual TLS; one round cannot tell how much of that is noise.")


def test_cpu_that_the_rounds_cannot_tell_apart_is_said_too() -> None:
    rows = [request("sidecar, DISABLE", 64, (1,) * 4, 20, vary=6), request("sidecar (openssl)", 64, (1,) * 4, 23)]
    assert relaycosts.meaning(rows)[0].endswith("times as much; the rounds cannot tell the two apart.")


def test_the_client_certificate_is_priced_where_nothing_else_is() -> None:
    rows = [
        Row(
            scenario=Scenario(side=FLOOR, workload=Workload.HANDSHAKE, security=security, concurrency=32),
            rounds=(Round(count=10, seconds=1.0, server_cpu_s=cpu_us * 10 / 1e6),) * 2,
        )
        for security, cpu_us in ((Security.TLS, 250), (Security.MUTUAL_TLS, 600))
    ]
    assert relaycosts.meaning(rows) == [
        "The client certificate costs the server 350 µs of each full handshake, nothing later (OpenSSL in memory: "
        "250 µs without, 600 µs with it)."
    ]
