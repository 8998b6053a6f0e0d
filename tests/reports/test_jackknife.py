"""The closed forms give what the metrics' own code gives when it is called without each example in turn."""

from __future__ import annotations

import numpy as np
import pytest

from reports.integrity import Examples, Said
from reports.jackknife import CLOSED_FORMS, score_methods
from reports.statistics import Predictions, score_runs
from tasks.metrics.classification import METRICS

CASES = [
    ("accuracy", 2),
    ("accuracy", 4),
    ("f1", 2),
    ("matthews_correlation", 2),
    ("matthews_correlation", 3),
    ("pearson", 0),
    ("spearman", 0),
]


@pytest.mark.parametrize(("metric", "classes"), CASES)
@pytest.mark.parametrize("subsets", [1, 2])
def test_the_same_as_the_metric_itself(metric: str, classes: int, subsets: int) -> None:
    draw = np.random.default_rng(3)
    n = 24
    labels = draw.integers(classes, size=n) if classes else draw.normal(size=n).round(1)
    groups = np.arange(n) % subsets
    examples = Examples(groups, labels)
    noise = [draw.random(n) < 0.3 for _ in range(3)]
    said = [np.where(flip, draw.permutation(labels), labels) for flip in noise]
    said[2] = np.full(n, said[2][0])  # a constant: 0/0 in all metrics but accuracy
    found = score_methods({"m": {seed: Said(examples, row) for seed, row in enumerate(said)}}, metric)["m"]
    runs = Predictions((0, 1, 2), np.arange(n), groups, labels, np.stack(said))
    expected = score_runs({"m": runs}, METRICS[metric])["m"]
    np.testing.assert_allclose(found.by_seed, expected.by_seed, atol=1e-12)
    np.testing.assert_allclose(found.deviations, expected.deviations, atol=1e-12)
    assert (found.seeds, found.degrees, found.reason) == (expected.seeds, expected.degrees, expected.reason)


@pytest.mark.parametrize("metric", sorted(CLOSED_FORMS))
def test_a_class_that_has_one_example_alone(metric: str) -> None:
    labels, said = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    left, whole = CLOSED_FORMS[metric](labels, said)
    assert whole == pytest.approx(METRICS[metric](labels, said), abs=1e-12)
    assert left == pytest.approx([METRICS[metric](np.delete(labels, i), np.delete(said, i)) for i in range(4)])


def test_one_example_has_no_variance() -> None:
    examples = Examples(np.zeros(1), np.array([1]))
    scores = score_methods({"m": {0: Said(examples, np.array([1]))}}, "accuracy")["m"]
    assert (list(scores.by_seed), scores.reason) == ([1.0], "one example alone")
