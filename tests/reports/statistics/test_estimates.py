"""Estimates, their spreads and intervals against textbook tests and hand-worked cases."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from parbench.reports.statistics import Predictions, compare_scores, estimate, score_runs
from parbench.reports.statistics.estimates import VarianceComponents, spread_of
from parbench.tasks.metrics.classification import METRICS, accuracy
from tests.support.scores import bare, runs


def test_where_only_seeds_vary_the_interval_is_students() -> None:
    answer = estimate(bare("lora", [0.5, 0.6, 0.7]))
    low, high = stats.ttest_1samp([0.5, 0.6, 0.7], 0).confidence_interval(0.95)
    assert (answer.mean, answer.n, answer.sd) == (pytest.approx(0.6), 3, pytest.approx(0.1))
    assert answer.interval is not None
    assert (answer.interval.low, answer.interval.high) == pytest.approx((low, high))
    assert answer.reason is None


def test_where_only_examples_vary_the_interval_is_students() -> None:
    right = np.tile(np.arange(40) % 4 > 0, (3, 1))
    answer = estimate(score_runs({"lora": runs(right)}, accuracy)["lora"], level=0.9)
    low, high = stats.ttest_1samp(right[0].astype(float), 0).confidence_interval(0.9)
    assert answer.interval is not None
    assert (answer.interval.low, answer.interval.high) == pytest.approx((low, high))
    assert answer.sd == pytest.approx(0.0)


def test_the_variance_of_accuracy_is_that_of_the_crossed_analysis_of_variance() -> None:
    # Seeds and examples as two crossed random effects: (MS seed + MS example - MS rest) / (seeds x examples).
    rng = np.random.default_rng(5)
    right = rng.random((4, 30)) < np.array([0.4, 0.5, 0.7, 0.9])[:, None] * rng.choice([0.3, 1.0], 30)
    scores = score_runs({"lora": runs(right)}, accuracy)["lora"]
    places = np.indices(right.shape).reshape(2, -1)
    table = pd.DataFrame({"right": right.ravel().astype(float), "seed": places[0], "example": places[1]})
    squares = anova_lm(ols("right ~ C(seed) + C(example)", table).fit())["mean_sq"]
    expected = (squares["C(seed)"] + squares["C(example)"] - squares["Residual"]) / right.size
    spread = spread_of([(1, scores)])
    assert spread.variance == pytest.approx(expected)
    assert spread.parts[0] == (pytest.approx(squares["C(seed)"] / right.size), 3)
    assert spread.parts[1][1] == 29


def test_the_variance_is_never_less_than_that_of_the_examples_alone() -> None:
    # All seeds score the same by chance, though each is wrong elsewhere: the seeds' variance is 0.
    right = ~np.eye(3, 12, dtype=bool)
    scores = score_runs({"lora": runs(right)}, accuracy)["lora"]
    assert np.ptp(scores.by_seed) == 0
    mean_right = right.mean(axis=0)
    assert spread_of([(1, scores)]).variance == pytest.approx(mean_right.var(ddof=1) / 12)


@pytest.mark.parametrize("right", [0, 50])
def test_at_a_bound_the_interval_is_clopper_s_and_pearson_s(right: int) -> None:
    same = np.tile(np.arange(50) < right, (3, 1))
    answer = estimate(score_runs({"lora": runs(same)}, accuracy)["lora"], bounds=(0.0, 1.0))
    expected = stats.binomtest(right, 50).proportion_ci(0.95, "exact")
    assert answer.interval is not None
    assert (answer.interval.low, answer.interval.high) == pytest.approx((expected.low, expected.high))


def test_far_from_the_bounds_the_interval_is_nearly_students() -> None:
    right = np.random.default_rng(0).random((5, 2000)) < 0.6
    scores = score_runs({"lora": runs(right)}, accuracy)["lora"]
    free, bounded = estimate(scores).interval, estimate(scores, bounds=(0.0, 1.0)).interval
    assert free is not None
    assert bounded is not None
    assert (bounded.low, bounded.high) == pytest.approx((free.low, free.high), abs=2e-3)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (1.0, 10.0)])
def test_intervals_end_at_the_bounds_of_their_metric(low: float, high: float) -> None:
    near = [high - share * (high - low) for share in (0.001, 0.002, 0.03)]
    interval = estimate(bare("lora", near), bounds=(low, high)).interval
    assert interval is not None
    assert low <= interval.low < np.mean(near) < interval.high <= high
    assert high - np.mean(near) < np.mean(near) - interval.low


def test_the_residue_of_rounding_is_not_a_variance() -> None:
    spread = VarianceComponents(((1.4123486258839729e-33, 2), (0.00028782104969290925, 398)))
    distance = 0.1349999999999999
    expected = 2 * stats.t.sf(distance / math.sqrt(0.00028782104969290925), 398)
    assert expected == pytest.approx(1.8e-14, rel=0.05)
    assert spread.p_value(distance) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("tiny", [1e-40, 1e-33, 1e-26, 1e-20, 0.0])
@pytest.mark.parametrize("distance", [1e-9, 0.01, 0.135, 0.9, 50.0])
def test_a_p_value_is_always_found(tiny: float, distance: float) -> None:
    p_value = VarianceComponents(((tiny, 2), (3e-4, 398), (tiny, 4))).p_value(distance)
    assert 0 < p_value <= 1
    assert p_value == pytest.approx(max(2 * stats.t.sf(distance / math.sqrt(3e-4), 398), 1e-300), rel=1e-6)


@pytest.mark.parametrize("n", [1, 2])
def test_few_seeds_have_no_interval_and_no_test(n: int) -> None:
    answer = estimate(bare("lora", [0.5, 0.7][:n]))
    assert answer.n == n
    assert answer.interval is None
    assert answer.reason is not None
    assert answer.reason.startswith(f"n = {n}")
    assert answer.sd == (None if n == 1 else pytest.approx(math.sqrt(0.02)))
    comparison = compare_scores(bare("lora", [0.5, 0.6, 0.7]), bare("vera", [0.5, 0.7][:n]))
    assert (comparison.n_a, comparison.n_b, comparison.paired) == (3, n, False)
    assert (comparison.p_value, comparison.interval) == (None, None)
    assert comparison.reason == f"n = {n}: the spread over seeds needs 3 seeds or more"
    assert comparison.better() is None


def test_an_interval_stays_within_what_the_metric_can_be() -> None:
    scores = bare("lora", [0.9, 0.95, 1.0])
    free, bound = estimate(scores).interval, estimate(scores, bounds=(0, 1)).interval
    assert free is not None
    assert bound is not None
    assert free.high > 1
    assert 0 < bound.low < 0.95 < bound.high <= 1


@pytest.mark.parametrize("metric", sorted(METRICS))
def test_constant_predictions_have_no_interval(metric: str) -> None:
    n = 20
    labels = np.arange(n) % 2 if metric not in ("pearson", "spearman") else np.linspace(0, 5, n)
    # Class 1 is never predicted: every metric but accuracy is 0, whatever the examples.
    constant = Predictions((0, 1, 2), np.arange(n), np.full(n, ""), labels, np.zeros((3, n), dtype=int))
    answer = estimate(score_runs({"lora": constant}, METRICS[metric])["lora"])
    if metric == "accuracy":
        assert answer.mean == 0.5
        assert answer.interval is not None
    else:
        assert (answer.mean, answer.sd, answer.interval) == (0.0, 0.0, None)
        assert answer.reason == "all runs score the same on whatever examples: there is no variation to judge by"


def test_all_right_has_no_interval() -> None:
    answer = estimate(score_runs({"lora": runs(np.ones((5, 30), dtype=bool))}, accuracy)["lora"])
    assert (answer.mean, answer.interval) == (1.0, None)
    assert answer.reason is not None


def test_one_part_has_students_p_value_and_the_p_value_inverts_the_quantile() -> None:
    assert VarianceComponents(((4.0, 7),)).p_value(3.0) == pytest.approx(2 * stats.t.sf(1.5, 7))
    spread = VarianceComponents(((1.0, 2), (3.0, 200), (0.0, 1)))
    for level in (0.5, 0.9, 0.95, 0.999, 1 - 1e-8):
        by_hand = (stats.t.isf((1 - level) / 2, 2) + 3 * stats.t.isf((1 - level) / 2, 200)) / 4
        assert spread.half_width(level) == pytest.approx(2 * by_hand)
        assert spread.p_value(-2 * by_hand) == pytest.approx(1 - level)
    assert spread.p_value(0.0) == 1.0
    assert 0 < VarianceComponents(((1.0, 500),)).p_value(1e9) <= 1e-300
