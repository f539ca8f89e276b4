"""Adding up generators: exact, in any order and in any steps, or refused with a sentence."""

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.reasons import Reason
from proxy.lab.latencies import Latencies
from proxy.lab.merge import Unmergeable, merge
from proxy.lab.results import Maximum, Result, Round, decode, encode, latencies
from tests.lab.documents import ENVIRONMENT, SCENARIO, result_of, round_of, row_of

SECONDS = st.lists(st.floats(min_value=1e-6, max_value=10), min_size=1, max_size=30)


def recorded(seconds: list[float]) -> Latencies:
    held = Latencies()
    for latency in seconds:
        held.record(latency)
    return held


def generator(seconds: list[float], **fields: object) -> Result:
    round_ = Round(
        count=len(seconds),
        seconds=10.0,
        client_cpu_s=0.5,
        failures={Reason.RESET: len(seconds) // 3},
        bytes_sent=1000 * len(seconds),
        bytes_received=None,
        latency=recorded(seconds).encode(),
        client_limited=False,
    )
    return result_of(row_of(round_, version="1.2"), row_of(round_, version="1.3"), target="orders:15006", **fields)


def merged(*results: Result) -> Result:
    total = merge(results, [f"{number}.json" for number, _ in enumerate(results)])
    return decode(encode(total), "the sum")  # what is merged can be read


@given(parts=st.lists(SECONDS, min_size=2, max_size=5))
@settings(deadline=None, max_examples=40)
def test_the_sum_is_exactly_what_one_generator_had_recorded(parts: list[list[float]]) -> None:
    total = merged(*(generator(part) for part in parts))
    everything = [latency for part in parts for latency in part]
    for row in total.rows:
        (round_,) = row.rounds
        assert latencies(round_) == recorded(everything)
        assert round_.count == len(everything)
        assert round_.bytes_sent == 1000 * len(everything)
        assert round_.failures == {Reason.RESET: sum(len(part) // 3 for part in parts)}


def test_the_order_and_the_steps_do_not_matter() -> None:
    dice = random.Random(5)
    parts = [generator([dice.lognormvariate(-6, 1) for _ in range(100)], run=str(number)) for number in range(5)]
    at_once = merged(*parts)
    in_steps = merged(merged(parts[3], parts[0]), parts[4], merged(parts[2], parts[1]))
    assert msgspec.structs.replace(in_steps, run=at_once.run) == at_once
    assert [source.run for source in at_once.merged_from] == ["0", "1", "2", "3", "4"]


def test_what_is_in_flight_and_what_is_offered_add_up() -> None:
    closed, opened = (result_of(row_of(**load)) for load in ({"concurrency": 64}, {"concurrency": None, "rate": 0.1}))
    sums = [
        merged(*(msgspec.structs.replace(one, run=str(number)) for number in range(3))).rows[0].scenario
        for one in (closed, opened)
    ]
    assert (sums[0].concurrency, sums[0].rate) == (192, None)
    assert (sums[1].concurrency, sums[1].rate) == (None, pytest.approx(0.3))


def test_the_longest_round_is_the_time_and_the_clients_cpu_a_sum() -> None:
    total = merged(result_of(row_of(round_of(seconds=9.0))), result_of(row_of(round_of(seconds=11.0))))
    (round_,) = total.rows[0].rounds
    assert (round_.seconds, round_.client_cpu_s, round_.client_processes) == (11.0, pytest.approx(0.08), 2)


def test_the_cpu_of_one_target_is_not_counted_twice() -> None:
    """It is the one server of all of them; a server of each one's own adds up."""
    readings = (0.5, 0.7)
    totals = [
        merged(*(result_of(row_of(round_of(server_cpu_s=cpu)), target=target) for cpu in readings))
        for target in ("orders:15006", None)
    ]
    assert [total.rows[0].rounds[0].server_cpu_s for total in totals] == pytest.approx([0.7, 1.2])


def test_what_one_does_not_know_is_unknown() -> None:
    known, unknown = round_of(), round_of(round_trips=None, client_cpu_s=None, latency=None)
    (round_,) = merged(result_of(row_of(known)), result_of(row_of(unknown))).rows[0].rounds
    assert (round_.round_trips, round_.client_cpu_s, round_.latency) == (None, None, None)


@pytest.mark.parametrize(
    ("limited", "expected"),
    [((False, False), False), ((False, None), None), ((True, None), True), ((False, True), True)],
)
def test_one_generator_that_was_the_bottleneck_is_enough(limited: tuple[bool, bool], expected: bool | None) -> None:
    total = merged(*(result_of(row_of(round_of(client_limited=one))) for one in limited))
    assert total.rows[0].rounds[0].client_limited is expected


def test_a_fault_of_one_is_a_fault_of_the_sum() -> None:
    broken = msgspec.structs.replace(row_of(round_of()), fault="the target left", rounds=())
    total = merged(result_of(row_of()), result_of(broken))
    assert (total.rows[0].fault, total.rows[0].rounds) == ("the target left", ())


RUN = result_of()
OTHER_ENVIRONMENT = msgspec.structs.replace(ENVIRONMENT, package="0.3.0")


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (RUN, "b.json and a.json hold the same run: it would be counted twice"),
        (
            result_of(kind="relay"),
            "b.json does not fit: the command is bench relay there, and bench handshake in a.json",
        ),
        (result_of(seed=8), "b.json does not fit: the seed is 8 there, and 7 in a.json"),
        (result_of(target="other:1"), "b.json does not fit: the target is other:1 there, and none in a.json"),
        (result_of(environment=OTHER_ENVIRONMENT), "mtls-sidecar is 0.3.0 there, and 0.2.0 in a.json"),
        (result_of(configuration={"rounds": 7}), "the option rounds is 7 there, and 5 in a.json"),
        (result_of(sides={"sidecar": "x"}), "b.json does not fit: sidecar is x there, and None in a.json"),
        (result_of(row_of(), row_of(version="1.2")), "a.json does not have the row 'TLS 1.2, full'"),
        (result_of(row_of(concurrency=9)), "does not have the row"),
        (result_of(row_of(round_of(), round_of())), "another number of rounds of 'TLS 1.3, full' than a.json"),
        (result_of(started_at="2026-11-24T12:00:37Z"), "the generators started 37 s apart"),
        (result_of(started_at="noon"), "'noon' is no time"),
        (result_of(maxima=(Maximum(scenario=SCENARIO, slo="p99=20ms", rate=1.0),)), "b.json searched for the knee"),
    ],
)
def test_what_does_not_fit_is_refused(other: Result, sentence: str) -> None:
    with pytest.raises(Unmergeable) as refusal:
        merge([RUN, other], ["a.json", "b.json"])
    assert sentence in str(refusal.value)


def test_a_run_that_is_in_a_sum_already_is_refused() -> None:
    parts = [result_of(), result_of()]
    with pytest.raises(Unmergeable, match="hold the same run"):
        merge([merged(*parts), parts[1]], ["sum.json", "b.json"])


def test_generators_differ_in_their_number() -> None:
    parts = [result_of(configuration={"rounds": 5, "fleet": f"{index}/2"}) for index in range(2)]
    assert len(merged(*parts).merged_from) == 2
