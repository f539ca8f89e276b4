"""Facts in, numbers out."""

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus

from proxy.core.config import Config, IdentityConfig, InboundConfig, Mode, TcpAddress
from proxy.core.events import (
    Accepted,
    Closed,
    Detected,
    Dialed,
    Direction,
    Event,
    HandshakeEnded,
    Listener,
    Living,
    Relaying,
    Reloaded,
    ReloadResult,
    Security,
    TlsFacts,
)
from proxy.core.reasons import EXPLANATIONS, Kind, Reason
from proxy.ops.metricfamilies import FAMILIES, PREFIX
from proxy.ops.metrics import FRESH, Metrics

HTTP = Listener(Direction.INBOUND, "http")
PAYMENTS = Listener(Direction.OUTBOUND, "payments")
TLS = TlsFacts(version="TLSv1.3", group="X25519MLKEM768", resumed=True)
CLOSED = Closed(
    listener=HTTP,
    start_time=1795521600.0,
    duration_s=2.0,
    downstream_remote_address="10.0.0.1:4242",
    downstream_local_address="10.0.0.2:15006",
    upstream_address=None,
    bytes_received=10,
    bytes_sent=20,
    security=None,
    tls=None,
    reason=Reason.COMPLETED,
    detail="",
)
LIFE: tuple[Event, ...] = (
    Accepted(HTTP),
    Detected(HTTP, Security.MUTUAL_TLS, 0.0002),
    HandshakeEnded(HTTP, 0.003, TLS),
    Dialed(HTTP, "127.0.0.1:8080", 0.0002),
    Relaying(HTTP, Security.MUTUAL_TLS),
    CLOSED,
)


def make(*listeners: Listener) -> Metrics:
    return Metrics(listeners or (HTTP, PAYMENTS), version="1.2.3", tls_engine="openssl", tls_engine_version="4.0.3")


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    for family in metrics.collect():
        for sample in family.samples:
            if sample.name == PREFIX + name and sample.labels == labels:
                return sample.value
    return None


AT = {"direction": "inbound", "listener": "http"}


def living(listener: Listener = HTTP, *, received: int = 0, sent: int = 0, **so: Any) -> Living:
    facts: dict[str, Any] = {"security": None, "is_shaking_hands": False, "is_half_closed": False, **so}
    return Living(listener, received, sent, **facts)


def test_a_whole_life_is_counted() -> None:
    metrics = make()
    for event in LIFE:
        metrics.emit(event)
    assert value(metrics, "connections_total", **AT, security="mutual_tls") == 1
    assert value(metrics, "handshakes_total", **AT, tls_version="TLSv1.3", group="X25519MLKEM768", resumed="true") == 1
    assert value(metrics, "closed_total", **AT, reason="COMPLETED") == 1
    assert value(metrics, "rejected_total", **AT, reason="COMPLETED") is None
    assert value(metrics, "bytes_total", **AT, flow="received") == 10
    assert value(metrics, "bytes_total", **AT, flow="sent") == 20
    for histogram in ("handshake", "upstream_connect", "connection", "detection"):
        assert value(metrics, f"{histogram}_seconds_count", **AT) == 1


def test_gauges_say_what_is_open_now_and_return_to_zero() -> None:
    metrics = make()
    live = [living(), living(is_shaking_hands=True), living(security=Security.MUTUAL_TLS, is_half_closed=True)]
    metrics.watch(lambda: live)
    for _ in range(2):  # a second look does not count them again
        assert value(metrics, "connections_active", **AT) == 3
        assert value(metrics, "handshakes_active") == 1
        assert value(metrics, "half_closed_connections") == 1
    live.clear()
    assert value(metrics, "connections_active", **AT) == 0
    assert value(metrics, "handshakes_active") == 0
    assert value(metrics, "half_closed_connections") == 0


def test_durations_that_nobody_asks_for_do_not_gather() -> None:
    metrics = make()
    for _ in range(3 * FRESH):
        metrics.emit(Detected(HTTP, Security.MUTUAL_TLS, 0.5))
        metrics.emit(CLOSED)
    at = metrics._at[HTTP]
    assert max(len(at.detection_s.fresh), len(at.connection_s.fresh)) <= FRESH + 1
    assert value(metrics, "detection_seconds_count", **AT) == value(metrics, "closed_total", **AT, reason="COMPLETED")
    assert value(metrics, "detection_seconds_sum", **AT) == 3 * FRESH * 0.5


