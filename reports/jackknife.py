"""The jackknife of the usual metrics in closed form: what `reports.statistics.score_runs` gives, and much sooner.

A report takes every run of a store through it, and a metric's own code once an example would take hours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from reports.integrity import Said
from reports.statistics import Predictions, Scores, score_runs
from tasks.metrics.classification import METRICS

# Values of a metric without each example in turn, of shape (examples,), and on all of them.
LeaveOneOut = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, float]]


def score_methods(methods: Mapping[str, Mapping[int, Said]], metric: str) -> dict[str, Scores]:
    """Return what `reports.statistics.score_runs` returns.

    Args:
        methods: by method and seed, what a run said; all of the same examples.
        metric: name of a metric of `tasks.metrics.classification`.
    """
    known = CLOSED_FORMS.get(metric)
    if known is None:
        return score_runs({name: _predictions(runs) for name, runs in methods.items()}, METRICS[metric])
    return {name: _score(name, runs, known) for name, runs in methods.items()}


def _score(method: str, runs: Mapping[int, Said], metric: LeaveOneOut) -> Scores:
    seeds = tuple(sorted(runs))
    examples = runs[seeds[0]].examples
    strata = [np.flatnonzero(examples.subsets == subset) for subset in np.unique(examples.subsets)]
    values = np.zeros(len(seeds))
    parts = []
    for places in strata:
        n = len(places)
        found = [metric(examples.labels[places], runs[seed].predicted[places]) for seed in seeds]
        left_out = np.stack([left for left, _ in found], axis=1)
        values += np.array([whole for _, whole in found]) / len(strata)
        parts.append(np.sqrt((n - 1) / n) / len(strata) * (left_out - left_out.mean(axis=0)))
    if any(len(places) < 2 for places in strata):
        reason = "one example alone" if len(strata) == 1 else "a subset with one example alone"
        return Scores(method, seeds, values, np.empty((0, len(seeds))), 0, reason)
    return Scores(method, seeds, values, np.concatenate(parts), len(examples.labels) - len(strata))


def _predictions(runs: Mapping[int, Said]) -> Predictions:
    seeds = tuple(sorted(runs))
    examples = runs[seeds[0]].examples
    predicted = np.stack([runs[seed].predicted for seed in seeds])
    return Predictions(seeds, np.arange(len(examples.labels)), examples.subsets, examples.labels, predicted)


def _from_confusion(metric: Callable[[np.ndarray], np.ndarray]) -> LeaveOneOut:
    """Return the jackknife of a metric that is a function of the confusion matrix, of shape (..., labels, predicted).

    Examples with the same label and the same prediction are interchangeable: there are as many cases as cells. Class 1
    has index 1.
    """

    def leave_one_out(labels: np.ndarray, said: np.ndarray) -> tuple[np.ndarray, float]:
        classes = np.unique(np.concatenate([labels, said, [0, 1]]))
        classes = np.concatenate([[0, 1], classes[(classes != 0) & (classes != 1)]])
        order = np.argsort(classes)
        label, prediction = (order[np.searchsorted(classes, given, sorter=order)] for given in (labels, said))
        size = len(classes)
        cell = label * size + prediction
        counts = np.bincount(cell, minlength=size * size)
        cells = np.flatnonzero(counts)
        left = np.repeat(counts[None], len(cells), axis=0)
        left[np.arange(len(cells)), cells] -= 1
        by_cell = np.zeros(size * size)
        by_cell[cells] = metric(left.reshape(-1, size, size).astype("float64"))
        return by_cell[cell], float(metric(counts.reshape(1, size, size).astype("float64"))[0])

    return leave_one_out


def _accuracy(confusion: np.ndarray) -> np.ndarray:
    return _ratio(np.trace(confusion, axis1=1, axis2=2), confusion.sum(axis=(1, 2)))


def _f1(confusion: np.ndarray) -> np.ndarray:
    both = 2 * confusion[:, 1, 1]
    return _ratio(both, confusion[:, 1].sum(axis=1) + confusion[:, :, 1].sum(axis=1))


def _matthews(confusion: np.ndarray) -> np.ndarray:
    """Gorodkin's generalisation to several classes, "Comparing two K-category assignments", 2004."""
    total = confusion.sum(axis=(1, 2))
    labels, predictions = confusion.sum(axis=2), confusion.sum(axis=1)
    right = np.trace(confusion, axis1=1, axis2=2)
    spread = (total**2 - (labels**2).sum(axis=1)) * (total**2 - (predictions**2).sum(axis=1))
    return _ratio(right * total - (labels * predictions).sum(axis=1), np.sqrt(spread))


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """0/0 is 0, as in `tasks.metrics.classification`."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


def _pearson(labels: np.ndarray, said: np.ndarray) -> tuple[np.ndarray, float]:
    n = len(labels)
    if n < 2 or np.ptp(labels) == 0 or np.ptp(said) == 0:
        return np.zeros(n), 0.0
    x, y = (np.asarray(given, "float64") - np.mean(given, dtype="float64") for given in (labels, said))
    # Of centred numbers the sums of squares and products without example i are S - n/(n - 1) times its own.
    total = np.array([x @ y, x @ x, y @ y])
    left = total[:, None] - n / (n - 1) * np.array([x * y, x * x, y * y])
    varies = (left[1] > 1e-12 * total[1]) & (left[2] > 1e-12 * total[2])
    spread = np.sqrt(np.where(varies, left[1] * left[2], 1.0))
    return np.where(varies, left[0] / spread, 0.0), float(total[0] / np.sqrt(total[1] * total[2]))


CLOSED_FORMS: dict[str, LeaveOneOut] = {
    "accuracy": _from_confusion(_accuracy),
    "f1": _from_confusion(_f1),
    "matthews_correlation": _from_confusion(_matthews),
    "pearson": _pearson,
}
