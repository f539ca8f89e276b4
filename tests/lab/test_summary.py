"""The sentences at the top of a report."""

import msgspec
import pytest

from proxy.core.reasons import Reason
from proxy.lab.difference import difference
from proxy.lab.results import Maximum, Result
from proxy.lab.summary import comparison, summary
from tests.lab.documents import SCENARIO, result_of, round_of, row_of
from tests.lab.samples import handshakes, peers, relay


def sentence(result: Result, start: str) -> str:
    (found,) = [one for one in summary(result) if one.startswith(start)]
    return found


def run(cpu_us: float, **scenario: object) -> Result:
    return result_of(row_of(*(round_of(cpu_us=cpu_us + number) for number in range(7)), **scenario))


def test_the_cost_of_a_handshake_and_what_a_core_accepts() -> None:
    two = result_of(*run(500).rows, *run(1000, version="1.2").rows)
    assert sentence(two, "A full") == (
        "A full handshake: server CPU per handshake 503 µs (TLS 1.3, full) to 1 ms (TLS 1.2, full). "
        "One core accepts 997 to 1,988 a second."
    )
    assert sentence(run(500), "A full").endswith("503 µs (TLS 1.3, full). One core accepts 1,988 a second.")


@pytest.mark.parametrize(
    ("cpu_us", "said"),
    [(750.0, "50 % more"), (400.0, "20 % less"), (1500.0, "3.0 times as much"), (501.0, "no difference beyond noise")],
)
def test_one_version_against_the_other(cpu_us: float, said: str) -> None:
    rows = [round_of(cpu_us=500 + number) for number in (0, 9, 4, 1, 8, 5)]
    other = [round_of(cpu_us=cpu_us + number) for number in (9, 0, 1, 8, 4, 5)]
    result = result_of(row_of(*rows, version="1.2"), row_of(*other, version="1.3"))
    assert sentence(result, "TLS 1.3 against") == f"TLS 1.3 against TLS 1.2, server CPU per handshake: {said}."


def test_round_trips_are_told_at_the_longest() -> None:
    assert "With 80 ms of network round trip the median full handshake takes" in sentence(
        handshakes(), "With 80 ms of network round trip the median full"
    )
    assert sentence(handshakes(), "With 80 ms of network round trip the median full").endswith(
        "TLS 1.3 saves one round trip."
    )
    assert sentence(handshakes(), "With 80 ms of network round trip the median resumed").endswith("TLS 1.3 saves none.")


def test_round_trips_that_were_counted_are_not_guessed_from_latencies() -> None:
    """On a busy machine the difference of two medians says anything."""
    rows = [
        row_of(round_of(latency_s=latency_s, round_trips=trips * 100), version=version, rtt_s=rtt_s)
        for rtt_s in (0.0, 0.02)
        for version, latency_s, trips in (("1.2", 0.133, 4), ("1.3", 0.079, 3))
    ]
    assert sentence(result_of(*rows), "With 20 ms").endswith(
        "takes 133 ms over TLS 1.2 and 79 ms over TLS 1.3: TLS 1.3 saves one round trip."
    )


def test_peers_are_told_against_the_first_side() -> None:
    said = sentence(peers(), "Against sidecar, ")
    assert said.startswith("Against sidecar, server CPU per handshake: haproxy 8")
    assert [side for side in ("haproxy", "nginx", "envoy") if f"{side} " not in said] == []
    assert sentence(peers(), "A full handshake on sidecar: server CPU per handshake 6")
    assert sentence(peers(), "Not whole") == "Not whole: envoy, TLS 1.3, resumed: envoy resumed no session in TLS 1.3."


def test_every_workload_of_a_relay_has_its_price() -> None:
    sentences = summary(relay())
    for subject in (
        "A request with its response",
        "Bulk from the client",
        "Bulk from the server",
        "An idle connection",
    ):
        assert any(one.startswith(f"{subject}: ") for one in sentences)
    assert "Mutual TLS against plaintext, server CPU per GB: 31 % more." in sentences


def test_failures_are_counted_and_explained() -> None:
    result = result_of(row_of(round_of(failures={Reason.UPSTREAM_REJECTED_US: 25})))
    assert sentence(result, "25 of 125") == "25 of 125 attempts failed; they are in no latency."
    assert "The upstream's log has its reason" in sentence(result, "UPSTREAM_REJECTED_US, 25 times: ")


def test_a_client_at_its_limit_is_said() -> None:
    result = result_of(row_of(round_of(client_limited=True)), row_of(version="1.2"))
    assert sentence(result, "In 1 of 2 rows").startswith(
        "In 1 of 2 rows the client, not the server, was the bottleneck"
    )


def test_an_unknown_cpu_is_said() -> None:
    assert sentence(result_of(row_of(round_of(cpu_us=None))), "The server's CPU time is unknown")
    assert not any("unknown" in one for one in summary(result_of()))


def test_nothing_measured_is_not_a_crash() -> None:
    faulty = msgspec.structs.replace(row_of(), rounds=(), fault="the target left.")
    assert summary(result_of(faulty)) == ["Not whole: TLS 1.3, full: the target left."]


def test_what_a_search_found_is_said() -> None:
    maxima = (
        Maximum(scenario=SCENARIO, slo="p99=20ms", rate=1234.0),
        Maximum(scenario=SCENARIO, slo="p50=1ms", rate=None),
    )
    said = [one for one in summary(result_of(maxima=maxima)) if one.startswith("The highest rate")]
    assert said == [
        "The highest rate that kept p99=20ms: 1,234/s (TLS 1.3, full).",
        "The highest rate that kept p50=1ms: none of those tried (TLS 1.3, full).",
    ]


def test_notes_come_last() -> None:
    assert (
        summary(result_of(notes=("Client and server shared the cores.",)))[-1] == "Client and server shared the cores."
    )


def test_a_comparison_says_what_got_worse_and_better() -> None:
    before, after = run(700), run(800)
    assert comparison(difference(before, after)) == [
        "Worse: server CPU per handshake, in one row, TLS 1.3, full: +14 % (703 µs before, 803 µs after)."
    ]
    assert comparison(difference(after, before))[0].startswith("Better: server CPU per handshake, in one row")


def test_a_comparison_of_the_same_says_noise_and_what_is_missing() -> None:
    both = result_of(*run(700).rows, row_of(version="1.2"))
    assert comparison(difference(both, run(700))) == [
        "Nothing changed by more than noise (8 figures compared).",
        "Rows that only the first file has, 1: TLS 1.2, full.",
    ]
    assert comparison(difference(run(700), both))[-1] == "Rows that only the second file has, 1: TLS 1.2, full."
