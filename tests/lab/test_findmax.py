"""The search for the knee, on servers that are formulas."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.reasons import Reason
from proxy.lab.findmax import MOST_STEPS, NARROW, SloFault, find_max, keeps, parse_slo
from proxy.lab.generator import Measured
from proxy.lab.latencies import Latencies
from proxy.lab.plan import Plan
from proxy.tls.loadcontext import Credentials

SLO = parse_slo("p99=20ms")
PLAN = Plan(address=("127.0.0.1", 1), credentials=Credentials(ca="ca.crt"))


def measured(seconds: float, *, failures: int = 0, late: int = 0, shortage: str | None = None) -> Measured:
    """A thousand handshakes that all took `seconds`."""
    latencies = Latencies()
    latencies.record(seconds, 1000)
    return Measured(
        plan=PLAN,
        count=1000,
        seconds=1.0,
        cpu_s=0.1,
        busiest=0.1,
        latencies=latencies,
        failures={Reason.HANDSHAKE_TIMEOUT: failures} if failures else {},
        details={},
        not_resumed=0,
        bytes_sent=None,
        bytes_received=None,
        negotiated=None,
        late=late,
        late_s=0.0,
        most_open=1,
        processes=1,
        shortage=shortage,
    )


@given(st.floats(2.0, 200_000.0))
def test_the_knee_is_found_to_within_its_width_and_never_above(capacity: float) -> None:
    knee = find_max(lambda rate: measured(0.001 if rate <= capacity else 1.0), SLO)
    assert knee.rate is not None
    assert capacity / (NARROW * 1.001) <= knee.rate <= capacity
    assert len(knee.steps) <= MOST_STEPS


def test_a_server_that_never_keeps_the_promise_has_no_knee() -> None:
    knee = find_max(lambda _: measured(1.0), SLO)
    assert knee.rate is None
    assert all(not kept for _, kept in knee.steps)


def test_one_hiccup_is_tried_again_and_is_no_knee() -> None:
    tried: list[float] = []

    def hiccup(rate: float) -> Measured:
        tried.append(rate)
        return measured(1.0 if tried.count(rate) == 1 and rate == 100 else 0.001 if rate <= 1000 else 1.0)

    knee = find_max(hiccup, SLO)
    assert knee.rate == pytest.approx(1000, rel=0.05)
    assert tried.count(100) == 2


def test_it_says_when_the_client_gave_out_before_the_server_did() -> None:
    knee = find_max(lambda rate: measured(0.001 if rate <= 300 else 1.0, late=999 if rate > 300 else 0), SLO)
    assert knee.limited


def test_failures_break_the_promise_however_quick_the_rest_was() -> None:
    assert keeps(measured(0.001, failures=1), SLO)
    assert not keeps(measured(0.001, failures=2), SLO)
    assert not keeps(measured(0.001, shortage="no descriptors"), SLO)


@pytest.mark.parametrize(
    ("text", "percent", "limit_s"),
    [("p99=20ms", 99.0, 0.02), ("p99.9=0.5s", 99.9, 0.5), ("max=900us", 100.0, 0.0009), ("p50=1ms", 50.0, 0.001)],
)
def test_a_promise_is_read(text: str, percent: float, limit_s: float) -> None:
    slo = parse_slo(text)
    assert (slo.percent, slo.limit_s) == (percent, pytest.approx(limit_s))


@pytest.mark.parametrize(
    "text", ["", "p99", "p99=20", "p99=0ms", "p999=1ms", "p99=-1ms", "p99=20ms ", "p1=2h", "p49.9=1ms", "p05=1ms"]
)
def test_what_is_no_promise_is_refused(text: str) -> None:
    with pytest.raises(SloFault, match="is no promise: write"):
        parse_slo(text)


@given(st.text(max_size=20))
def test_junk_is_refused_or_read(text: str) -> None:
    try:
        assert parse_slo(text).limit_s > 0
    except SloFault:
        pass
