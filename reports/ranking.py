"""Who is better on a leaderboard, as far as it can be said: the statistics of its runs' per-example rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from types import MappingProxyType

import numpy as np
import pandas as pd

from parbench.reports.jackknife import LeftOut, score_methods
from parbench.reports.repeats import Floors, average_floor
from parbench.reports.rows import COLUMN
from parbench.reports.statistics import (
    Comparison,
    Estimate,
    InterquartileMean,
    NoiseFloor,
    RankRange,
    Scores,
    TaskRanking,
    compare_scores,
    estimate,
    holm,
    interquartile_mean,
    rank_over_tasks,
    rank_ranges,
    win_tie_loss,
)
from parbench.reports.tables import is_counted, row_key, scale
from parbench.tasks.averages import AVERAGES, Average

LEVEL = 0.95

# So little is a score changed to see how an average follows: rounding and curvature are far below what is shown.
_STEP = 2.0**-20


@dataclass(frozen=True)
class Standing:
    """A row of a leaderboard in one column.

    Attributes:
        estimate: mean and interval.
        ranks: the ranks it may have; ``None`` where nothing in the column could be tested.
        best: whether it is in the best tie group of a column where some row is known not to be.
    """

    estimate: Estimate
    ranks: RankRange | None
    best: bool


@dataclass(frozen=True)
class Column:
    """One column of a leaderboard: a task, or the average over all.

    Attributes:
        standings: by row, of those with a score.
        comparisons: of every pair of these rows, corrected by Holm.
        reason: why there are no ranks; ``None`` where there are.
    """

    standings: Mapping[str, Standing]
    comparisons: tuple[Comparison, ...]
    reason: str | None


@dataclass(frozen=True)
class Ranking:
    """The statistics of one leaderboard.

    Attributes:
        columns: by task and metric.
        average: of the rows with a score on every task; ``None`` where ``no_average`` says why.
        no_average: a sentence, or ``None``.
        over_tasks: mean ranks and Friedman's test, of the rows with a score on every task.
        incomplete: rows without a score on some task, which are not ranked over tasks.
        wins: see `parbench.reports.statistics.win_tie_loss`.
        interquartile: by row; empty where there is no average.
        named: averages that families of tasks are known by, by family and name; see `parbench.tasks.averages`.
        no_named: sentences that say which of those there cannot be, and why.
    """

    columns: Mapping[tuple[str, str], Column]
    average: Column | None
    no_average: str | None
    over_tasks: TaskRanking
    incomplete: tuple[str, ...]
    wins: pd.DataFrame
    interquartile: Mapping[str, InterquartileMean]
    named: Mapping[tuple[str, str], Column]
    no_named: tuple[str, ...]


@dataclass(frozen=True)
class Scored:
    """The scores of a row in a column, and a token of the examples behind them: pairs of one token can be tested."""

    scores: Scores
    examples: Hashable


def rank_board(
    runs: pd.DataFrame, left_out: Mapping[str, LeftOut | str], floors: Floors = MappingProxyType({})
) -> Ranking:
    """Work out the statistics of one leaderboard.

    Args:
        runs: the frame's runs of one leaderboard.
        left_out: the frame's.
        floors: what chance alone changes, on the tasks of which it is known.
    """
    counted = runs.loc[is_counted(runs), [*COLUMN, "row", "seed", "run_id", "score", "unchecked"]]
    rows = sorted(counted["row"].unique(), key=lambda row: row_key({"method": "", "row": row}))
    parts = counted.groupby(COLUMN)
    scored = {(str(column), str(metric)): score_column(part, left_out, rows) for (column, metric), part in parts}
    asked = runs.groupby(COLUMN).ngroups
    complete = [row for row in rows if all(row in column for column in scored.values()) and len(scored) == asked]
    columns = {key: _column(column, floors.get(key)) for key, column in scored.items()}
    no_average = _no_average(runs)
    named, no_named = _named(scored, runs, floors)
    means = pd.DataFrame(
        {row: [column[row].scores.by_seed.mean() for column in scored.values()] for row in complete},
        index=[f"{column} {metric}" for column, metric in scored],
    )
    return Ranking(
        columns=columns,
        average=None if no_average else _averages(scored.values(), complete, average_floor(floors, scored), _mean),
        no_average=no_average,
        over_tasks=rank_over_tasks(means, 1 - LEVEL),
        incomplete=tuple(sorted(set(runs["row"]).difference(complete))),
        wins=win_tie_loss({f"{key[0]} {key[1]}": column.comparisons for key, column in columns.items()}),
        interquartile={}
        if no_average
        else {row: interquartile_mean(_by_task(scored, row), LEVEL, resamples=2_000) for row in complete},
        named=named,
        no_named=no_named,
    )


def score_column(runs: pd.DataFrame, left_out: Mapping[str, LeftOut | str], rows: Sequence[str]) -> dict[str, Scored]:
    """Return the scores of each row on one task.

    Args:
        runs: of one task and metric, all with a score.
        left_out: the frame's.
        rows: the order of the result.
    """
    found: dict[str, Scored] = {}
    usable: dict[int, dict[str, Mapping[int, LeftOut]]] = {}
    for row, part in runs.groupby("row"):
        known = _by_seed(part, left_out)
        if isinstance(known, str):
            found[str(row)] = _without_examples(str(row), part, known)
        else:
            token = id(next(iter(known.values())).examples)
            usable.setdefault(token, {})[str(row)] = known
    for token, methods in usable.items():
        found |= {row: Scored(scores, token) for row, scores in score_methods(methods).items()}
    return {row: found[row] for row in rows if row in found}


def _by_seed(runs: pd.DataFrame, left_out: Mapping[str, LeftOut | str]) -> dict[int, LeftOut] | str:
    """Return by seed how the scores of one row on one task vary with the examples, or why that is not known."""
    if runs["seed"].duplicated().any():
        return "several runs of one seed"
    if runs["unchecked"].notna().any():
        return "the scores could not be recomputed from the per-example rows"
    known: dict[int, LeftOut] = {}
    for seed, run_id in zip(runs["seed"], runs["run_id"], strict=True):
        entry = left_out[run_id]
        if isinstance(entry, str):
            return entry
        known[int(seed)] = entry
    if len({id(entry.examples) for entry in known.values()}) > 1:
        return "the runs were not scored on the same examples"
    return known


def _without_examples(row: str, runs: pd.DataFrame, reason: str) -> Scored:
    part = runs.sort_values(["seed", "run_id"])
    seeds = tuple(int(seed) for seed in part["seed"])
    return Scored(Scores(row, seeds, part["score"].to_numpy(), np.empty((0, len(seeds))), 0, reason), None)


def _column(
    scored: Mapping[str, Scored], floor: NoiseFloor | None, apart: Mapping[str, Estimate] = MappingProxyType({})
) -> Column:
    """Return a column; the estimates that stand ``apart`` can be compared with nothing."""
    estimates = {row: estimate(entry.scores, LEVEL) for row, entry in scored.items()} | dict(apart)
    comparisons = corrected([compare_pair(a, b, floor) for a, b in combinations(scored.values(), 2)])
    tested = {name for pair in comparisons if pair.p_value is not None for name in (pair.a, pair.b)}
    if not tested:
        reasons = sorted(
            {pair.reason for pair in comparisons if pair.reason} | {one.reason or "" for one in apart.values()}
        )
        reason = "; ".join(filter(None, reasons)) or "fewer than two methods have a score"
        return Column({row: Standing(found, None, False) for row, found in estimates.items()}, comparisons, reason)
    ranks = rank_ranges(list(estimates), comparisons, 1 - LEVEL)
    decided = any(rank.best > 1 for rank in ranks.values())
    standings = {
        row: Standing(found, ranks[row], decided and ranks[row].best == 1 and row in tested)
        for row, found in estimates.items()
    }
    return Column(standings, comparisons, None)


def corrected(pairs: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """Return comparisons with their p-values corrected by Holm as one family."""
    adjusted = holm([pair.p_value for pair in pairs])
    return tuple(replace(pair, adjusted_p_value=p_value) for pair, p_value in zip(pairs, adjusted, strict=True))


def compare_pair(a: Scored, b: Scored, floor: NoiseFloor | None = None) -> Comparison:
    """Compare two rows on one task; not corrected.

    Args:
        a: the one.
        b: the other.
        floor: what chance alone changes, where it is known.
    """
    first = a.scores
    if first.reason is None and b.scores.reason is None and a.examples != b.examples:
        first = replace(first, deviations=np.empty((0, len(first.seeds))), reason="not scored on the same examples")
    found = compare_scores(first, b.scores, LEVEL)
    return found if floor is None else replace(found, noise_floor=floor.smallest_difference(found.n_a, found.n_b))


# Of the scores of one row on some tasks, seed by seed: the average of each seed, of shape (seeds,), and its slopes with
# respect to each task's score, of shape (tasks, seeds).
_Combine = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def _averages(
    columns: Collection[Mapping[str, Scored]], rows: Iterable[str], floor: NoiseFloor | None, combine: _Combine
) -> Column:
    """Return the column of averages over tasks, which are fixed and share no examples with each other."""
    together: dict[str, Scored] = {}
    apart: dict[str, Estimate] = {}
    for row in rows:
        entries = [column[row] for column in columns]
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
    return _column(together, floor, apart)


def _mean(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.mean(scores, axis=0), np.full(scores.shape, 1 / len(scores))


def _combined(of: Callable[[Sequence[float]], float]) -> _Combine:
    """Return the averages of a function of one score a task, with the slopes that its differences show."""

    def combine(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = np.array([of(seed.tolist()) for seed in scores.T])
        slopes = np.empty(scores.shape)
        for task in range(len(scores)):
            moved = scores.copy()
            moved[task] += _STEP
            slopes[task] = (np.array([of(seed.tolist()) for seed in moved.T]) - found) / _STEP
        return found, slopes

    return combine


def _named(
    scored: Mapping[tuple[str, str], Mapping[str, Scored]], runs: pd.DataFrame, floors: Floors
) -> tuple[dict[tuple[str, str], Column], tuple[str, ...]]:
    """Return the averages of the families that a leaderboard has tasks of, and which of them it cannot have."""
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
            means = [[np.mean([one.scores.by_seed.mean() for one in column.values()])] for column in columns.values()]
            floor = average_floor(floors, columns, combine(np.array(means))[1][:, 0].tolist())
            found[family, average.name] = _averages(columns.values(), rows, floor, combine)
    return found, tuple(_sentences(lacking))


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


def _sentences(lacking: Mapping[tuple[str, str], Sequence[str]]) -> Iterator[str]:
    for (family, reason), names in lacking.items():
        yield f"Of {family} there is no average by the name of {' or '.join(names)}: {reason}."


def _by_task(scored: Mapping[tuple[str, str], Mapping[str, Scored]], row: str) -> dict[str, list[float]]:
    return {task: [float(score) for score in column[row].scores.by_seed] for (task, _), column in scored.items()}


def _no_average(runs: pd.DataFrame) -> str | None:
    columns = runs[["task", *COLUMN]].drop_duplicates()
    if len(columns) < 2:
        return "There is one task: the table says all."
    if columns["task"].duplicated().any() or scale(runs["score"]) != 100:
        return "There is no average, because the columns are not one fraction a task."
    return None
