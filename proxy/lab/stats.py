"""
What rounds say, and how sure: medians, their confidence intervals, ratios, and whether a change is more than noise.

Rounds are few and their distribution is unknown (a neighbour on the machine makes a long tail), so nothing here assumes
one. Intervals come from ranks, and their coverage is exact and not simulated:

* The interval of a median is a pair of order statistics, x(k) and x(n+1-k). The true median lies outside of it only if
  fewer than k of n rounds fell on one side, which is the binomial of a fair coin.
* The interval of a ratio between two runs is a pair among all quotients new/old, ordered: Hodges and Lehmann's interval
  for a shift, taken on a logarithmic scale, with the exact distribution of Mann and Whitney's U.
* Where two sides took turns in one run, each round gives a quotient of its own, in which the machine's mood cancels:
  the interval is that of the median of those, widened to the quotient of the medians where that lies outside.

An interval never pretends: where so few rounds cannot reach the wanted confidence, it is the widest that there is, and
`coverage` says what it is worth. Five rounds reach 93.75 %, six 96.9 %; two runs of three rounds each reach 90 %, of
four 97 %. Below 90 % nothing is called a change.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

CONFIDENCE = 0.95
NEGLIGIBLE = 0.001  # nobody acts on less; counts that hardly vary, such as bytes, differ by it and say nothing
ENOUGH = 0.9  # what an interval has to cover before a change is believed, or denied
_EXACT_UP_TO = 40  # rounds on each side; from there on the normal approximation of U is true to three digits


class Verdict(StrEnum):
    """What an interval says of a change."""

    LOWER = "lower"
    HIGHER = "higher"
    NOISE = "within noise"
    TOO_FEW = "too few rounds to tell"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its interval. coverage: how often such an interval holds the truth, 0 to 1; 0 for a single round."""

    value: float
    low: float
    high: float
    coverage: float

    @property
    def relative(self) -> float:
        """The larger arm of the interval as a share of the value, for "±"; 0 where the value is 0."""
        return max(self.high - self.value, self.value - self.low) / abs(self.value) if self.value else 0.0


def median(values: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """The median with its interval of order statistics; at least one value."""
    ordered = sorted(values)
    rank, coverage = _rank(lambda below: _coin(len(ordered), below), len(ordered), confidence)
    return Estimate(statistics.median(ordered), ordered[rank - 1], ordered[-rank], coverage)


def ratio(new: Sequence[float], old: Sequence[float], confidence: float = CONFIDENCE) -> Estimate | None:
    """
    How many times `old` the median of `new` is, for two independent runs.

    Returns: None where a value is not positive, for which there is no ratio
    """
    if not new or not old or min(*new, *old) <= 0:
        return None
    quotients = sorted(a / b for a in new for b in old)
    below = _mann_whitney(len(new), len(old))
    rank, coverage = _rank(below, len(quotients), confidence)
    value = statistics.median(new) / statistics.median(old)
    # The quotient of the medians is what people check by hand; in a lopsided sample it can lie outside of the ranks.
    return Estimate(value, min(value, quotients[rank - 1]), max(value, quotients[-rank]), coverage)


def paired_ratio(new: Sequence[float], old: Sequence[float], confidence: float = CONFIDENCE) -> Estimate | None:
    """As `ratio`, for two sides that took turns: round by round, so that what both suffered cancels out."""
    if not new or len(new) != len(old) or min(*new, *old) <= 0:
        return None
    value = statistics.median(new) / statistics.median(old)  # as in `ratio`: tables show both medians
    pairs = median([a / b for a, b in zip(new, old, strict=True)], confidence)
    return Estimate(value, min(value, pairs.low), max(value, pairs.high), pairs.coverage)


def verdict(change: Estimate) -> Verdict:
    """Judge a ratio: is it another number than 1, beyond what the rounds vary anyway?"""
    if abs(change.value - 1) < NEGLIGIBLE:
        return Verdict.NOISE
    if change.coverage < ENOUGH:
        return Verdict.TOO_FEW
    if change.low > 1:
        return Verdict.HIGHER
    return Verdict.LOWER if change.high < 1 else Verdict.NOISE


def cannot_tell(change: Estimate) -> bool:
    """
    Whether the rounds leave open that a ratio is 1.

    Rounds that are too few for a verdict are taken at their word where they agree, never where they contradict.
    """
    if verdict(change) is Verdict.TOO_FEW:
        return change.low <= 1 <= change.high
    return verdict(change) is Verdict.NOISE


def _rank(below: Callable[[int], float], size: int, confidence: float) -> tuple[int, float]:
    """
    The rank k whose interval x(k) to x(size+1-k) is the narrowest with the confidence, and its coverage.

    below: k to the probability that the truth lies below x(k)
    """
    rank = 1
    while 2 * (rank + 1) <= size + 1 and 1 - 2 * below(rank + 1) >= confidence:
        rank += 1
    return rank, max(0.0, 1 - 2 * below(rank))


def _coin(size: int, rank: int) -> float:
    """Of `size` throws of a fair coin, fewer than `rank` heads."""
    return float(sum(math.comb(size, heads) for heads in range(rank)) / 2**size)


def _mann_whitney(first: int, second: int) -> Callable[[int], float]:
    """The probability that U of two samples of one distribution is less than a rank."""
    if max(first, second) > _EXACT_UP_TO:
        normal = statistics.NormalDist(first * second / 2, math.sqrt(first * second * (first + second + 1) / 12))
        return lambda rank: normal.cdf(rank - 0.5)
    counts = _arrangements(first, second)
    total = math.comb(first + second, first)
    return lambda rank: float(sum(counts[:rank]) / total)


def _arrangements(first: int, second: int) -> list[int]:
    """
    How many of the orders of two samples have U = 0, 1, ... first * second.

    These are the coefficients of the Gaussian binomial, the product of (1 - q^(second+i)) / (1 - q^i) for i to `first`.
    """
    size = first * second + 1
    counts = [1] + [0] * (size - 1)
    for index in range(1, first + 1):
        for at in range(size - 1, second + index - 1, -1):
            counts[at] -= counts[at - second - index]
        for at in range(index, size):
            counts[at] += counts[at - index]
    return counts