def test_a_failed_handshake_takes_time_and_is_not_counted_as_done() -> None:
    metrics = make()
    metrics.emit(HandshakeEnded(HTTP, 0.5, None))
    assert value(metrics, "handshake_seconds_sum", **AT) == 0.5
    assert not [s for f in metrics.collect() if f.name == PREFIX + "handshakes" for s in f.samples]


def test_an_unknown_group_is_said_to_be_unknown() -> None:
    metrics = make()
    metrics.emit(HandshakeEnded(HTTP, 0.5, TlsFacts(version="TLSv1.2")))
    assert value(metrics, "handshakes_total", **AT, tls_version="TLSv1.2", group="unknown", resumed="false") == 1


@pytest.mark.parametrize("reason", [word for word, it in EXPLANATIONS.items() if it.kind is not Kind.RELOAD])
def test_every_end_is_closed_and_only_refusals_are_rejected(reason: Reason) -> None:
    metrics = make()
    metrics.emit(msgspec.structs.replace(CLOSED, reason=reason))
    assert value(metrics, "closed_total", **AT, reason=reason.value) == 1
    expected = 1 if EXPLANATIONS[reason].kind is Kind.REJECTED else None
    assert value(metrics, "rejected_total", **AT, reason=reason.value) == expected


def test_bytes_of_open_connections_count_and_closing_never_takes_them_back() -> None:
    metrics = make()
    live = [living(received=3, sent=4), living(received=5, sent=6)]
    metrics.watch(lambda: live)
    assert value(metrics, "bytes_total", **AT, flow="received") == 8
    live.pop()
    # A step too early: the connection is no longer live and its Closed has not come yet.
    assert value(metrics, "bytes_total", **AT, flow="received") == 8
    metrics.emit(msgspec.structs.replace(CLOSED, bytes_received=50, bytes_sent=60))
    assert value(metrics, "bytes_total", **AT, flow="received") == 53
    assert value(metrics, "bytes_total", **AT, flow="sent") == 64


def test_series_of_configured_listeners_exist_before_the_first_event() -> None:
    metrics = make()
    for listener in (HTTP, PAYMENTS):
        at = {"direction": listener.direction.value, "listener": listener.name}
        assert value(metrics, "connections_total", **at, security="mutual_tls") == 0
        assert value(metrics, "bytes_total", **at, flow="sent") == 0
        assert value(metrics, "closed_total", **at, reason="COMPLETED") == 0
        assert value(metrics, "connections_active", **at) == 0
        assert value(metrics, "handshake_seconds_count", **at) == 0
    assert value(metrics, "reloads_total", result="published", reason="RELOADED") == 0


def test_a_listener_that_comes_with_a_reload_is_counted_too() -> None:
    metrics = make(HTTP)
    metrics.watch(lambda: [living(PAYMENTS)])
    assert value(metrics, "connections_active", direction="outbound", listener="payments") == 1


def test_reloads_are_counted_and_the_timestamp_moves_only_on_publication() -> None:
    metrics = make()
    metrics.set_identity(generation=2, leaf=1000.0, chain=900.0, bundle=5000.0, published_at=100.0)
    metrics.emit(
        Reloaded(what="identity", result=ReloadResult.FAILED, reason=Reason.KEY_MISMATCH, detail="", generation=2)
    )
    assert value(metrics, "reloads_total", result="failed", reason="KEY_MISMATCH") == 1
    assert value(metrics, "trust_generation") == 2
    assert value(metrics, "last_reload_timestamp_seconds") == 100.0
    assert value(metrics, "certificate_not_after_timestamp_seconds", kind="chain") == 900.0


def test_plaintext_is_open_until_it_is_closed_and_then_has_a_last_time() -> None:
    metrics = make()
    assert value(metrics, "last_plaintext_timestamp_seconds", **AT) == 0
    live = [living(security=Security.PLAINTEXT)]
    metrics.watch(lambda: live)
    assert value(metrics, "plaintext_active", **AT) == 1
    assert value(metrics, "last_plaintext_timestamp_seconds", **AT) == 0
    live.clear()
    plaintext = msgspec.structs.replace(CLOSED, security=Security.PLAINTEXT)
    metrics.emit(plaintext)
    metrics.emit(msgspec.structs.replace(plaintext, start_time=5.0))  # one that began, and ended, before
    assert value(metrics, "plaintext_active", **AT) == 0
    assert value(metrics, "last_plaintext_timestamp_seconds", **AT) == CLOSED.start_time + CLOSED.duration_s


