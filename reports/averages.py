"""Averages over the tasks of a leaderboard, and the averages that families of tasks are known by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from parbench.reports.columns import Column, rank_column
from parbench.reports.repeats import Floors, average_floor
from parbench.reports.rows import COLUMN, WITH_MODEL
from parbench.reports.scored import Scored
from parbench.reports.statistics import (
    Estimate,
    NoiseFloor,
    Scores,
)
from parbench.tasks.averages import AVERAGES, Average
from parbench.tasks.metrics.units import RAW, Unit

# So little is a score changed to see how an average follows: rounding and curvature are far below what is shown.
_STEP = 2.0**-20


# Of the scores of one row on some tasks, seed by seed: the average of each seed, of shape (seeds,), and its slopes with
# respect to each task's score, of shape (tasks, seeds).
_Combine = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def average_column(
    columns: Mapping[tuple[str, str], Mapping[str, Scored]],
    units: Mapping[tuple[str, str], Unit],
    rows: Iterable[str],
    floor: NoiseFloor | None,
    combine: _Combine,
) -> Column:
    """Return the column of averages over tasks, which are fixed and share no examples with each other."""
    together: dict[str, Scored] = {}
    apart: dict[str, Estimate] = {}
    for row in rows:
        entries = [column[row] for column in columns.values()]
        scores = [entry.scores for entry in entries]
        if len({one.seeds for one in scores}) > 1:
            (mean,), _ = combine(np.array([[one.by_seed.mean()] for one in scores]))
            few = min(len(one.seeds) for one in scores)
            apart[row] = Estimate(float(mean), few, None, None, "other seeds on other tasks")
            continue
        reason = next((one.reason for one in scores if one.reason), None)
        by_seed, slopes = combine(np.stack([one.by_seed for one in scores]))
        deviations = np.empty((0, len(by_seed)))
        if reason is None:
            deviations = np.concatenate([slope * one.deviations for slope, one in zip(slopes, scores, strict=True)])
        average = Scores(row, scores[0].seeds, by_seed, deviations, sum(one.degrees for one in scores), reason)
        together[row] = Scored(average, tuple(entry.examples for entry in entries))
    return rank_column(together, _average_unit([units[key] for key in columns], combine), floor, apart)


def _average_unit(units: Sequence[Unit], combine: _Combine) -> Unit:
    """Return the unit of an average: its tasks' where they share one, else what their bounds average to.

    Where no task has a score there is no average, and its unit does not matter.
    """
    if len(set(units)) == 1:
        return units[0]
    if not units or any(unit.factor != 100 for unit in units):
        return RAW
    (low, high), _ = combine(np.array([[unit.low, unit.high] for unit in units]))
    return Unit("average of fractions", 100, 1, float(low), float(high))


def mean_of_tasks(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the plain mean over tasks, seed by seed, with its slopes."""
    return np.mean(scores, axis=0), np.full(scores.shape, 1 / len(scores))


def _combined(of: Callable[[Sequence[float]], float]) -> _Combine:
    """Return the averages by a function of one score per task, with slopes from finite differences."""

    def combine(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = np.array([of(seed.tolist()) for seed in scores.T])
        slopes = np.empty(scores.shape)
        for task in range(len(scores)):
            moved = scores.copy()
            moved[task] += _STEP
            slopes[task] = (np.array([of(seed.tolist()) for seed in moved.T]) - found) / _STEP
        return found, slopes

    return combine


def named_averages(
    scored: Mapping[tuple[str, str], Mapping[str, Scored]],
    units: Mapping[tuple[str, str], Unit],
    runs: pd.DataFrame,
    floors: Floors,
) -> tuple[dict[tuple[str, str], Column], tuple[str, ...]]:
    """Return the averages of the families that a leaderboard has tasks of, and which of them it cannot have.

    Each base model has averages of its own. They are named after it where several have tasks of a family.
    """
    models = [(str(model), part) for model, part in runs.groupby("base_model")]
    pairs = {(model, family) for model, part in models for family in part["task"].str.partition("/")[0]}
    shared = {family for family, count in Counter(family for _, family in pairs).items() if count > 1}
    found: dict[tuple[str, str], Column] = {}
    notes: list[str] = []
    for model, part in models:
        of = dict.fromkeys(shared, f"{WITH_MODEL}{model}")
        averages, lacking = _named_averages(scored, units, part, floors)
        found |= {(family, name + of.get(family, "")): column for (family, name), column in averages.items()}
        notes += _sentences(lacking, of)
    return found, tuple(notes)


def _named_averages(
    scored: Mapping[tuple[str, str], Mapping[str, Scored]],
    units: Mapping[tuple[str, str], Unit],
    runs: pd.DataFrame,
    floors: Floors,
) -> tuple[dict[tuple[str, str], Column], dict[tuple[str, str], list[str]]]:
    """Return the averages of one base model, and by family and reason the names of those that there cannot be."""
    places: dict[str, list[tuple[str, str]]] = {}
    for task, column, metric in runs[["task", *COLUMN]].drop_duplicates().itertuples(index=False):
        places.setdefault(str(task), []).append((str(column), str(metric)))
    found: dict[tuple[str, str], Column] = {}
    lacking: dict[tuple[str, str], list[str]] = {}
    families = {task.partition("/")[0] for task in places}
    for family in sorted(families.intersection(AVERAGES)):
        for average in AVERAGES[family]:
            if reason := _cannot(average, places, scored):
                lacking.setdefault((family, reason), []).append(average.name)
                continue
            columns = {place: scored[place] for (place,) in (places[task] for task in average.tasks)}
            rows = [row for row in next(iter(columns.values())) if all(row in one for one in columns.values())]
            combine = _combined(average.of)
            floor = _floor(columns, floors, combine) if rows else None
            found[family, average.name] = average_column(columns, units, rows, floor, combine)
    return found, lacking


def _floor(
    columns: Mapping[tuple[str, str], Mapping[str, Scored]], floors: Floors, combine: _Combine
) -> NoiseFloor | None:
    means = [[np.mean([one.scores.by_seed.mean() for one in column.values()])] for column in columns.values()]
    return average_floor(floors, columns, combine(np.array(means))[1][:, 0].tolist())


def _cannot(
    average: Average, places: Mapping[str, Sequence[tuple[str, str]]], scored: Collection[tuple[str, str]]
) -> str | None:
    """Return why an average is not to be had, or ``None`` if it is."""
    if several := [task for task in average.tasks if len(places.get(task, ())) > 1]:
        return f"there are several columns of {_listed(several)}"
    missing = [task for task in average.tasks if not any(place in scored for place in places.get(task, ()))]
    return f"there is no score on {_listed(missing)}" if missing else None


def _listed(names: Sequence[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _sentences(lacking: Mapping[tuple[str, str], Sequence[str]], of: Mapping[str, str]) -> Iterator[str]:
    for (family, reason), names in lacking.items():
        yield f"Of {family}{of.get(family, '')} there is no average by the name of {' or '.join(names)}: {reason}."


def why_no_average(runs: pd.DataFrame, units: Iterable[Unit]) -> str | None:
    """Return why a leaderboard has no average over its tasks, or ``None`` if it has one."""
    columns = runs[["base_model", "task", *COLUMN]].drop_duplicates()
    if len(columns) < 2:
        return "There is one task only."
    if columns.duplicated(["base_model", "task"]).any() or any(unit.factor != 100 for unit in units):
        return "There is no average, because the columns are not one fraction per task."
    return None
