"""Simulated studies of which the truth is known: intervals cover it, and tests err no more often than they say.

An example of difficulty ``b`` is answered rightly by a run of skill ``a`` with probability Phi(1 + a + b), where skills
and difficulties are normal with the deviations given. Seeds and examples being drawn again in every study, the truth is
Phi(1 / sqrt(1 + var a + var b)). All is drawn from fixed seeds: a test passes always or never.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm, trim_mean

from parbench.reports.statistics import (
    Predictions,
    compare_all,
    compare_scores,
    estimate,
    interquartile_mean,
    rank_ranges,
    score_runs,
)
from parbench.tasks.metrics.classification import matthews_correlation


def accuracy(labels: np.ndarray, predicted: np.ndarray) -> float:
    """As the task's, without what makes 100,000 calls slow."""
    return float(np.count_nonzero(labels == predicted) / len(labels))


def study(
    rng: np.random.Generator, seeds: int, examples: int, skill: float, skills: tuple[float, ...] = (1.0,)
) -> dict[str, Predictions]:
    """Draw methods of these mean skills; runs of a method differ by ``skill``, examples by a deviation of 1."""
    difficulty = rng.normal(0, 1, examples)
    labels = rng.integers(0, 2, examples)
    methods = {}
    for number, mean in enumerate(skills):
        level = mean + rng.normal(0, skill, (seeds, 1))
        right = rng.random((seeds, examples)) < norm.cdf(level + difficulty)
        predicted = np.where(right, labels, 1 - labels)
        methods[f"m{number}"] = Predictions(
            tuple(range(seeds)), np.arange(examples), np.full(examples, ""), labels, predicted
        )
    return methods


def truth(skill: float, mean: float = 1.0) -> float:
    return float(norm.cdf(mean / np.sqrt(1 + 1 + skill**2)))


def two_level_percentiles(rng: np.random.Generator, runs: Predictions, resamples: int = 200) -> tuple[float, float]:
    """The interval that is not used: resample seeds, and examples jointly for all of them."""
    right = runs.predicted == runs.labels
    seeds, examples = right.shape
    means = [
        right[rng.integers(seeds, size=seeds)][:, rng.integers(examples, size=examples)].mean()
        for _ in range(resamples)
    ]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def coverage(seeds: int, examples: int, skill: float, studies: int) -> tuple[float, float]:
    """Return how often our interval, and that of the two-level percentile bootstrap, held the truth."""
    rng = np.random.default_rng(0)
    ours = naive = 0
    for _ in range(studies):
        runs = study(rng, seeds, examples, skill)
        interval = estimate(score_runs(runs, accuracy)["m0"]).interval
        assert interval is not None
        ours += interval.low <= truth(skill) <= interval.high
        low, high = two_level_percentiles(rng, runs["m0"])
        naive += low <= truth(skill) <= high
    return ours / studies, naive / studies


# 300 studies estimate 95 % to within 2.5 points (two standard errors). The interval is conservative with few seeds.
@pytest.mark.parametrize(
    ("seeds", "skill", "least_naive", "most_naive"),
    [
        (3, 0.0, 0.92, 1.0),  # the examples alone matter: any method will do
        (3, 0.3, 0.70, 0.90),  # 3 seeds of which the percentile bootstrap thinks that they are all
        pytest.param(5, 0.3, 0.80, 0.93, marks=pytest.mark.slow),
    ],
)
def test_intervals_cover_the_truth_with_few_seeds(
    seeds: int, skill: float, least_naive: float, most_naive: float
) -> None:
    ours, naive = coverage(seeds, 400, skill, 300)
    assert ours >= 0.925
    assert least_naive <= naive <= most_naive


@pytest.mark.slow
@pytest.mark.parametrize("examples", [50, 1000])
@pytest.mark.parametrize("skill", [0.0, 0.05, 0.2, 0.5])
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_intervals_cover_the_truth_everywhere(seeds: int, skill: float, examples: int) -> None:
    ours, _ = coverage(seeds, examples, skill, 400)
    # Where runs differ by 0.5 their accuracies are so skewed that Student's t itself covers 94 %. From there it is two
    # and a half standard errors of 400 studies, because there are 24 settings.
    assert ours >= 0.91


def bounded_coverage(seeds: int, examples: int, expected: float, skill: float, studies: int) -> float:
    """Return how often the interval of an accuracy, which ends at 0 and 1, held the truth."""
    rng = np.random.default_rng(6)
    mean = float(norm.ppf(expected)) * np.sqrt(2 + skill**2)
    covered = 0
    for _ in range(studies):
        runs = study(rng, seeds, examples, skill, (mean,))
        interval = estimate(score_runs(runs, accuracy)["m0"], bounds=(0.0, 1.0)).interval
        assert interval is not None
        assert 0 <= interval.low <= interval.high <= 1
        covered += interval.low <= expected <= interval.high
    return covered / studies


