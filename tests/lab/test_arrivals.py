"""The instants of an open loop."""

import itertools
import statistics

import pytest

from proxy.lab.arrivals import arrivals
from proxy.lab.plan import Arrivals, OpenLoop


def test_constant_arrivals_are_evenly_spaced_from_the_start_on() -> None:
    assert list(arrivals(OpenLoop(rate=4), 1.0)) == [0.0, 0.25, 0.5, 0.75]


@pytest.mark.parametrize("kind", list(Arrivals))
def test_the_shares_of_all_processes_are_the_whole_and_nothing_twice(kind: Arrivals) -> None:
    pace = OpenLoop(rate=500, arrivals=kind, seed=7)
    shares = [list(arrivals(pace, 2.0, share=share, shares=3)) for share in range(3)]
    assert sorted(itertools.chain(*shares)) == list(arrivals(pace, 2.0))


def test_poisson_arrivals_have_the_rate_and_the_spread_of_one() -> None:
    instants = list(arrivals(OpenLoop(rate=1000, arrivals=Arrivals.POISSON, seed=1), 20.0))
    gaps = [late - early for early, late in itertools.pairwise(instants)]
    assert len(instants) == pytest.approx(20_000, rel=0.03)
    assert statistics.stdev(gaps) == pytest.approx(statistics.mean(gaps), rel=0.03)  # an exponential's are the same


def test_one_seed_gives_one_sequence_and_another_another() -> None:
    first, second = (OpenLoop(rate=100, arrivals=Arrivals.POISSON, seed=seed) for seed in (1, 2))
    assert list(arrivals(first, 1.0)) == list(arrivals(first, 1.0)) != list(arrivals(second, 1.0))


def test_nothing_arrives_at_or_after_the_end() -> None:
    assert max(arrivals(OpenLoop(rate=333, arrivals=Arrivals.POISSON), 3.0)) < 3.0
    assert list(arrivals(OpenLoop(rate=10), 0.0)) == []
