"""Scores of the runs of a method on one task, and their covariance from the draw of the examples."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from parbench.bench.util.errors import UserError
from parbench.tasks.metrics.classification import Metric


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions of a method's runs on one task, by run and example.

    Attributes:
        seeds: seed of each run, ascending.
        examples: ids of the examples, of shape (examples,).
        subsets: subset of each example, of shape (examples,); all the same where a task has none.
        labels: of shape (examples,).
        predicted: of shape (seeds, examples); numbers or strings, as the metric wants them.
    """

    seeds: tuple[int, ...]
    examples: np.ndarray
    subsets: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray

    @classmethod
    def of_runs(cls, rows: Mapping[int, pd.DataFrame]) -> Predictions:
        """Align the per-example rows of several runs.

        Args:
            rows: by seed, a run's rows in any order, with the columns ``example``, ``subset``, ``label`` and
                ``prediction``.

        Raises:
            UserError: there are no runs or no rows, the runs are not of the same examples with the same labels, or a
                prediction is missing or infinite.
        """
        if not rows:
            raise UserError("there are no runs to score; leave the method out, or run it first")
        seeds = tuple(sorted(rows))
        runs = [rows[seed].sort_values("example", ignore_index=True) for seed in seeds]
        first, known = runs[0], ["example", "subset", "label"]
        if first.empty or first["example"].duplicated().any():
            what = "has no rows" if first.empty else "has an example twice"
            raise UserError(f"the run of seed {seeds[0]} {what}; remove its record and run it again")
        for seed, run in zip(seeds, runs, strict=True):
            if not run[known].equals(first[known]):
                raise UserError(
                    f"the runs of seeds {seeds[0]} and {seed} were not scored on the same examples, so that they have "
                    "no common mean; run them again on the same revision of the data and with the same limit"
                )
            if (run["prediction"].isna() | run["prediction"].isin([math.inf, -math.inf])).any():
                raise UserError(
                    f"the run of seed {seed} has no prediction, or no finite one, for an example; "
                    "remove its record and run it again"
                )
        examples, subsets, labels = (first[name].to_numpy() for name in known)
        predicted = np.stack([run["prediction"].to_numpy() for run in runs])
        return cls(seeds, examples, subsets, labels, predicted)

    def strata(self) -> Iterator[np.ndarray]:
        """Yield the places of each subset's examples, which are scored and resampled by themselves."""
        for subset in np.unique(self.subsets):
            yield np.flatnonzero(self.subsets == subset)


@dataclass(frozen=True, eq=False)
class Scores:
    """What the runs of one method on one task scored.

    Attributes:
        method: its name.
        seeds: seed of each run, ascending.
        by_seed: score of each run on all examples, of shape (seeds,).
        deviations: of shape (draws, seeds); ``deviations.T @ deviations`` is the covariance of the scores that comes
            from the draw of the examples. Row for row the same draws for all methods of one call of `score_runs`.
        degrees: degrees of freedom of that covariance.
        reason: why there is no covariance, in which case ``deviations`` is empty; else ``None``.
    """

    method: str
    seeds: tuple[int, ...]
    by_seed: np.ndarray
    deviations: np.ndarray
    degrees: int
    reason: str | None = None


def score_runs(
    runs: Mapping[str, Predictions],
    metric: Metric,
    resamples: int | None = None,
    rng: np.random.Generator | None = None,
) -> dict[str, Scores]:
    """Score every run of every method on one task, on all examples and on draws of them.

    A score is the unweighted mean of the metric over the subsets. All runs of all methods see the same draws, because
    they were scored on the same examples: whatever compares them is paired by example.

    The draws are those of the jackknife, which leaves out one example at a time (Efron and Stein, "The Jackknife
    Estimate of Variance", Annals of Statistics 1981). It gives the variance that the bootstrap approaches with more
    and more resamples, without Monte Carlo noise, for any metric that is smooth in the examples: accuracy, F1,
    Matthews, Pearson, Spearman, a corpus score made of sums. It is also cheap: examples with the same label and the
    same prediction are interchangeable, so that a classification needs one call of the metric per run and cell of the
    confusion matrix; a regression needs one per run and example. For a metric that is not smooth, such as a median,
    ask for ``resamples``.

    Args:
        runs: by method; all on the same examples.
        metric: of (labels, predictions), whatever the order of the examples; larger is better.
        resamples: draw so many bootstrap resamples instead, within subsets.
        rng: draws the resamples; by default one of a fixed seed.

    Raises:
        UserError: the methods were not scored on the same examples.
        ValueError: the metric is not a finite number on the whole split, or ``resamples`` is less than 2.
    """
    if resamples is not None and resamples < 2:
        raise ValueError(f"a covariance needs at least 2 resamples, not {resamples}")
    names = list(runs)
    for name in names[1:]:
        _require_same_examples(names[0], runs[names[0]], name, runs[name])
    # One seed for all methods instead of their resamples themselves, which would fill the memory on large splits.
    seed = int((rng or np.random.default_rng(0)).integers(2**63))
    return {name: _score(name, run, metric, resamples, seed) for name, run in runs.items()}


