"""Two documents side by side."""

import msgspec
import pytest

from proxy.lab.difference import difference
from proxy.lab.measures import BY_KEY
from proxy.lab.results import BadResult, Result
from proxy.lab.stats import Verdict
from tests.lab.documents import ENVIRONMENT, result_of, round_of, row_of

CPU = [BY_KEY["cpu_per_handshake"]]


def run(*cpu_us: float, **fields: object) -> Result:
    return result_of(row_of(*(round_of(cpu_us=cpu) for cpu in cpu_us)), **fields)


@pytest.mark.parametrize(
    ("after", "expected", "worse", "better"),
    [
        ((800.0, 805.0, 810.0, 795.0), Verdict.HIGHER, True, False),
        ((600.0, 605.0, 610.0, 595.0), Verdict.LOWER, False, True),
        ((700.0, 690.0, 712.0, 705.0), Verdict.NOISE, False, False),
        ((900.0,), Verdict.TOO_FEW, False, False),
    ],
)
def test_a_change_is_judged(after: tuple[float, ...], expected: Verdict, worse: bool, better: bool) -> None:
    (change,) = difference(run(700, 705, 695, 702), run(*after)).changes(CPU)
    assert (change.verdict, change.is_worse, change.is_better) == (expected, worse, better)


def test_of_a_rate_more_is_better() -> None:
    before, after = (result_of(row_of(*(round_of(seconds=s + n / 99) for n in range(4)))) for s in (2.0, 1.0))
    (change,) = difference(before, after).changes([BY_KEY["handshakes_per_s"]])
    assert change.is_better


def test_a_row_that_is_not_whole_is_shown_and_not_judged() -> None:
    after = run(900, 901, 902, 903)
    faulty = msgspec.structs.replace(after.rows[0], fault="the target left")
    for pair in ((run(700, 701, 702, 703), result_of(faulty)), (result_of(faulty), run(700, 701, 702, 703))):
        (change,) = difference(*pair).changes(CPU)
        assert (change.factor, change.is_worse, change.fault) == (None, False, "the target left")


def test_extremes_are_shown_and_not_judged() -> None:
    (change,) = difference(run(700, 701, 702, 703), run(700, 701, 702, 703)).changes([BY_KEY["max"]])
    assert change.after is not None
    assert (change.factor, change.verdict) == (None, Verdict.TOO_FEW)


def test_rows_that_only_one_has_are_said_and_not_compared() -> None:
    both, gone, new = row_of(), row_of(version="1.2"), row_of(key="RSA-2048")
    apart = difference(result_of(both, gone), result_of(both, new))
    assert [label for label, _, _ in apart.rows] == ["TLS 1.3, P-256, full"]
    assert [label for label, _ in apart.missing] == ["TLS 1.2, P-256, full"]
    assert [label for label, _ in apart.added] == ["TLS 1.3, RSA-2048, full"]


def test_what_else_differs_is_said() -> None:
    other = msgspec.structs.replace(ENVIRONMENT, openssl="OpenSSL 4.1.0", cpus=8)
    after = run(700, environment=other, started_at="2026-11-23T12:00:00Z", configuration={"rounds": 7}, target="a:1")
    assert difference(run(700), after).cautions == (
        "The number of CPUs differs: 2 before, 8 after.",
        "OpenSSL differs: OpenSSL 4.0.3 29 Sep 2026 before, OpenSSL 4.1.0 after.",
        "The second file was measured earlier (2026-11-23T12:00:00Z) than the first (2026-11-24T12:00:00Z): "
        "the order is BEFORE, then AFTER.",
        "The target differs: started here before, a:1 after.",
        "The option rounds differs: 5 before, 7 after.",
    )


@pytest.mark.parametrize(
    ("after", "sentence"),
    [
        (result_of(kind="relay"), "the first is of `bench handshake`, the second of `bench relay`"),
        (result_of(row_of(version="1.2")), "no scenario is in both of them. Run the same command twice: mtls-sidecar"),
    ],
)
def test_what_has_nothing_in_common_is_refused(after: Result, sentence: str) -> None:
    with pytest.raises(BadResult) as refusal:
        difference(run(700), after)
    assert sentence in str(refusal.value)


def test_two_builds_of_python_are_said_where_both_are_known() -> None:
    builds = [msgspec.structs.replace(ENVIRONMENT, python_optimised=known) for known in (None, False, True)]
    unknown, without, with_it = (run(700, 701, environment=build) for build in builds)
    assert difference(unknown, with_it).cautions == ()
    assert difference(without, without).cautions == ()
    assert difference(without, with_it).cautions == (
        "Profile-guided optimisation of Python differs: no before, yes after.",
    )
