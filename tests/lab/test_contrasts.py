"""Pairs of rows that differ in one aspect."""

import msgspec
import pytest

from proxy.lab.contrasts import by_rate, by_rtt, contrasts, cost_measure, nearest
from proxy.lab.measures import BY_KEY
from proxy.lab.results import Mode, Security, Workload
from tests.lab.documents import round_of, row_of
from tests.lab.samples import handshakes, peers, relay

CPU = BY_KEY["cpu_per_handshake"]


@pytest.mark.parametrize(
    ("field", "base", "pairs", "factor"),
    [("version", "1.2", 4, 1.1), ("mode", Mode.FULL, 4, 0.3), ("key", "ECDSA P-256", 4, 1.9), ("group", None, 0, 0)],
)
def test_rows_pair_up_along_one_aspect(field: str, base: object, pairs: int, factor: float) -> None:
    found = contrasts(nearest(handshakes().rows), field, CPU, base)
    assert len(found) == pairs
    for pair in found:
        same = {
            name: getattr(pair.base.scenario, name) for name in pair.base.scenario.__struct_fields__ if name != field
        }
        assert same == {name: getattr(pair.other.scenario, name) for name in same}
        assert getattr(pair.base.scenario, field) == base
    if found:
        assert any(pair.factor.value == pytest.approx(factor, rel=0.2) for pair in found)


def test_security_changes_what_hangs_on_it() -> None:
    rows = [row for row in relay().rows if row.scenario.workload is Workload.REQUEST]
    found = contrasts(rows, "security", BY_KEY["cpu_per_request"], Security.PLAINTEXT)
    assert [pair.other.scenario.security for pair in found] == [Security.TLS, Security.MUTUAL_TLS]


def test_a_row_with_a_fault_has_no_contrast() -> None:
    envoy = [pair for pair in contrasts(peers().rows, "side", CPU, "sidecar") if pair.other.scenario.side == "envoy"]
    assert [(pair.other.scenario.version, pair.other.scenario.mode) for pair in envoy] == [
        ("1.2", Mode.FULL),
        ("1.2", Mode.RESUMED),
        ("1.3", Mode.FULL),
    ]


def test_rounds_of_two_rows_that_took_turns_are_judged_in_pairs() -> None:
    slowing = [500.0, 700.0, 900.0, 1100.0, 1300.0, 1500.0]
    base, other = (
        row_of(*(round_of(cpu_us=cpu * factor) for cpu in slowing), version=version)
        for factor, version in ((1, "1.2"), (1.1, "1.3"))
    )
    (pair,) = contrasts([base, other], "version", CPU, "1.2")
    assert (pair.factor.value, pair.is_noise) == (pytest.approx(1.1), False)


def test_series_ascend_in_what_was_varied() -> None:
    assert [[row.scenario.rtt_s for row in series] for series in by_rtt(handshakes().rows)] == [[0.0, 0.02, 0.08]] * 8
    rates = [row_of(rate=rate, concurrency=None) for rate in (300.0, 100.0, 200.0)]
    assert [[row.scenario.rate for row in series] for series in by_rate(rates)] == [[100.0, 200.0, 300.0]]
    assert by_rate(handshakes().rows) == []


def test_latency_speaks_for_the_cost_where_the_cpu_is_unknown() -> None:
    unknown = row_of(round_of(cpu_us=None))
    measures = [
        cost_measure([row_of()]),
        cost_measure([unknown]),
        cost_measure([msgspec.structs.replace(unknown, rounds=())]),
    ]
    assert [measure and measure.key for measure in measures] == ["cpu_per_handshake", "p50", None]
