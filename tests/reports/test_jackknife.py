"""How scores vary with their examples: closed forms against the metrics' own code, tasks against brute force."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from parbench.bench.util.errors import UserError
from parbench.reports.examples import Examples, layout_of
from parbench.reports.jackknife import CLOSED_FORMS, UNDEFINED, LeftOut, leave_out, score_methods
from parbench.reports.statistics import Predictions, estimate, score_runs
from parbench.tasks.base import Task
from parbench.tasks.metrics import generation
from parbench.tasks.metrics.classification import METRICS
from parbench.tasks.metrics.subsets import over_subsets

CASES = [
    ("accuracy", 2),
    ("accuracy", 4),
    ("f1", 2),
    ("matthews_correlation", 2),
    ("matthews_correlation", 3),
    ("pearson", 0),
    ("spearman", 0),
]


class Scored:
    """A task that scores rows by a function of them, without a jackknife."""

    leave_one_out = Task.leave_one_out

    def __init__(self, **metrics: Any) -> None:
        self.metrics = metrics

    def score(self, predictions: pd.DataFrame) -> Mapping[str, float]:
        def scored(rows: pd.DataFrame) -> dict[str, float]:
            return {name: float(metric(rows)) for name, metric in self.metrics.items()}

        return over_subsets(predictions, scored)


def left_out(task: Any, rows: pd.DataFrame, metric: str) -> LeftOut | str:
    table = pa.Table.from_pandas(rows, preserve_index=False)
    return leave_out(task, table, layout_of({}, "a", table), metric, task.score(rows)[metric])


def of_labels(labels: np.ndarray, predicted: np.ndarray, subsets: np.ndarray, metric: str) -> LeftOut:
    names = [f"{number:04}" for number in range(len(labels))]
    rows = pd.DataFrame({"example": names, "subset": subsets.astype(str), "label": labels, "prediction": predicted})
    task = Scored(**{metric: lambda part: METRICS[metric](part["label"].to_numpy(), part["prediction"].to_numpy())})
    found = left_out(task, rows, metric)
    assert isinstance(found, LeftOut)
    return found


def shared(runs: list[LeftOut]) -> dict[str, dict[int, LeftOut]]:
    """Return runs of one method, of the same examples."""
    first = runs[0].examples
    return {"m": {seed: LeftOut(first, run.by_subset, run.scores, run.kinds) for seed, run in enumerate(runs)}}


@pytest.mark.parametrize(("metric", "classes"), CASES)
@pytest.mark.parametrize("subsets", [1, 2])
def test_the_same_as_the_metric_itself(metric: str, classes: int, subsets: int) -> None:
    draw = np.random.default_rng(3)
    n = 24
    labels = draw.integers(classes, size=n) if classes else draw.normal(size=n).round(1)
    groups = np.arange(n) % subsets
    noise = [draw.random(n) < 0.3 for _ in range(3)]
    predicted = [np.where(flip, draw.permutation(labels), labels) for flip in noise]
    predicted[2] = np.full(n, predicted[2][0])  # a constant: 0/0 in all metrics but accuracy
    found = score_methods(shared([of_labels(labels, row, groups, metric) for row in predicted]))["m"]
    runs = Predictions((0, 1, 2), np.arange(n), groups, labels, np.stack(predicted))
    expected = score_runs({"m": runs}, METRICS[metric])["m"]
    np.testing.assert_allclose(found.by_seed, expected.by_seed, atol=1e-12)
    np.testing.assert_allclose(found.deviations, expected.deviations, atol=1e-12)
    assert (found.seeds, found.degrees, found.reason) == (expected.seeds, expected.degrees, expected.reason)


@pytest.mark.parametrize("metric", sorted(CLOSED_FORMS))
@pytest.mark.parametrize(
    ("labels", "predicted"),
    [
        ([0, 0, 0, 1], [0, 0, 1, 1]),  # a class that has one example alone
        ([5, -3, 5, -3, 5], [5, 5, -3, -3, 7]),  # classes that are no places
        ([0, 20_000, 1, 1], [20_000, 20_000, 1, 0]),
        ([0.0, 1.0, 2.0, 1.0], [0.0, 1.0, 0.0, 7.0]),
        ([3, 3, 3], [3, 3, 3]),
    ],
)
@pytest.mark.filterwarnings("ignore:A single label was found")
def test_odd_classes(metric: str, labels: list[Any], predicted: list[Any]) -> None:
    given, answered = np.array(labels), np.array(predicted)
    if metric in ("f1", "matthews_correlation") and given.dtype.kind == "f":
        given, answered = (np.searchsorted(np.unique(np.concatenate([given, answered])), x) for x in (given, answered))
    if metric == "f1":
        given, answered = (given == given[0]).astype(int), (answered == given[0]).astype(int)
    found, n = CLOSED_FORMS[metric](given, answered), len(given)
    assert found.whole == pytest.approx(METRICS[metric](given, answered), abs=1e-12)
    without = [METRICS[metric](np.delete(given, i), np.delete(answered, i)) for i in range(n)]
    assert found.scores[found.kinds] == pytest.approx(without, abs=1e-7)


def test_many_classes_take_little_memory() -> None:
    draw = np.random.default_rng(0)
    labels, predicted = draw.integers(0, 2_000, (2, 5_000))
    found = CLOSED_FORMS["matthews_correlation"](labels, predicted)  # a confusion matrix a case would be 160 GB
    assert found.whole == pytest.approx(METRICS["matthews_correlation"](labels, predicted), abs=1e-12)
    one = METRICS["matthews_correlation"](labels[1:], predicted[1:])
    assert found.scores[found.kinds[0]] == pytest.approx(one, abs=1e-12)


def mean_rows(values: np.ndarray, subsets: list[str], column: str) -> pd.DataFrame:
    names = [f"{number:04}" for number in range(len(values))]
    return pd.DataFrame({"example": names, "subset": subsets, column: values})


@pytest.mark.parametrize("subsets", [1, 3])
def test_a_mean_has_exactly_the_interval_of_accuracy(subsets: int) -> None:
    draw = np.random.default_rng(5)
    n = 90
    labels = draw.integers(0, 2, n)
    predicted = [np.where(draw.random(n) < 0.2, 1 - labels, labels) for _ in range(4)]
    groups = np.arange(n) % subsets
    task = Scored(hit_rate=lambda rows: rows["hit_rate"].mean())
    hits = [mean_rows((row == labels).astype("float64"), list(map(str, groups)), "hit_rate") for row in predicted]
    means = [left_out(task, rows, "hit_rate") for rows in hits]
    by_mean = score_methods(shared([one for one in means if isinstance(one, LeftOut)]))["m"]
    by_class = score_methods(shared([of_labels(labels, row, groups, "accuracy") for row in predicted]))["m"]
    np.testing.assert_array_equal(by_mean.deviations, by_class.deviations)
    assert estimate(by_mean).interval == estimate(by_class).interval is not None


class Generated(Scored):
    """BLEU of generated texts, from the statistics of each."""

    def __init__(self) -> None:
        super().__init__(bleu=lambda rows: generation.corpus_scores(rows)["bleu"])

    def leave_one_out(self, predictions: pd.DataFrame, metric: str) -> np.ndarray | None:  # type: ignore[override]
        return generation.leave_one_out(predictions, metric)


def texts(seed: int, subsets: int = 2) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    words = ["the", "blue", "spice", "is", "a", "cheap", "pub", "near", "river", "and", "serves", "good", "food"]
    hypotheses = [" ".join(draw.choice(words, draw.integers(5, 12))) for _ in range(16)]
    references = [[" ".join(draw.choice(words, 9)), text + " today"] for text in hypotheses]
    statistics = generation.example_statistics(hypotheses, references, ["bleu"])
    rows = mean_rows(np.zeros(16), [str(number % subsets) for number in range(16)], "nothing")
    return rows.assign(text=hypotheses, bleu_statistics=statistics["bleu_statistics"])


def test_a_corpus_metric_varies_as_when_it_is_computed_without_each_example() -> None:
    task, rows = Generated(), texts(1)
    found = left_out(task, rows.sample(frac=1, random_state=3), "bleu")
    assert isinstance(found, LeftOut)
    for subset, part in rows.groupby("subset"):
        without = [task.score(part.drop(index=row))["bleu"] for row in part.index]
        assert found.scores[found.kinds[part.index]] == pytest.approx(without, abs=1e-12)
        assert found.by_subset[int(str(subset))] == pytest.approx(task.score(part)["bleu"])


def test_the_interval_of_a_corpus_metric_is_that_of_its_jackknife() -> None:
    task, runs = Generated(), [texts(seed, subsets=1) for seed in range(3)]
    found = [left_out(task, rows, "bleu") for rows in runs]
    scores = score_methods(shared([one for one in found if isinstance(one, LeftOut)]))["m"]
    without = np.array([[task.score(rows.drop(index=i))["bleu"] for rows in runs] for i in range(16)])
    deviations = np.sqrt(15 / 16) * (without - without.mean(axis=0))
    np.testing.assert_allclose(scores.deviations, deviations, atol=1e-12)
    np.testing.assert_allclose(scores.by_seed, [task.score(rows)["bleu"] for rows in runs], atol=1e-12)
    assert scores.degrees == 15
    assert estimate(scores).interval is not None


class Refusing(Scored):
    def leave_one_out(self, predictions: pd.DataFrame, metric: str) -> np.ndarray | None:  # type: ignore[override]
        raise UserError("there is no Java")


class Short(Scored):
    def leave_one_out(self, predictions: pd.DataFrame, metric: str) -> np.ndarray | None:  # type: ignore[override]
        return np.zeros(1)


class Undefined(Scored):
    def leave_one_out(self, predictions: pd.DataFrame, metric: str) -> np.ndarray | None:  # type: ignore[override]
        return np.where(np.arange(len(predictions)) == 0, np.nan, 1.0)


class Overall(Scored):
    """A mean over all examples, whatever their subsets."""

    def score(self, predictions: pd.DataFrame) -> Mapping[str, float]:
        return {"rating": float(predictions["rating"].mean())}


CANNOT = "how rating varies with the examples cannot be computed"
RATED = mean_rows(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), list("aabbb"), "rating")


@pytest.mark.parametrize(
    ("task", "rows", "metric", "reason"),
    [
        (Scored(median=lambda rows: 1.0), RATED, "median", "how median varies with the examples is not known"),
        (Refusing(rating=lambda rows: 1.0), RATED, "rating", "there is no Java"),
        (Short(rating=lambda rows: 1.0), RATED, "rating", f"{CANNOT} (ValueError: 1 numbers for 2 examples)"),
        (Undefined(rating=lambda rows: 1.0), RATED, "rating", UNDEFINED),
        (Overall(), RATED, "rating", "the rating of this task is not a mean over its subsets"),
        (Overall(), RATED.head(1), "rating", "one example alone"),
        (Overall(), RATED.head(3), "rating", "a subset with one example alone"),
        (Overall(), RATED.drop(columns="example"), "rating", "the rows do not name their examples"),
        (
            Scored(accuracy=lambda rows: 0.25),
            RATED.assign(label=[0, 1, 0, 1, 0], prediction=[1, 1, 1, 0, 0]),
            "accuracy",
            "this task computes accuracy in its own way",
        ),
        (
            Scored(accuracy=lambda rows: 0.25),
            RATED.assign(label="x"),
            "accuracy",
            "there is not one number per example",
        ),
    ],
)
def test_where_it_is_not_known_the_reason_is_given(task: Any, rows: pd.DataFrame, metric: str, reason: str) -> None:
    assert left_out(task, rows, metric) == reason


def test_examples_are_the_same_by_name_subset_and_label_that_is_a_number() -> None:
    known: Any = {}

    def examples(task: str = "a", **changed: Any) -> Examples:
        rows = RATED.assign(**{"label": [0, 1, 0, 1, 0], **changed})
        layout = layout_of(known, task, pa.Table.from_pandas(rows, preserve_index=False))
        assert layout is not None
        return layout.examples

    first = examples()
    assert examples(rating=0.0) is first
    assert examples(example=list("vwxyz")) is not first
    assert examples(subset="a") is not first
    assert examples(label=1) is not first
    assert examples(task="b") is not first
    written = examples(label=list("pqrst"))
    assert written is not first
    assert examples(label=list("other")) is written  # a reference text may be reworded
