"""The gate's expressions: what they mean, what they refuse, and that they fail closed."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.lab.difference import difference
from proxy.lab.gate import BadGate, Limit, Outcome, judge, parse
from proxy.lab.measures import BY_KEY
from proxy.lab.results import Result
from tests.lab.documents import REJECTED_ONCE, result_of, round_of, row_of


def run(cpu_us: float | None, *, latency_s: float = 0.004, rounds: int = 5, **scenario: object) -> Result:
    """A run whose rounds vary by 1 %, as on a quiet machine."""
    factors = [1 + (number - rounds // 2) / 100 for number in range(rounds)]
    made = [round_of(cpu_us=cpu_us and cpu_us * factor, latency_s=latency_s * factor) for factor in factors]
    return result_of(row_of(*made, **scenario))


def outcomes(text: str, before: Result, after: Result) -> list[Outcome]:
    return [finding.outcome for finding in judge(parse(text), after, difference(before, after))]


@pytest.mark.parametrize(
    ("text", "limit", "value"),
    [
        ("cpu_per_handshake > +10%", Limit.FACTOR, 0.1),
        ("handshakes_per_s<-5%", Limit.FACTOR, -0.05),
        ("  p99 >= + 2 ms ", Limit.AMOUNT, 0.002),
        ("p99 > 20ms", Limit.FIGURE, 0.02),
        ("cpu_per_handshake > 900us", Limit.FIGURE, 0.0009),
        ("cpu_per_handshake > 900µs", Limit.FIGURE, 0.0009),
        ("failure_share > 0.1%", Limit.FIGURE, 0.001),
        ("failure_share > +0.1%", Limit.AMOUNT, 0.001),
        ("handshakes_per_s < 1000", Limit.FIGURE, 1000),
        ("handshakes_per_s < 1000/s", Limit.FIGURE, 1000),
        ("memory_per_connection > 38KiB", Limit.FIGURE, 38 * 1024),
        ("throughput < 1.5 GB/s", Limit.FIGURE, 1.5e9),
        ("round_trips > 2", Limit.FIGURE, 2),
    ],
)
def test_an_expression_means(text: str, limit: Limit, value: float) -> None:
    gate = parse(text)
    assert (gate.limit, gate.value) == (limit, pytest.approx(value))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is no gate: write a measure, < or >, and a limit, such as 'cpu_per_handshake > +10%'"),
        ("cpu_per_handshake", "is no gate"),
        ("p99 > 20ms and p50 > 1ms", "is no gate"),
        ("p99 == 20ms", "is no gate"),
        ("p99 > twenty", "is no gate"),
        ("p99 > " + "9" * 300, "is no gate"),
        ("latency > 1ms", "'latency' is no measure; these are: handshakes_per_s, cpu_per_handshake"),
        ("p99 > 10%", "a percentage is of a change, so it needs a sign: +10% or -10%"),
        ("p99 > 20", "p99 is in s, ms, us, µs; or write a change, with its sign, in %"),
        ("p99 > 20MiB", "p99 is in s, ms, us, µs"),
        ("round_trips > 2ms", "round_trips is in a bare number"),
        ("p99[colour=red] > 1ms", "chooses no rows: write [FIELD=VALUE, ...] with the fields side, workload"),
        ("p99[version] > 1ms", "chooses no rows"),
    ],
)
def test_another_expression_is_refused_with_what_would_be_one(text: str, sentence: str) -> None:
    with pytest.raises(BadGate) as refusal:
        parse(text)
    assert sentence in str(refusal.value)


@settings(deadline=None)
@given(text=st.text(max_size=250))
def test_junk_is_refused(text: str) -> None:
    with pytest.raises(BadGate):
        parse(text)


@settings(deadline=None)
@given(
    key=st.sampled_from(sorted(BY_KEY)),
    operator=st.sampled_from(["<", ">", "<=", ">="]),
    sign=st.sampled_from("+-"),
    number=st.floats(0, 1e9).map(lambda value: f"{value:.6f}"),
)
def test_every_measure_takes_a_change_in_percent(key: str, operator: str, sign: str, number: str) -> None:
    gate = parse(f"{key} {operator} {sign}{number}%")
    assert gate.measure.key == key
    assert gate.value == pytest.approx(float(f"{sign}{number}") / 100)


def test_every_prefix_of_an_expression_is_refused() -> None:
    text = "p99[version=1.3] > 20ms"
    for length in range(len(text)):
        with pytest.raises(BadGate):
            parse(text[:length])


@pytest.mark.parametrize(
    ("after", "expected"),
    [(run(850), Outcome.FAILED), (run(710), Outcome.PASSED), (run(400), Outcome.PASSED), (run(None), Outcome.UNKNOWN)],
)
def test_a_change_beyond_the_limit_fails(after: Result, expected: Outcome) -> None:
    assert outcomes("cpu_per_handshake > +10%", run(700), after) == [expected]


def test_a_change_that_is_noise_passes_and_is_said() -> None:
    rounds = [round_of(cpu_us=cpu) for cpu in (500, 600, 900, 1200, 1300)]
    assert outcomes("cpu_per_handshake > +10%", run(780), result_of(row_of(*rounds))) == [Outcome.NOISE]


def test_a_change_that_too_few_rounds_cannot_judge_fails() -> None:
    assert outcomes("cpu_per_handshake > +10%", run(700, rounds=1), run(850, rounds=1)) == [Outcome.FAILED]


def test_a_drop_of_a_rate_fails() -> None:
    slow = result_of(row_of(*(round_of(seconds=1.3 + number / 100) for number in range(5))))
    assert outcomes("handshakes_per_s < -10%", run(700), slow) == [Outcome.FAILED]


def test_a_change_by_an_amount_fails() -> None:
    assert outcomes("p50 > +1ms", run(700), run(700, latency_s=0.0052)) == [Outcome.FAILED]


def test_a_row_that_is_gone_fails() -> None:
    before = result_of(*run(700).rows, *run(700, version="1.2").rows)
    findings = judge(parse("cpu_per_handshake > +10%"), run(700), difference(before, run(700)))
    assert [finding.outcome for finding in findings] == [Outcome.PASSED, Outcome.UNKNOWN]
    assert findings[1].sentence == "TLS 1.2, full: the second file does not have this row"


def test_a_row_with_a_fault_fails_even_with_good_figures() -> None:
    (row,) = run(700).rows
    faulty = result_of(msgspec.structs.replace(row, fault="no session was resumed"))
    (finding,) = judge(parse("cpu_per_handshake > 900us"), faulty, None)
    assert (finding.outcome, finding.sentence) == (Outcome.UNKNOWN, "TLS 1.3, full: no session was resumed")
    assert outcomes("cpu_per_handshake > +10%", run(700), faulty) == [Outcome.UNKNOWN]
    assert outcomes("cpu_per_handshake > +10%", faulty, run(700)) == [Outcome.UNKNOWN]


@pytest.mark.parametrize(("text", "fails"), [("failure_share > 0%", True), ("failure_share > 2%", False)])
def test_failures_have_a_gate(text: str, fails: bool) -> None:
    result = result_of(row_of(round_of(failures=REJECTED_ONCE)))
    assert [finding.fails for finding in judge(parse(text), result, None)] == [fails]


def test_failures_that_were_none_before_fail_a_change_by_points() -> None:
    after = result_of(row_of(*(round_of(failures=REJECTED_ONCE) for _ in range(5))))
    assert outcomes("failure_share > +0.5%", run(700), after) == [Outcome.FAILED]


def test_brackets_choose_rows() -> None:
    result = result_of(*run(700).rows, *run(950, version="1.2").rows)
    assert [finding.fails for finding in judge(parse("cpu_per_handshake > 900us"), result, None)] == [False, True]
    chosen = judge(parse("cpu_per_handshake[version=1.3, key=p-256] > 900us"), result, None)
    assert [finding.fails for finding in chosen] == [False]


def test_a_gate_without_a_row_fails() -> None:
    (finding,) = judge(parse("p99[side=haproxy] > 20ms"), run(700), None)
    assert (finding.outcome, finding.sentence) == (Outcome.UNKNOWN, "no row has this measure")


def test_a_change_needs_two_files() -> None:
    with pytest.raises(BadGate, match="asks for a change: give two files, the one before and the one after"):
        judge(parse("p99 > +10%"), run(700), None)
