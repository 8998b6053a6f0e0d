"""Ranks over tasks against Demšar's published example, scipy and scikit-posthocs; the interquartile mean by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import scikit_posthocs
from scipy import stats

from parbench.reports.statistics import interquartile_mean, rank_over_tasks

# Demšar (JMLR 2006), Table 6: AUC of C4.5 with m and/or cf tuned, on 14 data sets; its text gives the mean ranks, the
# critical differences 1.25 (alpha 0.05) and 1.12 (alpha 0.10), and what differs at either. The two 0.975 of the last
# row but one are equal as printed only: the paper ranks them 2 and 3.
DEMSAR = pd.DataFrame(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.97501, 0.975],
        [0.957, 0.978, 0.946, 0.970],
    ],
    columns=["C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf"],
)
# His Table 5a: q of Nemenyi's test for 2 to 10 methods.
Q = {
    0.05: [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164],
    0.10: [1.645, 2.052, 2.291, 2.459, 2.589, 2.693, 2.780, 2.855, 2.920],
}


def test_the_published_example() -> None:
    ranking = rank_over_tasks(DEMSAR)
    printed = {"C4.5": 3.143, "C4.5+m": 2.000, "C4.5+cf": 2.893, "C4.5+m+cf": 1.964}
    assert ranking.mean_ranks == pytest.approx(printed, abs=5e-4)
    assert ranking.critical_difference == pytest.approx(1.25, abs=5e-3)
    # Printed without a correction for ties, 9.28; as Friedman's test has it in scipy, it is corrected.
    squares = sum(rank**2 for rank in ranking.mean_ranks.values())
    assert 12 * 14 / 20 * (squares - 25) == pytest.approx(9.28, abs=5e-3)
    expected = stats.friedmanchisquare(*DEMSAR.to_numpy().T)
    assert (ranking.statistic, ranking.p_value) == pytest.approx((expected.statistic, expected.pvalue))
    assert ranking.nemenyi is not None
    assert (ranking.nemenyi.to_numpy() > 0.05).all()


def test_the_published_example_at_ten_percent() -> None:
    ranking = rank_over_tasks(DEMSAR, alpha=0.10)
    assert ranking.critical_difference == pytest.approx(1.12, abs=5e-3)
    assert ranking.nemenyi is not None
    below = ranking.nemenyi < 0.10
    different = {(a, b) for a in below.index for b in below.columns if below.loc[a, b] and a < b}
    assert different == {("C4.5", "C4.5+m"), ("C4.5", "C4.5+m+cf")}


@pytest.mark.parametrize("alpha", sorted(Q))
@pytest.mark.parametrize("methods", range(3, 11))
def test_the_published_quantiles(alpha: float, methods: int) -> None:
    scores = pd.DataFrame(np.random.default_rng(methods).random((7, methods)))
    critical = rank_over_tasks(scores, alpha).critical_difference
    assert critical is not None
    # The table is cut, not rounded, after three digits.
    assert critical / math.sqrt(methods * (methods + 1) / 42) == pytest.approx(Q[alpha][methods - 2], abs=1e-3)


def test_nemenyi_is_that_of_scikit_posthocs_and_agrees_with_the_critical_difference() -> None:
    rng = np.random.default_rng(4)
    scores = pd.DataFrame(rng.random((9, 5)) + np.arange(5) * 0.3, columns=list("abcde"))
    ranking = rank_over_tasks(scores)
    expected = scikit_posthocs.posthoc_nemenyi_friedman(scores)
    assert ranking.nemenyi is not None
    np.testing.assert_allclose(ranking.nemenyi.to_numpy(), expected.to_numpy(), atol=1e-6)
    means = np.array(list(ranking.mean_ranks.values()))
    distances = np.abs(means[:, None] - means[None, :])
    assert ((ranking.nemenyi.to_numpy() < 0.05) == (distances > ranking.critical_difference)).all()
    assert (ranking.nemenyi.to_numpy() < 0.05).any()


def test_tasks_that_a_method_lacks_are_left_out_and_named() -> None:
    scores = DEMSAR.iloc[:5].set_axis(["cola", "sst2", "rte", "mrpc", "qnli"], axis="index")
    scores.loc["sst2", "C4.5+m"] = float("nan")
    scores.loc["qnli", ["C4.5", "C4.5+cf"]] = float("nan")
    ranking = rank_over_tasks(scores)
    assert ranking.tasks == ("cola", "rte", "mrpc")
    assert ranking.left_out == {"sst2": ("C4.5+m",), "qnli": ("C4.5", "C4.5+cf")}
    assert ranking.mean_ranks == rank_over_tasks(scores.loc[["cola", "rte", "mrpc"]]).mean_ranks


@pytest.mark.parametrize(
    ("scores", "reason", "mean_ranks"),
    [
        ([[0.5, 0.4], [0.3, 0.6], [0.9, 0.8]], "methods: 2, and Friedman's test needs 3", {"0": 4 / 3, "1": 5 / 3}),
        ([[0.5, 0.4, 0.4]], "tasks on which every method has a score: 1", {"0": 1.0, "1": 2.5, "2": 2.5}),
        ([[0.5, None, 0.4]], "tasks on which every method has a score: 0", {}),
        ([[0.5] * 3, [0.7] * 3], "all methods score the same on every task", {"0": 2.0, "1": 2.0, "2": 2.0}),
        ([[0.5], [0.7]], "methods: 1", {"0": 1.0}),
        ([], "methods: 0", {}),
    ],
)
def test_what_cannot_be_tested_has_a_reason(
    scores: list[list[float]], reason: str, mean_ranks: dict[str, float]
) -> None:
    ranking = rank_over_tasks(pd.DataFrame(scores))
    assert ranking.reason is not None
    assert ranking.reason.startswith(reason)
    assert ranking.mean_ranks == pytest.approx(mean_ranks)
    assert (ranking.statistic, ranking.p_value, ranking.critical_difference, ranking.nemenyi) == (None,) * 4


def test_means_of_the_same_runs_in_another_order_are_tied() -> None:
    first, second = sum([0.1, 0.2, 0.3]) / 3, sum([0.3, 0.2, 0.1]) / 3
    assert first != second
    ranking = rank_over_tasks(pd.DataFrame([[first, second, 0.5], [0.1, 0.2, 0.3]]))
    assert ranking.mean_ranks == {"0": 2.75, "1": 2.25, "2": 1.0}


def test_the_interquartile_mean_by_hand() -> None:
    # Of 12 scores the lowest and the highest 3 are cut: 3 ... 8 remain.
    scores = {"a": [0.0, 11.0, 3.0], "b": [4.0, 5.0, 1.0], "c": [2.0, 9.0, 6.0], "d": [8.0, 7.0, 10.0]}
    answer = interquartile_mean(scores)
    assert (answer.value, answer.tasks, answer.n, answer.reason) == (5.5, 4, 3, None)
    assert answer.interval is not None
    assert 0 <= answer.interval.low < 5.5 < answer.interval.high <= 11


def test_the_interval_is_the_expanded_percentile_of_the_stratified_bootstrap() -> None:
    rng = np.random.default_rng(0)
    matrix = rng.normal(np.linspace(0, 1, 6), 0.1, (5, 6))
    scores = {str(task): matrix[:, task].tolist() for task in range(6)}
    answer = interquartile_mean(scores)
    resampled = []
    for _ in range(4000):
        drawn = np.stack([rng.choice(matrix[:, task], 5) for task in range(6)])
        resampled.append(stats.trim_mean(drawn, 0.25, axis=None))
    tail = stats.norm.sf(math.sqrt(5 / 4) * stats.t.isf(0.025, 24))
    assert answer.interval is not None
    expected = np.quantile(resampled, [tail, 1 - tail])
    assert (answer.interval.low, answer.interval.high) == pytest.approx(expected.tolist(), abs=0.01)
    assert interquartile_mean(scores) == answer
    assert interquartile_mean(scores, rng=np.random.default_rng(1)) != answer


@pytest.mark.parametrize(
    ("scores", "value", "reason"),
    [
        ({}, None, "there are tasks without scores, or no tasks"),
        ({"a": [0.5], "b": []}, None, "there are tasks without scores, or no tasks"),
        ({"a": [0.5, 0.6, 0.7], "b": [0.5, 0.6]}, None, "the number of seeds is not the same on all tasks"),
        ({"a": [0.5, 0.7], "b": [0.6, 0.8]}, 0.65, "n = 2"),
        ({"a": [0.5], "b": [0.7]}, 0.6, "n = 1"),
        ({"a": [0.5, 0.6, 0.7]}, 0.6, "1 task"),
        ({"a": [0.5, 0.5, 0.5], "b": [0.7, 0.7, 0.7]}, 0.6, "all seeds score the same"),
    ],
)
def test_no_interval_without_a_spread(scores: dict[str, list[float]], value: float | None, reason: str) -> None:
    answer = interquartile_mean(scores)
    assert answer.value == (None if value is None else pytest.approx(value))
    assert answer.interval is None
    assert answer.reason is not None
    assert answer.reason.startswith(reason)


def test_an_interquartile_mean_of_failed_runs_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        interquartile_mean({"a": [0.5, float("nan")]})
