"""Figures and scenarios in words."""

import msgspec
import pytest

from proxy.lab.measures import Unit
from proxy.lab.results import Security
from proxy.lab.stats import Estimate
from proxy.lab.words import amount, aspects, change, labels, shared, spread
from tests.lab.documents import SCENARIO, row_of


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (0.000742, Unit.SECONDS, "742 µs"),
        (0.0042, Unit.SECONDS, "4.2 ms"),
        (0.0999999, Unit.SECONDS, "100 ms"),
        (1.5, Unit.SECONDS, "1.5 s"),
        (12_345.6, Unit.PER_SECOND, "12,346/s"),
        (34_000.0, Unit.BYTES, "33.2 KiB"),
        (512.0, Unit.BYTES, "512 B"),
        (1.25e9, Unit.BYTES_PER_SECOND, "1.25 GB/s"),
        (0.00123, Unit.SHARE, "0.123 %"),
        (2.0, Unit.NUMBER, "2"),
        (0.0, Unit.SECONDS, "0 µs"),
        (None, Unit.SECONDS, "–"),
    ],
)
def test_an_amount_is_read_at_a_glance(value: float | None, unit: Unit, expected: str) -> None:
    assert amount(value, unit) == expected


@pytest.mark.parametrize(("factor", "expected"), [(1.25, "+25 %"), (0.5, "-50 %"), (1.034, "+3.4 %"), (1.0, "±0 %")])
def test_a_ratio_is_a_change_in_percent(factor: float, expected: str) -> None:
    assert change(factor) == expected


def test_an_interval_is_plus_and_minus_and_a_single_round_has_none() -> None:
    assert (spread(Estimate(100, 95, 102, 0.9)), spread(Estimate(100, 100, 100, 0.0)), spread(None)) == (
        "±5.0 %",
        "",
        "",
    )


def test_rows_are_called_by_what_tells_them_apart() -> None:
    scenarios = [
        row_of(version=version, key=key).scenario for version in ("1.2", "1.3") for key in ("P-256", "RSA-2048")
    ]
    assert labels(scenarios)[:2] == ["TLS 1.2, P-256, full", "TLS 1.2, RSA-2048, full"]


def test_what_rows_share_is_said_once() -> None:
    rows = [row_of(version=version) for version in ("1.2", "1.3")]
    assert shared(rows) == "sidecar, handshake, mutual TLS, P-256, X25519, 8 in flight"


OTHERS = {
    "side": "haproxy",
    "key": "RSA-2048",
    "group": None,
    "cipher": "TLS_AES_128_GCM_SHA256",
    "client_certificate": False,  # said of mutual TLS alone
    "chain_length": 2,
    "rtt_s": 0.02,
    "concurrency": None,
    "rate": 100.0,
    "message_bytes": 1024,
    "version": None,
    "mode": None,
}


@pytest.mark.parametrize("field", OTHERS)
def test_different_scenarios_have_different_names(field: str) -> None:
    other = msgspec.structs.replace(SCENARIO, **{field: OTHERS[field]})
    assert len(set(labels([SCENARIO, other]))) == 2


def test_every_field_of_a_scenario_has_its_words() -> None:
    everything = msgspec.structs.replace(SCENARIO, **{k: v for k, v in OTHERS.items() if v is not None})
    assert set(aspects(everything)) == set(SCENARIO.__struct_fields__)


def test_what_follows_from_mutual_tls_or_its_absence_is_not_said_again() -> None:
    bare = {"version": None, "key": None, "group": None, "mode": None, "client_certificate": False}
    rows = [
        row_of(security=Security.PLAINTEXT, **bare),
        row_of(security=Security.TLS, client_certificate=False),
        row_of(),
    ]
    assert labels([row.scenario for row in rows]) == ["plaintext", "TLS", "mutual TLS"]
