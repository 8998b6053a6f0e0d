"""How a score varies with its examples: its value without each of them in turn.

The usual metrics have a closed form, which gives the same as `reports.statistics.score_runs`, much faster; any other is
computed by its task. A report takes every run of a store through here, and keeps one byte per example.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from parbench.bench.util.errors import UserError
from parbench.reports.examples import Examples, Layout, is_numbers
from parbench.reports.statistics import Scores, leave_one_out
from parbench.tasks.base import Task
from parbench.tasks.metrics.classification import METRICS

# Of a correlation of 32-bit numbers, two libraries agree no better; one example of 100,000 moves a metric by more.
TOLERANCE = 1e-6

UNDEFINED = "the metric is not defined on some draws of the examples"


@dataclass(frozen=True, eq=False)
class LeftOut:
    """The score of a run without each of its examples in turn.

    Attributes:
        examples: what it was scored on.
        by_subset: the metric on all examples of each subset; the score is their mean.
        scores: what a subset's metric comes to without an example; each number once.
        kinds: which of the scores belongs to each example, of shape (examples,).
    """

    examples: Examples
    by_subset: np.ndarray
    scores: np.ndarray
    kinds: np.ndarray


@dataclass(frozen=True, eq=False)
class Jackknife:
    """A metric on all examples of one subset, and without each: ``scores[kinds]``, of shape (examples,)."""

    whole: float
    scores: np.ndarray
    kinds: np.ndarray


# Of labels and predictions, two or more.
ClosedForm = Callable[[np.ndarray, np.ndarray], Jackknife]


def leave_out(task: Task, table: pa.Table, layout: Layout | None, metric: str, score: float) -> LeftOut | str:
    """Return a run's score without each example in turn, or in words why it is not known.

    Args:
        task: the run's task.
        table: its per-example rows, as written.
        layout: their order; ``None`` where they do not name their examples.
        metric: the primary one.
        score: what it was recorded as.

    Raises:
        KeyError: the task needs a column that the table does not have.
    """
    if layout is None:
        return "the rows do not name their examples"
    if any(len(places) < 2 for places in layout.examples.strata):
        return "one example alone" if len(layout.examples.strata) == 1 else "a subset with one example alone"
    reason = f"how {metric} varies with the examples is not known"
    if metric in METRICS:
        of_labels = _by_labels(table, layout, metric)
        if of_labels is not None and _agrees(of_labels, score):
            return _checked(of_labels)
        reason = f"this task computes {metric} in its own way" if of_labels else "there is not one number per example"
    try:
        found = _by_task(task, table, layout, metric, score)
    except (UserError, ImportError) as error:
        return str(error)
    except KeyError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        return f"how {metric} varies with the examples cannot be computed ({type(error).__name__}: {error})"
    if found is None:
        return reason
    return _checked(found) if _agrees(found, score) else f"the {metric} of this task is not a mean over its subsets"


def score_methods(methods: Mapping[str, Mapping[int, LeftOut]]) -> dict[str, Scores]:
    """Return what `parbench.reports.statistics.score_runs` returns.

    Args:
        methods: by method and seed, the score without each example; all of the same examples.
    """
    return {name: _scores(name, runs) for name, runs in methods.items()}


def _scores(method: str, runs: Mapping[int, LeftOut]) -> Scores:
    seeds = tuple(sorted(runs))
    examples = runs[seeds[0]].examples
    values = np.array([runs[seed].by_subset.mean() for seed in seeds])
    parts = []
    for places in examples.strata:
        n = len(places)
        left = np.stack([runs[seed].scores[runs[seed].kinds[places]] for seed in seeds], axis=1)
        parts.append(np.sqrt((n - 1) / n) / len(examples.strata) * (left - left.mean(axis=0)))
    return Scores(method, seeds, values, np.concatenate(parts), len(examples) - len(examples.strata))


def _by_labels(table: pa.Table, layout: Layout, metric: str) -> LeftOut | None:
    labels = layout.examples.labels
    if labels is None or "prediction" not in table.column_names or not is_numbers(table["prediction"]):
        return None
    predicted = table["prediction"].to_numpy()[layout.order]
    closed = CLOSED_FORMS.get(metric) or _called(metric)
    return _joined(layout.examples, [closed(labels[places], predicted[places]) for places in layout.examples.strata])


def _by_task(task: Task, table: pa.Table, layout: Layout, metric: str, score: float) -> LeftOut | None:
    rows = to_frame(table).iloc[layout.order]
    strata = layout.examples.strata
    found = []
    for places in strata:
        part = rows.iloc[places].reset_index(drop=True)
        left = task.leave_one_out(part, metric)
        if left is None:
            return None
        if len(left) != len(places):
            raise ValueError(f"{len(left)} numbers for {len(places)} examples")
        whole = score if len(strata) == 1 else float(task.score(part)[metric])
        found.append(Jackknife(whole, *_distinct(np.asarray(left, dtype="float64"))))
    return _joined(layout.examples, found)


def to_frame(table: pa.Table) -> pd.DataFrame:
    """Return rows as a frame."""
    # The metadata that pandas left in a file are ignored: the columns suffice, in half the time.
    return table.to_pandas(ignore_metadata=True, use_threads=False)


def _joined(examples: Examples, parts: list[Jackknife]) -> LeftOut:
    scores = np.concatenate([part.scores for part in parts])
    kinds = np.empty(len(examples), dtype=np.min_scalar_type(len(scores)))
    before = 0
    for places, part in zip(examples.strata, parts, strict=True):
        kinds[places] = part.kinds + before
        before += len(part.scores)
    return LeftOut(examples, np.array([part.whole for part in parts]), scores, kinds)


def _agrees(found: LeftOut, score: float) -> bool:
    return math.isclose(found.by_subset.mean(), score, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def _checked(found: LeftOut) -> LeftOut | str:
    return found if np.isfinite(found.scores).all() else UNDEFINED


def _distinct(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found, kinds = np.unique(values, return_inverse=True, equal_nan=False)
    return found, kinds


def _accuracy(labels: np.ndarray, predicted: np.ndarray) -> Jackknife:
    right = labels == predicted
    total, n = float(right.sum()), len(right)
    values = (total - np.array([0.0, 1.0])) / (n - 1)
    return Jackknife(total / n, values, right.astype("uint8"))


def _f1(labels: np.ndarray, predicted: np.ndarray) -> Jackknife:
    """Of class 1."""
    is_one, predicted_one = labels == 1, predicted == 1
    # An example counts by label and prediction: in none of the sums, in one, or in all.
    given, answered = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    both, labelled, positive = (float(part.sum()) for part in (is_one & predicted_one, is_one, predicted_one))
    values = _ratio(2 * (both - given * answered), labelled + positive - given - answered)
    whole = _ratio(np.array([2 * both]), np.array([labelled + positive]))
    return Jackknife(float(whole[0]), values, 2 * is_one.astype("uint8") + predicted_one)


def _matthews(labels: np.ndarray, predicted: np.ndarray) -> Jackknife:
    """Gorodkin's generalisation to several classes, "Comparing two K-category assignments", 2004."""
    label, answer, size = _classes(labels, predicted)
    n = len(label)
    given = np.bincount(label, minlength=size).astype("float64")
    answered = np.bincount(answer, minlength=size).astype("float64")
    right, sums = float((label == answer).sum()), (given @ answered, given @ given, answered @ answered)
    # Examples with the same label and the same answer are interchangeable; without one, every sum loses its share.
    cells, kinds = _distinct(label * size + answer)
    i, j = np.divmod(cells, size)
    values = _gorodkin(
        np.full(len(cells), n - 1.0),
        right - (i == j),
        sums[0] - answered[i] - given[j] + (i == j),
        sums[1] - 2 * given[i] + 1,
        sums[2] - 2 * answered[j] + 1,
    )
    whole = _gorodkin(*(np.array([float(number)]) for number in (n, right, *sums)))
    return Jackknife(float(whole[0]), values, kinds)


