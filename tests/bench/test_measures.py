"""The figures' arithmetic: medians, spread, limits and verdicts."""

import pytest

from bench.measures import MEASURES, MEMORY_TITLES, Target, Verdict, judge, medians, spread, targets

FULL = targets((3, 0, 19, 0))["full_1_3"]


def test_a_figure_is_the_median_and_a_side_without_rounds_has_none():
    assert medians({"bare": [9.0, 1.0, 2.0], "product": []}) == {"bare": 2.0}


def test_the_spread_is_half_the_range_as_a_share_of_the_median():
    assert spread([90.0, 100.0, 120.0]) == pytest.approx(0.15)
    assert spread([100.0]) == spread([]) == 0.0


def test_the_bound_beside_the_ordinary_way_follows_the_openssl_of_python():
    bounds = {version: targets(version)["full_1_2"][1].bound for version in ((3, 0, 19, 0), (3, 5, 0, 0), (4, 0, 3, 0))}
    assert bounds == {(3, 0, 19, 0): 0.65, (3, 5, 0, 0): 0.85, (4, 0, 3, 0): 0.85}


@pytest.mark.parametrize(
    ("product", "verdict"), [(900.0, Verdict.PASS), (950.0, Verdict.MISS), (1_000.0, Verdict.MISS)]
)
def test_a_row_passes_only_if_every_bound_is_kept(product, verdict):
    figures = {"bare": 800.0, "ordinary": 1_450.0, "product": product}  # limits: 960 and 942.5
    assert judge(FULL, figures, "product") == verdict


def test_slack_moves_every_bound():
    assert judge(FULL, {"bare": 800.0, "ordinary": 1_450.0, "product": 950.0}, "product", 1.15) == Verdict.PASS


@pytest.mark.parametrize("missing", ["bare", "ordinary", "product"])
def test_a_row_with_a_missing_figure_is_never_a_pass(missing):
    figures = {"bare": 800.0, "ordinary": 1_450.0, "product": 1.0}
    del figures[missing]
    assert judge(FULL, figures, "product") == Verdict.NONE


def test_a_row_without_targets_is_not_judged():
    assert judge((), {"product": 1.0}, "product") == Verdict.NONE


def test_an_absolute_bound_needs_no_yardstick():
    assert judge((Target(None, 45.0),), {"product": 45.0}, "product") == Verdict.PASS


def test_every_target_belongs_to_a_row_of_a_table():
    assert set(targets((3, 0))) <= {measure.key for measure in MEASURES} | MEMORY_TITLES.keys()