# Mean ± half width covers 0.91 and less here. 600 studies estimate 95 % to within 1.8 points (two standard errors).
@pytest.mark.parametrize("examples", [50, pytest.param(100, marks=pytest.mark.slow)])
def test_intervals_near_a_bound_cover_the_truth(examples: int) -> None:
    assert bounded_coverage(5, examples, 0.983, 0.1, 600) >= 0.94


@pytest.mark.slow
@pytest.mark.parametrize("examples", [50, 200, 2000])
@pytest.mark.parametrize("expected", [0.5, 0.8, 0.95, 0.983, 0.995])
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_bounded_intervals_cover_the_truth_everywhere(seeds: int, expected: float, examples: int) -> None:
    # Two and a half standard errors of 500 studies below 94 %, because there are 45 settings.
    assert bounded_coverage(seeds, examples, expected, 0.1, 500) >= 0.94 - 0.026


@pytest.mark.slow
def test_intervals_of_a_corpus_metric_cover_the_truth() -> None:
    rng = np.random.default_rng(0)
    # Balanced labels, and errors that do not depend on them: the coefficient is 2 x accuracy - 1.
    expected, covered = 2 * truth(0.2) - 1, 0
    for _ in range(200):
        interval = estimate(score_runs(study(rng, 3, 300, 0.2), matthews_correlation)["m0"]).interval
        assert interval is not None
        covered += interval.low <= expected <= interval.high
    assert covered / 200 >= 0.92


def rejections(skill: float, paired: bool, studies: int, gap: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(1)
    p_values = []
    for _ in range(studies):
        runs = study(rng, 3, 300, skill, (1.0, 1.0 + gap))
        if not paired:
            other = runs["m1"]
            runs["m1"] = Predictions((7, 8, 9), other.examples, other.subsets, other.labels, other.predicted)
        scores = score_runs(runs, accuracy)
        comparison = compare_scores(scores["m0"], scores["m1"])
        assert comparison.paired == paired
        assert comparison.p_value is not None
        p_values.append(comparison.p_value)
    return np.array(p_values)


@pytest.mark.parametrize(
    ("skill", "paired"), [pytest.param(0.0, True, marks=pytest.mark.slow), (0.3, True), (0.3, False)]
)
def test_equal_methods_are_rarely_distinguished(skill: float, paired: bool) -> None:
    p_values = rejections(skill, paired, 300)
    # Two standard errors above the level; the far tail is what Holm's correction looks at.
    assert (p_values < 0.05).mean() <= 0.075
    assert (p_values < 0.005).mean() <= 0.014


def test_different_methods_are_distinguished() -> None:
    # 0.8 deviations of difficulty: an accuracy of 0.90 instead of 0.76.
    assert (rejections(0.05, True, 100, gap=0.8) < 0.05).mean() > 0.9


def test_equal_methods_share_all_ranks() -> None:
    rng = np.random.default_rng(2)
    wrong = 0
    for _ in range(120):
        scores = score_runs(study(rng, 3, 200, 0.1, (1.0,) * 4), accuracy)
        wrong += {str(rank) for rank in rank_ranges(scores, compare_all(scores)).values()} != {"1-4"}
    assert wrong / 120 <= 0.09  # a family-wise error of 5 % and two standard errors


def test_ranges_hold_the_true_ranks_of_all_methods_at_once() -> None:
    rng = np.random.default_rng(3)
    held, narrow = 0, 0
    for _ in range(120):
        scores = score_runs(study(rng, 5, 300, 0.05, (2.2, 1.5, 1.4, 0.4)), accuracy)
        ranks = rank_ranges(scores, compare_all(scores))
        held += all(ranks[f"m{place}"].best <= place + 1 <= ranks[f"m{place}"].worst for place in range(4))
        narrow += str(ranks["m3"]) == "4"
    assert held / 120 >= 0.91
    assert narrow / 120 > 0.9


@pytest.mark.parametrize(("tasks", "seeds", "least"), [(8, 3, 0.90), (8, 10, 0.915), (3, 5, 0.90)])
def test_interquartile_means_cover_the_truth(tasks: int, seeds: int, least: float) -> None:
    rng = np.random.default_rng(4)
    levels = np.linspace(0.5, 0.95, tasks)
    expected = trim_mean(rng.normal(levels, 0.05, (100_000, tasks)), 0.25, axis=None)
    covered = 0
    for _ in range(250):
        drawn = rng.normal(levels, 0.05, (seeds, tasks))
        interval = interquartile_mean({str(task): drawn[:, task] for task in range(tasks)}, resamples=2000).interval
        assert interval is not None
        covered += interval.low <= expected <= interval.high
    assert covered / 250 >= least