def _score(method: str, runs: Predictions, metric: Metric, resamples: int | None, seed: int) -> Scores:
    strata = list(runs.strata())
    values = np.array([_mean_over(strata, metric, runs.labels, predicted) for predicted in runs.predicted])
    if not np.isfinite(values).all():
        run = int(np.flatnonzero(~np.isfinite(values))[0])
        raise ValueError(
            f"the metric is {values[run]} for seed {runs.seeds[run]} of {method}; give one that is a number for "
            "constant predictions, too"
        )
    degrees = len(runs.examples) - len(strata)
    if any(len(places) < 2 for places in strata):
        reason = "one example alone" if len(strata) == 1 else "a subset with one example alone"
    else:
        if resamples is None:
            deviations = _jackknife(runs, metric, strata)
        else:
            deviations = _bootstrap(runs, metric, strata, resamples, np.random.default_rng(seed))
            degrees = min(degrees, resamples - 1)
        if np.isfinite(deviations).all():
            return Scores(method, runs.seeds, values, deviations, degrees)
        reason = "the metric is not defined on some draws of the examples"
    return Scores(method, runs.seeds, values, np.empty((0, len(runs.seeds))), 0, reason)


def _mean_over(strata: list[np.ndarray], metric: Metric, labels: np.ndarray, predicted: np.ndarray) -> float:
    return sum(metric(labels[places], predicted[places]) for places in strata) / len(strata)


def _jackknife(runs: Predictions, metric: Metric, strata: list[np.ndarray]) -> np.ndarray:
    parts = []
    for places in strata:
        left_out = np.stack(
            [leave_one_out(metric, runs.labels[places], predicted[places]) for predicted in runs.predicted], axis=1
        )
        scale = np.sqrt((len(places) - 1) / len(places)) / len(strata)
        parts.append(scale * (left_out - left_out.mean(axis=0)))
    return np.concatenate(parts)


def leave_one_out(metric: Metric, labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the metric without each example in turn, of shape (examples,).

    One call of it for all examples that have the same label and prediction.
    """
    kind, _ = pd.MultiIndex.from_arrays([labels, predicted]).factorize()
    _, firsts = np.unique(kind, return_index=True)
    return np.array([metric(np.delete(labels, first), np.delete(predicted, first)) for first in firsts])[kind]


def _bootstrap(
    runs: Predictions, metric: Metric, strata: list[np.ndarray], resamples: int, rng: np.random.Generator
) -> np.ndarray:
    replicates = np.empty((resamples, len(runs.seeds)))
    for draw in range(resamples):
        drawn = [rng.choice(places, len(places)) for places in strata]
        replicates[draw] = [_mean_over(drawn, metric, runs.labels, predicted) for predicted in runs.predicted]
    return (replicates - replicates.mean(axis=0)) / np.sqrt(resamples - 1)


def _require_same_examples(name: str, runs: Predictions, other_name: str, other: Predictions) -> None:
    for one, another in zip(
        (runs.examples, runs.subsets, runs.labels), (other.examples, other.subsets, other.labels), strict=True
    ):
        if not np.array_equal(one, another):
            raise UserError(
                f"{name} and {other_name} were not scored on the same examples, so that they cannot be compared; run "
                "them again on the same revision of the data and with the same limit"
            )
