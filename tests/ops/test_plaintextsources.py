"""Logs as kubectl, a container runtime and Docker give them, and what the endpoints show, become evidence."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.events import Direction, Listener, Relaying, Security
from proxy.core.plaintext import Evidence, Grouping, Kind, Speaks
from proxy.core.reasons import Reason
from proxy.ops.plaintextsources import (
    MAX_LINE_BYTES,
    LogCount,
    is_connections,
    is_metrics,
    names_of,
    read_connections,
    read_log,
    read_metrics,
)
from tests.ops.test_metrics import CLOSED, HTTP, living, make

AT = 1_795_521_700.0
LINE = {
    "timestamp": "2026-11-24T12:00:10Z",
    "level": "info",
    "event": "connection",
    "start_time": "2026-11-24T12:00:00Z",
    "duration_s": 10.0,
    "direction": "inbound",
    "listener": "http",
    "downstream_remote_address": "10.0.0.1:4242",
    "downstream_local_address": "10.0.0.2:15006",
    "security": "plaintext",
    "reason": "COMPLETED",
    "detail": "",
    "tls": None,
}


def line(**changes: object) -> bytes:
    return json.dumps(LINE | changes).encode()


def read(*lines: bytes) -> tuple[Evidence, LogCount]:
    evidence, count = Evidence(Grouping()), LogCount()
    read_log(lines, "orders.log", evidence, count)
    return evidence, count


def test_a_plaintext_connection_is_a_client_with_its_times() -> None:
    evidence, count = read(line())
    (client,) = evidence.clients.values()
    assert (client.client, client.listener, client.port, client.speaks) == ("10.0.0.1", "http", 15006, "plaintext")
    assert client.last_seen - client.first_seen == 10.0
    assert (count.lines, count.skipped) == (1, 0)
    assert evidence.listeners["http"].relayed == {Kind.LOG: {"plaintext": 1}}


def test_what_a_client_speaks() -> None:
    refused = {"level": "warning", "security": None, "reason": "PLAINTEXT_REFUSED"}
    no_app = {"level": "warning", "reason": "UPSTREAM_REFUSED"}
    evidence, _ = read(line(**refused), line(**no_app), line(security="app_tls"), line(security="mutual_tls"))
    assert [one.speaks for one in evidence.clients.values()] == [Speaks.REFUSED, Speaks.PLAINTEXT, Speaks.APP_TLS]
    assert evidence.listeners["http"].refused[Kind.LOG] == {"PLAINTEXT_REFUSED": 1, "UPSTREAM_REFUSED": 1}


def test_outbound_connections_are_no_business_of_this() -> None:
    assert read(line(direction="outbound"))[0].listeners == {}


@pytest.mark.parametrize(
    ("before", "name"),
    [
        (b"", "orders.log"),
        (b"[pod/orders-7d9f-x2/mtls-sidecar] ", "orders-7d9f-x2"),
        (b"[pod/orders-7d9f-x2/mtls-sidecar] 2026-11-24T12:00:10.1Z ", "orders-7d9f-x2"),
        (b"2026-11-24T12:00:10.123456789Z stderr F ", "orders.log"),  # a container runtime's own file
        (b"orders-sidecar-1  | ", "orders-sidecar-1"),
        (b"Nov 24 12:00:10 host mtls-sidecar[7]: ", "orders.log"),
    ],
)
def test_what_stands_before_the_json_may_name_the_sidecar(before: bytes, name: str) -> None:
    evidence, count = read(before + line())
    assert count.skipped == 0
    assert [sidecar.name for sidecar in evidence.sidecars.values()] == [name]


def test_dockers_wrapping_is_taken_off() -> None:
    wrapped = json.dumps({"log": line().decode() + "\n", "stream": "stderr", "time": "2026-11-24T12:00:10Z"})
    evidence, count = read(wrapped.encode())
    assert (len(evidence.clients), count.skipped) == (1, 0)


def test_lines_that_are_not_ours_are_counted_and_skipped() -> None:
    foreign = [
        b"GET / 200",
        b'{"msg": "an app"}',
        b"{",
        b'{"log": 7}',
        b'{"log": "x"}',
        line(start_time=5),
        b"\xff{\xff",
    ]
    evidence, count = read(*foreign, line(), line() + b" " * MAX_LINE_BYTES)
    assert (count.lines, count.skipped) == (9, 8)
    assert len(evidence.clients) == 1


def test_every_prefix_of_a_line_is_skipped() -> None:
    whole = line()
    _, count = read(*[whole[:cut] for cut in range(1, len(whole))])
    assert count.skipped == count.lines


@given(st.lists(st.binary(max_size=80) | st.binary(max_size=20).map(lambda junk: line() + junk)))
def test_no_line_ends_the_reading(lines: list[bytes]) -> None:
    _, count = read(*lines)
    assert count.lines == len(lines)


@given(st.dictionaries(st.sampled_from(sorted(LINE)), st.none() | st.integers() | st.text() | st.floats(), max_size=4))
def test_no_value_ends_the_reading(changes: dict[str, object]) -> None:
    assert read(line(**changes))[1].lines == 1


def test_the_period_of_a_log_is_that_of_its_lines() -> None:
    evidence, _ = read(line(), line(timestamp="2026-11-24T18:00:00Z", event="reload", listener=None))
    (sidecar,) = evidence.sidecars.values()
    assert sidecar.last - sidecar.first == 6 * 3600 - 10


def test_a_listener_without_a_connection_is_known_from_its_first_line() -> None:
    evidence, _ = read(line(event="listening", address="0.0.0.0:15006"))
    assert evidence.listeners["http"].addresses == {"0.0.0.0:15006"}
    assert evidence.listeners["http"].relayed == {}


def test_a_level_above_info_is_noticed() -> None:
    raised = line(event="notice", level="warning", detail="log level info -> warning, asked for at the admin endpoint")
    assert [one.hides for one in read(line(level="warning"))[0].sidecars.values()] == [None]
    assert [one.hides for one in read(line())[0].sidecars.values()] == [False]
    assert [one.hides for one in read(line(), raised, line())[0].sidecars.values()] == [True]


def test_dropped_lines_are_noticed() -> None:
    evidence, _ = read(line(event="log lines were dropped", lines=7, level="warning"))
    assert [one.dropped for one in evidence.sidecars.values()] == [7]


class TestMetrics:
    def evidence(self, text: str) -> Evidence:
        evidence = Evidence(Grouping())
        read_metrics(text, "10.0.0.9:15021", AT, evidence)
        return evidence

    def text(self) -> str:
        metrics = make(HTTP, Listener(Direction.OUTBOUND, "payments"))
        metrics.set_identity(generation=1, leaf=1.0, chain=1.0, bundle=1.0, published_at=AT - 100)
        metrics.emit(Relaying(HTTP, Security.PLAINTEXT))
        metrics.emit(Relaying(HTTP, Security.PLAINTEXT))
        metrics.emit(msgspec.structs.replace(CLOSED, security=Security.PLAINTEXT))
        metrics.emit(msgspec.structs.replace(CLOSED, reason=Reason.PLAINTEXT_REFUSED))
        metrics.watch(lambda: [living(security=Security.PLAINTEXT)])
        return metrics.expose("")[1].decode()

    def test_they_say_that_and_when_and_for_how_long(self) -> None:
        evidence = self.evidence(self.text())
        assert list(evidence.listeners) == ["http"]
        listener = evidence.listeners["http"]
        assert listener.words(listener.relayed)["plaintext"] == 2
        assert listener.words(listener.refused) == {"PLAINTEXT_REFUSED": 1}
        assert listener.open_plaintext == 1
        assert listener.last_plaintext == CLOSED.start_time + CLOSED.duration_s
        (sidecar,) = listener.sidecars.values()
        assert (sidecar.first, sidecar.last) == (AT - 100, AT)

    def test_prometheus_has_many_sidecars_in_one_body(self) -> None:
        at = 'direction="inbound",listener="http",security="plaintext"'
        evidence = self.evidence(
            f'mtls_sidecar_connections_total{{{at},pod="orders-1",instance="10.0.0.1:15021"}} 2 1795521600000\n'
            f'mtls_sidecar_connections_total{{{at},pod="orders-2",instance="10.0.0.2:15021"}} 3 1795521600000\n'
            f'mtls_sidecar_serving_since_timestamp_seconds{{pod="orders-1"}} {AT - 50}\n'
            f'mtls_sidecar_serving_since_timestamp_seconds{{pod="orders-2"}} {AT - 70}\n'
        )
        assert {one.name: one.last - one.first for one in evidence.sidecars.values()} == {
            "orders-1": 50,
            "orders-2": 70,
        }
        listener = evidence.listeners["http"]
        assert listener.words(listener.relayed) == {"plaintext": 5}
        assert len(listener.sidecars) == 2

    def test_a_sidecar_that_does_not_say_since_when_covers_no_time(self) -> None:
        evidence = self.evidence('mtls_sidecar_connections_active{direction="inbound",listener="http"} 1\n')
        assert [(one.first, one.last) for one in evidence.sidecars.values()] == [(AT, AT)]

    def test_modes_and_addresses(self) -> None:
        labels = 'direction="inbound",listener="http",mode="PERMISSIVE",listen="0.0.0.0:15006"'
        listener = self.evidence(f"mtls_sidecar_listener_info{{{labels}}} 1\n").listeners["http"]
        assert (listener.modes, listener.addresses) == ({"PERMISSIVE"}, {"0.0.0.0:15006"})

    @pytest.mark.parametrize("text", ["", "up 1\n", "# HELP x y\n"])
    def test_what_is_no_sidecars_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match="mtls_sidecar_"):
            self.evidence(text)

    @given(st.text(max_size=60), st.integers(0, 4000))
    def test_junk_is_refused_or_read(self, junk: str, cut: int) -> None:
        for text in (junk, self.text()[:cut] + junk):
            try:
                self.evidence(text)
            except (ValueError, IndexError, KeyError):  # as reportsources.py takes them
                pass

    @pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf"])
    def test_no_number_is_no_count(self, value: str) -> None:
        labels = '{direction="inbound",listener="http",security="plaintext"}'
        listener = self.evidence(f"mtls_sidecar_connections_total{labels} {value}\n").listeners
        assert listener == {}


def connection(**changes: object) -> dict[str, object]:
    return {
        "direction": "inbound",
        "listener": "http",
        "phase": "relaying",
        "start_time": "2026-11-24T12:00:00.250Z",
        "downstream_remote_address": "[2001:db8::7]:4242",
        "downstream_local_address": "[2001:db8::1]:15006",
        "security": "plaintext",
    } | changes


def test_open_connections_have_names() -> None:
    body = json.dumps([connection(), connection(security="mutual_tls"), connection(direction="outbound")])
    evidence = Evidence(Grouping())
    read_connections(body.encode(), "a", AT, evidence)
    (client,) = evidence.clients.values()
    assert (client.client, client.port, client.open, client.connections) == ("2001:db8::7", 15006, 1, 0)
    assert client.last_seen == AT


@given(st.binary(max_size=60))
def test_what_is_no_list_of_connections_is_refused(junk: bytes) -> None:
    evidence = Evidence(Grouping())
    try:
        read_connections(junk, "a", AT, evidence)
    except ValueError:
        pass
    assert evidence.clients == {}


def test_kinds_of_bodies_are_told_apart_by_their_beginning() -> None:
    metrics, _ = make().expose("")[1], None
    log = b"[pod/orders-1/mtls-sidecar] " + line()
    kinds = [(is_metrics(body), is_connections(body)) for body in (metrics, b"[]", log, line())]
    assert kinds == [(True, False), (False, True), (False, False), (False, False)]


def test_names_are_lines_of_an_address_and_the_rest() -> None:
    text = "# pods\n10.0.0.1   shop   cart-7d9f\n\n10.0.0.2\n2001:db8::7 web\n"
    assert names_of(text) == {"10.0.0.1": "shop cart-7d9f", "2001:db8::7": "web"}
