"""Statistics against distributions whose truth is known."""

import math
import random
import statistics
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.lab.stats import Estimate, Verdict, cannot_tell, median, paired_ratio, ratio, verdict

POSITIVE = st.floats(min_value=1e-6, max_value=1e6)
Sampler = Callable[[random.Random], float]

# each with a median of 1
DISTRIBUTIONS: dict[str, Sampler] = {
    "normal": lambda dice: dice.gauss(1, 0.1),
    "exponential": lambda dice: dice.expovariate(math.log(2)),
    "lognormal": lambda dice: dice.lognormvariate(0, 0.5),
    "uniform": lambda dice: dice.uniform(0.5, 1.5),
}


def covered(trials: int, one: Callable[[], Estimate | None]) -> float:
    """How often the interval held 1, the truth."""
    estimates = [estimate for _ in range(trials) if (estimate := one()) is not None]
    return sum(estimate.low <= 1 <= estimate.high for estimate in estimates) / len(estimates)


@pytest.mark.parametrize("sample", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
@pytest.mark.parametrize("size", [5, 9, 30])
def test_a_median_lies_in_its_interval_as_often_as_the_coverage_says(sample: Sampler, size: int) -> None:
    dice = random.Random(size)
    claimed = median([sample(dice) for _ in range(size)]).coverage
    share = covered(3000, lambda: median([sample(dice) for _ in range(size)]))
    assert share == pytest.approx(claimed, abs=4 * math.sqrt(claimed * (1 - claimed) / 3000))


@pytest.mark.parametrize("sample", [DISTRIBUTIONS["lognormal"], DISTRIBUTIONS["exponential"]])
@pytest.mark.parametrize(("new", "old"), [(4, 4), (5, 7), (45, 45)])
def test_a_ratio_lies_in_its_interval_as_often_as_the_coverage_says(sample: Sampler, new: int, old: int) -> None:
    dice = random.Random(new)
    trials = 1500 if new < 40 else 150

    def draw(size: int) -> list[float]:
        return [sample(dice) for _ in range(size)]

    first = ratio(draw(new), draw(old))
    assert first is not None
    share = covered(trials, lambda: ratio(draw(new), draw(old)))
    assert share == pytest.approx(first.coverage, abs=4 * math.sqrt(first.coverage * (1 - first.coverage) / trials))


@pytest.mark.parametrize(
    ("size", "ranks", "coverage"),  # the binomial by hand, e.g. 1 - 2 / 2**5
    [(1, (1, 1), 0.0), (2, (1, 2), 0.5), (5, (1, 5), 0.9375), (6, (1, 6), 0.96875), (9, (2, 8), 0.9609375)],
)
def test_the_interval_of_a_median_is_the_textbook_s(size: int, ranks: tuple[int, int], coverage: float) -> None:
    values = [float(number) for number in range(size, 0, -1)]
    assert median(values) == Estimate((size + 1) / 2, *map(float, ranks), coverage)


@pytest.mark.parametrize(("new", "old", "beyond"), [(3, 3, 2 / 20), (4, 4, 2 / 70), (1, 1, 1.0), (2, 5, 2 / 21)])
def test_the_widest_interval_of_a_ratio_misses_with_the_textbook_s_chance(new: int, old: int, beyond: float) -> None:
    change = ratio([2.0] * new, [1.0] * old, confidence=1.0)
    assert change is not None
    assert change.coverage == pytest.approx(1 - beyond)


def test_the_critical_rank_for_five_and_five_is_the_table_s() -> None:
    """U = 2 is the two-sided 5 % point of Mann and Whitney's table for 5 and 5: the interval starts at the third."""
    new, old = [2.0**number for number in (1, 3, 5, 7, 9)], [2.0**number for number in (0, 10, 20, 30, 40)]
    change = ratio(new, old)
    quotients = sorted(a / b for a in new for b in old)
    assert change is not None
    assert (change.low, change.high) == (quotients[2], quotients[-3])


@settings(deadline=None)
@given(new=st.lists(POSITIVE, min_size=1, max_size=12), old=st.lists(POSITIVE, min_size=1, max_size=12))
def test_a_ratio_lies_within_its_own_interval_and_turns_around(new: list[float], old: list[float]) -> None:
    there, back = ratio(new, old), ratio(old, new)
    assert there is not None
    assert back is not None
    assert there.low <= there.value <= there.high
    assert there.coverage == back.coverage
    assert (1 / back.high, 1 / back.low) == pytest.approx((there.low, there.high))


@settings(deadline=None)
@given(values=st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=40))
def test_a_median_is_the_library_s_and_lies_in_its_interval(values: list[float]) -> None:
    estimate = median(values)
    assert estimate.value == statistics.median(values)
    assert estimate.low <= estimate.value <= estimate.high


