"""Runs are aligned by example, scored as their task scores them, and the jackknife agrees with the bootstrap."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from parbench.bench.util.errors import UserError
from parbench.reports.statistics import Predictions, estimate, score_runs
from parbench.tasks.metrics.classification import METRICS, accuracy


def rows(predicted: list[float], labels: list[float], subsets: list[str] | None = None) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "example": [f"validation:{number}" for number in range(len(labels))],
            "subset": subsets or [""] * len(labels),
            "label": labels,
            "prediction": predicted,
            "logits": [np.zeros(2)] * len(labels),
        }
    )


def planted(metric: str, n: int = 300, seeds: int = 3, seed: int = 0) -> Predictions:
    """Runs that say more or less the same, right in about four of five examples."""
    rng = np.random.default_rng(seed)
    if metric in ("pearson", "spearman"):
        labels = rng.normal(size=n)
        predicted = labels + rng.normal(size=n) + 0.5 * rng.normal(size=(seeds, n))
    else:
        labels = (rng.random(n) < 0.35).astype(int)
        right = rng.random((seeds, n)) < np.where(rng.random(n) < 0.7, 0.97, 0.5)
        predicted = np.where(right, labels, 1 - labels)
    return Predictions(tuple(range(seeds)), np.arange(n), np.full(n, ""), labels, predicted)


def test_runs_are_aligned_by_example_whatever_their_order() -> None:
    first = rows([0, 1, 1], [0, 1, 0])
    second = rows([1, 1, 0], [0, 1, 0]).iloc[::-1]
    runs = Predictions.of_runs({7: second, 3: first})
    assert runs.seeds == (3, 7)
    assert runs.examples.tolist() == ["validation:0", "validation:1", "validation:2"]
    assert runs.labels.tolist() == [0, 1, 0]
    assert runs.predicted.tolist() == [[0, 1, 1], [1, 1, 0]]


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ({}, "no runs"),
        ({0: rows([], [])}, "has no rows"),
        ({0: pd.concat([rows([1], [1]), rows([1], [1])])}, "an example twice"),
        ({0: rows([1, 0], [1, 0]), 1: rows([1], [1])}, "seeds 0 and 1 were not scored on the same examples"),
        ({0: rows([1, 0], [1, 0]), 1: rows([1, 0], [1, 1])}, "same revision of the data"),
        ({0: rows([1, float("nan")], [1, 0])}, "seed 0 has no prediction"),
        ({0: rows([1, float("inf")], [1, 0])}, "or no finite one"),
    ],
)
def test_runs_that_have_no_common_mean_are_refused(runs: dict[int, pd.DataFrame], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Predictions.of_runs(runs)


def test_methods_on_other_examples_are_refused() -> None:
    one = Predictions.of_runs({0: rows([1, 0], [1, 0])})
    other = Predictions.of_runs({0: rows([1, 0, 1], [1, 0, 1])})
    with pytest.raises(UserError, match="lora and vera were not scored on the same examples"):
        score_runs({"lora": one, "vera": other}, accuracy)


@pytest.mark.parametrize("metric", sorted(METRICS))
def test_scores_are_the_metric_of_each_run(metric: str) -> None:
    runs = planted(metric)
    scores = score_runs({"lora": runs}, METRICS[metric])["lora"]
    assert scores.by_seed.tolist() == [METRICS[metric](runs.labels, predicted) for predicted in runs.predicted]


def test_subsets_have_equal_weight_whatever_their_size() -> None:
    # As tasks.text_classification has it: (3/4 + 1/2) / 2, not 4/6.
    table = rows([1, 1, 1, 0, 1, 0], [1, 1, 1, 1, 1, 1], ["m"] * 4 + ["mm"] * 2)
    scores = score_runs({"lora": Predictions.of_runs({0: table})}, accuracy)["lora"]
    assert scores.by_seed.tolist() == [0.625]
    # The variances of the two means, by hand: 3/16 / 3 and 1/4 / 1, of which the mean has a quarter each.
    assert (scores.deviations.T @ scores.deviations).item() == pytest.approx((3 / 48 + 1 / 4) / 4)
    assert scores.degrees == 4


def test_the_jackknife_of_accuracy_is_the_sample_covariance() -> None:
    runs = planted("accuracy", n=50, seeds=4)
    scores = score_runs({"lora": runs}, accuracy)["lora"]
    right = (runs.predicted == runs.labels).astype(float)
    np.testing.assert_allclose(scores.deviations.T @ scores.deviations, np.cov(right) / 50, rtol=1e-10)
    assert scores.degrees == 49


@pytest.mark.parametrize("metric", ["f1", "matthews_correlation", "pearson"])
def test_the_jackknife_leaves_out_each_example(metric: str) -> None:
    runs = planted(metric, n=40, seeds=2)
    scores = score_runs({"lora": runs}, METRICS[metric])["lora"]
    one_by_one = np.array(
        [
            [
                METRICS[metric](np.delete(runs.labels, place), np.delete(predicted, place))
                for predicted in runs.predicted
            ]
            for place in range(40)
        ]
    )
    expected = np.sqrt(39 / 40) * (one_by_one - one_by_one.mean(axis=0))
    np.testing.assert_allclose(scores.deviations, expected, atol=1e-12)


@pytest.mark.parametrize("metric", sorted(METRICS))
def test_jackknife_and_bootstrap_agree(metric: str) -> None:
    runs = {"lora": planted(metric)}
    jackknife = score_runs(runs, METRICS[metric])["lora"].deviations
    bootstrap = score_runs(runs, METRICS[metric], resamples=400)["lora"].deviations
    # A covariance from 400 resamples has a relative standard error of sqrt(2 / 400) = 7 %.
    assert np.diag(jackknife.T @ jackknife) == pytest.approx(np.diag(bootstrap.T @ bootstrap), rel=0.25)
    assert jackknife.mean(axis=1).std() * len(jackknife) ** 0.5 == pytest.approx(
        bootstrap.mean(axis=1).std() * len(bootstrap) ** 0.5, rel=0.1
    )


def test_all_methods_see_the_same_resamples_and_the_same_generator_gives_the_same() -> None:
    runs = {"a": planted("accuracy"), "b": planted("accuracy")}
    first = score_runs(runs, accuracy, resamples=20)
    np.testing.assert_array_equal(first["a"].deviations, first["b"].deviations)
    again = score_runs(runs, accuracy, resamples=20)
    np.testing.assert_array_equal(first["a"].deviations, again["a"].deviations)
    other = score_runs(runs, accuracy, resamples=20, rng=np.random.default_rng(1))
    assert not np.array_equal(first["a"].deviations, other["a"].deviations)


def test_resamples_are_drawn_within_subsets() -> None:
    # All right in the one subset and all wrong in the other: no resample within subsets can change that.
    table = rows([1, 1, 0, 0], [1, 1, 1, 1], ["m", "m", "mm", "mm"])
    scores = score_runs({"lora": Predictions.of_runs({0: table})}, accuracy, resamples=50)["lora"]
    assert np.abs(scores.deviations).max() == 0


@pytest.mark.parametrize("resamples", [None, 30])
def test_one_example_has_a_score_and_no_spread(resamples: int | None) -> None:
    runs = {"lora": Predictions.of_runs({seed: rows([1], [1]) for seed in range(3)})}
    scores = score_runs(runs, accuracy, resamples)["lora"]
    assert scores.by_seed.tolist() == [1, 1, 1]
    assert scores.reason == "one example alone"
    answer = estimate(scores)
    assert (answer.mean, answer.interval, answer.reason) == (1.0, None, "one example alone")


def test_a_subset_of_one_example_has_no_spread() -> None:
    table = rows([1, 0, 1], [1, 1, 1], ["m", "m", "mm"])
    scores = score_runs({"lora": Predictions.of_runs({0: table})}, accuracy)["lora"]
    assert scores.reason == "a subset with one example alone"


def test_a_metric_that_is_not_a_number_is_refused_on_the_whole_and_explained_on_a_draw() -> None:
    def share_of_positives_found(labels: np.ndarray, predicted: np.ndarray) -> float:
        positives = labels == 1
        return float(predicted[positives].mean()) if positives.any() else float("nan")

    one_positive = Predictions.of_runs({0: rows([1, 0, 0], [1, 0, 0])})
    scores = score_runs({"lora": one_positive}, share_of_positives_found)["lora"]
    assert scores.reason == "the metric is not defined on some draws of the examples"
    assert not len(scores.deviations)
    none = Predictions.of_runs({5: rows([1, 0, 0], [0, 0, 0])})
    with pytest.raises(ValueError, match="the metric is nan for seed 5 of lora"):
        score_runs({"lora": none}, share_of_positives_found)


def test_predictions_may_be_words() -> None:
    runs = Predictions.of_runs({0: rows(["a", "b", "b"], ["a", "b", "a"])})  # type: ignore[list-item]
    scores = score_runs({"lora": runs}, accuracy)["lora"]
    assert scores.by_seed == pytest.approx([2 / 3])
    assert (scores.deviations.T @ scores.deviations).item() == pytest.approx(2 / 9 / 2)


def test_no_methods_no_scores_and_no_covariance_from_one_resample() -> None:
    assert score_runs({}, accuracy) == {}
    with pytest.raises(ValueError, match="at least 2 resamples, not 1"):
        score_runs({"lora": planted("accuracy")}, accuracy, resamples=1)
