"""Several workers, one set of metrics."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.events import Security
from proxy.ops.metricfamilies import PREFIX
from proxy.ops.metrics import Metrics
from proxy.ops.metricsmerge import MAX_SNAPSHOT_BYTES, MergedMetrics
from tests.ops.test_metrics import AT, CLOSED, HTTP, LIFE, living, make


def worker(lives: int, generation: int, active: int = 0) -> Metrics:
    metrics = make()
    for _ in range(lives):
        for event in LIFE:
            metrics.emit(event)
    metrics.watch(lambda: [living()] * active)
    metrics.set_identity(generation=generation, leaf=10.0, chain=9.0, bundle=50.0, published_at=float(generation))
    return metrics


def value(merged: MergedMetrics, name: str, **labels: str) -> float | None:
    found = [s.value for f in merged.collect() for s in f.samples if s.name == PREFIX + name and s.labels == labels]
    assert len(found) <= 1
    return found[0] if found else None


def test_counts_are_summed_and_what_all_share_is_the_highest() -> None:
    merged = MergedMetrics()
    merged.update(1, worker(2, generation=7, active=1).snapshot())
    merged.update(2, worker(3, generation=8, active=4).snapshot())
    assert value(merged, "closed_total", **AT, reason="COMPLETED") == 5
    assert value(merged, "connection_seconds_bucket", **AT, le="5.0") == 5
    assert value(merged, "connection_seconds_sum", **AT) == 10.0
    assert value(merged, "bytes_total", **AT, flow="sent") == 100
    assert value(merged, "connections_active", **AT) == 5
    assert value(merged, "trust_generation") == 8
    assert value(merged, "last_reload_timestamp_seconds") == 8.0
    assert value(merged, "certificate_not_after_timestamp_seconds", kind="leaf") == 10.0
    assert value(merged, "build_info", version="1.2.3", tls_engine="openssl", tls_engine_version="4.0.3") == 1


def test_a_newer_snapshot_replaces_the_older_one_of_the_same_worker() -> None:
    merged = MergedMetrics()
    metrics = worker(1, generation=1)
    merged.update(1, metrics.snapshot())
    metrics.emit(CLOSED)
    merged.update(1, metrics.snapshot())
    assert value(merged, "closed_total", **AT, reason="COMPLETED") == 2


def test_a_dead_worker_leaves_its_totals_and_takes_its_gauges() -> None:
    merged = MergedMetrics()
    merged.update(1, worker(2, generation=1, active=3).snapshot())
    merged.update(2, worker(1, generation=1, active=1).snapshot())
    merged.retire(1)
    assert value(merged, "closed_total", **AT, reason="COMPLETED") == 3
    assert value(merged, "connections_active", **AT) == 1
    merged.update(3, worker(0, generation=1).snapshot())
    assert value(merged, "closed_total", **AT, reason="COMPLETED") == 3
    merged.retire(2)
    merged.retire(3)
    merged.retire(99)
    assert value(merged, "closed_total", **AT, reason="COMPLETED") == 3
    assert value(merged, "connection_seconds_count", **AT) == 3
    assert value(merged, "connections_active", **AT) is None


def test_first_and_last_times_outlive_the_worker_that_saw_them() -> None:
    plaintext = msgspec.structs.replace(CLOSED, security=Security.PLAINTEXT)
    early, late = worker(0, generation=5), worker(0, generation=9)  # `worker` publishes at the second of that number
    early.emit(plaintext)
    merged = MergedMetrics()
    merged.update(1, early.snapshot())
    merged.update(2, late.snapshot())
    merged.update(3, make().snapshot())  # has not served yet, which is no time
    merged.retire(1)
    assert value(merged, "serving_since_timestamp_seconds") == 5.0
    assert value(merged, "last_plaintext_timestamp_seconds", **AT) == CLOSED.start_time + CLOSED.duration_s


def test_looking_twice_adds_nothing() -> None:
    merged = MergedMetrics()
    merged.update(1, worker(2, generation=1).snapshot())
    merged.retire(1)
    merged.update(2, worker(2, generation=1).snapshot())
    assert [value(merged, "closed_total", **AT, reason="COMPLETED") for _ in range(3)] == [4, 4, 4]


def test_one_worker_merged_reads_as_the_worker_itself() -> None:
    metrics = worker(2, generation=3, active=1)
    merged = MergedMetrics()
    merged.update(1, metrics.snapshot())
    for accept in ("", "application/openmetrics-text"):
        assert merged.expose(accept) == metrics.expose(accept)


def test_every_prefix_of_a_snapshot_is_refused_and_the_old_one_stays() -> None:
    snapshot = make(HTTP).snapshot()
    merged = MergedMetrics()
    merged.update(1, snapshot)
    before = merged.expose("")
    for cut in range(len(snapshot)):
        with pytest.raises(ValueError, match="not a snapshot"):
            merged.update(1, snapshot[:cut])
    assert merged.expose("") == before


@given(st.binary(max_size=100))
def test_junk_after_or_instead_of_a_snapshot_is_refused(junk: bytes) -> None:
    merged = MergedMetrics()
    snapshot = msgspec.msgpack.encode([])
    if junk:
        with pytest.raises(ValueError, match="not a snapshot"):
            merged.update(1, snapshot + junk)
    try:
        merged.update(1, junk)
    except ValueError:
        pass


def test_a_snapshot_beyond_the_bound_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than"):
        MergedMetrics().update(1, bytes(MAX_SNAPSHOT_BYTES + 1))