def test_what_both_sides_suffered_cancels_where_they_took_turns() -> None:
    """Every round is slower than the one before, for both: unpaired this is noise, paired it is plain."""
    old = [100.0, 140.0, 190.0, 250.0, 330.0, 420.0]
    new = [value * 1.05 for value in old]
    apart, together = ratio(new, old), paired_ratio(new, old)
    assert apart is not None
    assert together is not None
    assert (verdict(apart), verdict(together)) == (Verdict.NOISE, Verdict.HIGHER)
    assert together.value == pytest.approx(1.05)


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        ([121.0, 120.0, 122.0, 119.0, 120.0], Verdict.HIGHER),
        ([81.0, 80.0, 82.0, 79.0, 80.0], Verdict.LOWER),
        ([99.0, 120.0, 101.0, 98.0, 100.0], Verdict.NOISE),
        ([200.0], Verdict.TOO_FEW),
    ],
)
def test_a_change_is_told_from_noise(new: list[float], expected: Verdict) -> None:
    change = ratio(new, [100.0, 101.0, 99.0, 102.0, 98.0])
    assert change is not None
    assert verdict(change) is expected


def test_a_change_that_nobody_would_act_on_is_none() -> None:
    """A signature is a byte longer now and then: bytes on the wire differ for sure, by nothing."""
    change = ratio([2323.4] * 5, [2323.3] * 5)
    assert change is not None
    assert change.low > 1
    assert verdict(change) is Verdict.NOISE


def test_the_same_twice_is_hardly_ever_a_change() -> None:
    dice = random.Random(11)
    runs = [[dice.lognormvariate(0, 0.05) for _ in range(5)] for _ in range(2000)]
    verdicts = [verdict(change) for new, old in zip(runs[::2], runs[1::2], strict=True) if (change := ratio(new, old))]
    assert 0.02 < 1 - verdicts.count(Verdict.NOISE) / len(verdicts) < 0.05  # 3.2 % is what five and five rounds allow


@pytest.mark.parametrize(("new", "old"), [([], [1.0]), ([1.0], []), ([0.0], [1.0]), ([1.0], [0.0]), ([-1.0], [1.0])])
def test_there_is_no_ratio_without_positive_figures(new: list[float], old: list[float]) -> None:
    assert (ratio(new, old), paired_ratio(new, old)) == (None, None)


def test_a_paired_ratio_is_that_of_the_medians_that_stand_beside_it() -> None:
    """As seen on a busy machine: the medians say a third less, the median of the pairs a twelfth."""
    found = paired_ratio([26.1, 25.0, 36.0], [39.4, 27.2, 39.5])
    assert found is not None
    assert found.value == pytest.approx(26.1 / 39.4)
    assert found.low == found.value  # the interval always holds the value
    assert found.high == pytest.approx(25.0 / 27.2)


@pytest.mark.parametrize(("high", "expected"), [(0.99, False), (1.01, True)])
def test_too_few_rounds_are_believed_only_where_they_agree(high: float, expected: bool) -> None:
    assert cannot_tell(Estimate(0.9, 0.8, high, coverage=0.75)) is expected


def test_sides_of_unequal_rounds_have_no_paired_ratio() -> None:
    assert paired_ratio([1.0, 2.0], [1.0]) is None


def test_the_larger_arm_is_the_plus_and_minus() -> None:
    assert (Estimate(10, 9, 13, 0.95).relative, Estimate(0, 0, 1, 0.95).relative) == (0.3, 0.0)
