"""From rounds to figures, against rounds whose figures are known."""

import pytest

from proxy.core.reasons import Reason
from proxy.lab.measures import BY_KEY, MEASURES, measures_of
from proxy.lab.results import Round, Workload
from tests.lab.documents import latencies, round_of, row_of

ROUND = Round(
    count=1000,
    seconds=2.0,
    server_cpu_s=0.7,
    client_cpu_s=0.4,
    failures={Reason.RESET: 3, Reason.HANDSHAKE_TIMEOUT: 2},
    bytes_sent=1_500_000,
    bytes_received=2_500_000,
    payload_bytes=4_000_000_000,
    round_trips=2000,
    memory_bytes=33_000_000,
    latency=latencies(*[0.001] * 890, *[0.01] * 100, *[0.1] * 10).encode(),
)
EXPECTED = {
    Workload.HANDSHAKE: {
        "handshakes_per_s": 500,
        "cpu_per_handshake": 0.0007,
        "client_cpu_per_handshake": 0.0004,
        "p50": 0.001,
        "p90": 0.01,
        "p99": 0.01,
        "max": 0.1,
        "bytes_per_handshake": 4000,
        "round_trips": 2,
        "failure_share": 5 / 1005,
    },
    Workload.REQUEST: {
        "requests_per_s": 500,
        "cpu_per_request": 0.0007,
        "p50": 0.001,
        "p90": 0.01,
        "p99": 0.01,
        "max": 0.1,
        "failure_share": 5 / 1005,
    },
    Workload.UPLOAD: {"throughput": 2e9, "cpu_per_gb": 0.175, "failure_share": 5 / 1005},
    Workload.DOWNLOAD: {"throughput": 2e9, "cpu_per_gb": 0.175, "failure_share": 5 / 1005},
    Workload.IDLE: {"memory_per_connection": 33_000, "failure_share": 5 / 1005},
}


@pytest.mark.parametrize("workload", Workload)
def test_the_figures_of_a_round(workload: Workload) -> None:
    row = row_of(ROUND, workload=workload)
    figures = {measure.key: figure.value for measure in MEASURES if (figure := measure.figure(row))}
    assert figures == pytest.approx(EXPECTED[workload], rel=2e-3)


def test_a_figure_is_the_median_of_the_rounds_and_max_the_worst_of_them() -> None:
    row = row_of(*(round_of(latency_s=latency) for latency in (0.001, 0.009, 0.002)))
    p50, worst = BY_KEY["p50"].figure(row), BY_KEY["max"].figure(row)
    assert p50 is not None
    assert worst is not None
    assert (p50.value, worst.value) == pytest.approx((0.002, 0.009), rel=2e-3)


def test_what_was_not_measured_has_no_figure() -> None:
    row = row_of(Round(count=10, seconds=1.0))
    assert [measure.key for measure in measures_of([row])] == ["handshakes_per_s", "failure_share"]


def test_no_success_is_no_rate_per_handshake_and_all_failures() -> None:
    row = row_of(
        Round(count=0, seconds=1.0, server_cpu_s=0.1, latency=latencies().encode(), failures={Reason.RESET: 9})
    )
    figures = {measure.key: figure.value for measure in MEASURES if (figure := measure.figure(row))}
    assert figures == {"handshakes_per_s": 0.0, "failure_share": 1.0}


def test_a_key_names_one_measure() -> None:
    assert len(BY_KEY) == len(MEASURES)