def test_mutual_tls_is_no_plaintext() -> None:
    metrics = make()
    metrics.emit(Relaying(HTTP, Security.MUTUAL_TLS))
    metrics.watch(lambda: [living(security=Security.MUTUAL_TLS)])
    metrics.emit(msgspec.structs.replace(CLOSED, security=Security.MUTUAL_TLS))
    metrics.emit(CLOSED)
    assert value(metrics, "plaintext_active", **AT) == 0
    assert value(metrics, "last_plaintext_timestamp_seconds", **AT) == 0


def test_a_sidecar_serves_since_its_first_publication() -> None:
    metrics = make()
    assert value(metrics, "serving_since_timestamp_seconds") == 0
    for published_at in (100.0, 200.0):
        metrics.set_identity(generation=1, leaf=1000.0, chain=900.0, bundle=5000.0, published_at=published_at)
    assert value(metrics, "serving_since_timestamp_seconds") == 100.0


def test_a_listener_shows_the_mode_in_force_and_no_older_one() -> None:
    metrics = make()
    for mode in (Mode.PERMISSIVE, Mode.STRICT):
        config = InboundConfig(
            name="http", listen=TcpAddress("0.0.0.0", 15006), upstream=TcpAddress("127.0.0.1", 8080), mode=mode
        )
        metrics.set_listeners(Config(identity=IdentityConfig(cert="", key="", bundles={}), inbound=(config,)))
    shown = [s.labels for f in metrics.collect() for s in f.samples if s.name == PREFIX + "listener_info"]
    assert shown == [{**AT, "mode": "STRICT", "listen": "0.0.0.0:15006"}]


def test_the_build_and_the_dropped_log_lines_are_shown() -> None:
    metrics = make()
    assert value(metrics, "build_info", version="1.2.3", tls_engine="openssl", tls_engine_version="4.0.3") == 1
    assert value(metrics, "log_lines_dropped_total") == 0
    metrics.watch_log(lambda: 7)
    assert value(metrics, "log_lines_dropped_total") == 7


def test_what_is_exported_is_exactly_the_table() -> None:
    exported = {(family.name, family.type) for family in make().collect()}
    assert exported == {(PREFIX + family.name.removesuffix("_total"), family.type.value) for family in FAMILIES}


@pytest.mark.parametrize(
    ("accept", "parse", "content_type"),
    [
        ("", parse_prometheus, "text/plain; version=0.0.4"),
        ("*/*", parse_prometheus, "text/plain; version=0.0.4"),
        (
            "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.4",
            parse_openmetrics,
            "application/openmetrics-text; version=1.0.0",
        ),
    ],
)
def test_both_text_forms_are_read_by_their_own_parsers(accept: str, parse: object, content_type: str) -> None:
    metrics = make()
    for event in LIFE:
        metrics.emit(event)
    kind, body = metrics.expose(accept)
    assert kind.startswith(content_type)
    samples = {s.name for f in parse(body.decode()) for s in f.samples}  # type: ignore[operator]
    assert PREFIX + "closed_total" in samples
    assert PREFIX + "handshake_seconds_bucket" in samples
    assert not [name for name in samples if name.endswith("_created")]


@given(st.text(max_size=80) | st.sampled_from(["application/openmetrics-text;version=x.y", "text/plain;version=9.9"]))
def test_any_accept_header_gets_one_of_two_forms(accept: str) -> None:
    content_type, body = make().expose(accept)
    assert content_type.startswith(("text/plain; version=0.0.4", "application/openmetrics-text; version=1.0.0"))
    assert body


@pytest.mark.parametrize("family", [family for family in FAMILIES if family.buckets], ids=lambda family: family.name)
def test_buckets_rise_and_are_finite(family: object) -> None:
    buckets = family.buckets  # type: ignore[attr-defined]
    assert list(buckets) == sorted(set(buckets))
    assert all(math.isfinite(bound) for bound in buckets)