def _gorodkin(
    total: np.ndarray, right: np.ndarray, both: np.ndarray, given: np.ndarray, answered: np.ndarray
) -> np.ndarray:
    """Return the coefficient; ``both``, ``given`` and ``answered`` are sums over the classes of products of counts."""
    spread = (total**2 - given) * (total**2 - answered)
    return _ratio(right * total - both, np.sqrt(spread))


def _classes(labels: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Return labels and predictions as places among the classes, and how many places there are."""
    if all(np.issubdtype(given.dtype, np.integer) for given in (labels, predicted)):
        low, high = min(labels.min(), predicted.min()), max(labels.max(), predicted.max())
        if low >= 0 and high < 10_000:
            return labels.astype("int64"), predicted.astype("int64"), int(high) + 1
    classes, places = np.unique(np.concatenate([labels, predicted]), return_inverse=True)
    return places[: len(labels)], places[len(labels) :], len(classes)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """0/0 is 0, as in `parbench.tasks.metrics.classification`."""
    return np.divide(numerator, denominator, out=np.zeros(len(numerator)), where=denominator > 0)


def _pearson(labels: np.ndarray, predicted: np.ndarray) -> Jackknife:
    n = len(labels)
    if np.ptp(labels) == 0 or np.ptp(predicted) == 0:
        return Jackknife(0.0, np.zeros(1), np.zeros(n, dtype="uint8"))
    x, y = (np.asarray(given, "float64") - np.mean(given, dtype="float64") for given in (labels, predicted))
    # Of centred numbers the sums of squares and products without example i are S - n/(n - 1) times its own.
    total = np.array([x @ y, x @ x, y @ y])
    left = total[:, None] - n / (n - 1) * np.array([x * y, x * x, y * y])
    varies = (left[1] > 1e-12 * total[1]) & (left[2] > 1e-12 * total[2])
    spread = np.sqrt(np.where(varies, left[1] * left[2], 1.0))
    values = np.where(varies, left[0] / spread, 0.0)
    return Jackknife(float(total[0] / np.sqrt(total[1] * total[2])), values, np.arange(n))


def _called(metric: str) -> ClosedForm:
    """Return the jackknife of a metric that has no closed form here: its own code, once for each kind of example."""

    def jackknife(labels: np.ndarray, predicted: np.ndarray) -> Jackknife:
        function = METRICS[metric]
        return Jackknife(function(labels, predicted), *_distinct(leave_one_out(function, labels, predicted)))

    return jackknife


CLOSED_FORMS: dict[str, ClosedForm] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "matthews_correlation": _matthews,
    "pearson": _pearson,
}
