"""Who is better on a leaderboard, as far as it can be said: the statistics of its runs' per-example rows."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from types import MappingProxyType

import numpy as np
import pandas as pd

from reports.integrity import Said
from reports.jackknife import score_methods
from reports.rows import COLUMN
from reports.statistics import (
    Comparison,
    Estimate,
    InterquartileMean,
    RankRange,
    Scores,
    TaskRanking,
    compare,
    estimate,
    holm,
    interquartile_mean,
    rank_over_tasks,
    rank_ranges,
    win_tie_loss,
)
from reports.tables import is_counted, row_key, scale
from tasks.metrics.classification import METRICS

LEVEL = 0.95

_AGREE = 1e-6  # as in reports.integrity: two ways to compute one number


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
        wins: see `reports.statistics.win_tie_loss`.
        interquartile: by row; empty where there is no average.
    """

    columns: Mapping[tuple[str, str], Column]
    average: Column | None
    no_average: str | None
    over_tasks: TaskRanking
    incomplete: tuple[str, ...]
    wins: pd.DataFrame
    interquartile: Mapping[str, InterquartileMean]


@dataclass(frozen=True)
class Scored:
    """The scores of a row in a column, and a token of the examples behind them: pairs of one token can be tested."""

    scores: Scores
    examples: Hashable


def rank_board(runs: pd.DataFrame, said: Mapping[str, Said]) -> Ranking:
    """Work out the statistics of one leaderboard.

    Args:
        runs: the frame's runs of one leaderboard.
        said: what each run said of each example, by run id.
    """
    counted = runs[is_counted(runs)]
    rows = sorted(counted["row"].unique(), key=lambda row: row_key({"method": "", "row": row}))
    parts = counted.groupby(COLUMN)
    scored = {(str(task), str(metric)): score_column(part, said, rows) for (task, metric), part in parts}
    asked = runs.groupby(COLUMN).ngroups
    complete = [row for row in rows if all(row in column for column in scored.values()) and len(scored) == asked]
    columns = {key: _column(column) for key, column in scored.items()}
    no_average = _no_average(runs)
    means = pd.DataFrame(
        {row: [column[row].scores.by_seed.mean() for column in scored.values()] for row in complete},
        index=[f"{task} {metric}" for task, metric in scored],
    )
    return Ranking(
        columns=columns,
        average=None if no_average else _averages(scored.values(), complete),
        no_average=no_average,
        over_tasks=rank_over_tasks(means, 1 - LEVEL),
        incomplete=tuple(sorted(set(runs["row"]).difference(complete))),
        wins=win_tie_loss({f"{task} {metric}": column.comparisons for (task, metric), column in columns.items()}),
        interquartile={}
        if no_average
        else {row: interquartile_mean(_by_task(scored, row), LEVEL, resamples=2_000) for row in complete},
    )


def score_column(runs: pd.DataFrame, said: Mapping[str, Said], rows: Sequence[str]) -> dict[str, Scored]:
    """Return the scores of each row on one task.

    Args:
        runs: of one task and metric, all with a score.
        said: what each run said of each example, by run id.
        rows: the order of the result.
    """
    metric = str(runs["metric"].iloc[0])
    by_row = {str(row): part for row, part in runs.groupby("row")}
    found: dict[str, Scored] = {}
    usable: dict[int, dict[str, Mapping[int, Said]]] = {}
    for row, part in by_row.items():
        reason = _unusable(part, said, metric)
        if reason is None:
            own = {int(seed): said[run_id] for seed, run_id in zip(part["seed"], part["run_id"], strict=True)}
            examples = next(iter(own.values())).examples
            usable.setdefault(id(examples), {})[row] = own
        else:
            found[row] = _without_examples(row, part, reason)
    for token, methods in usable.items():
        for row, scores in score_methods(methods, metric).items():
            recorded = by_row[row].sort_values("seed")["score"].to_numpy()
            if np.allclose(scores.by_seed, recorded, rtol=_AGREE, atol=_AGREE):
                found[row] = Scored(scores, token)
            else:
                found[row] = _without_examples(row, by_row[row], f"this task has a {metric} of its own")
    return {row: found[row] for row in rows if row in found}


def _unusable(runs: pd.DataFrame, said: Mapping[str, Said], metric: str) -> str | None:
    """Return why the runs of one row on one task say nothing of how their scores vary with the examples."""
    if runs["seed"].duplicated().any():
        return "several runs of one seed"
    if runs["unchecked"].notna().any():
        return "the scores could not be recomputed from the per-example rows"
    if metric not in METRICS:
        return f"how {metric} varies with the examples is not known"
    rows = [said.get(run_id) for run_id in runs["run_id"]]
    if any(row is None for row in rows):
        return "there is not one number an example"
    if len({id(row.examples) for row in rows if row is not None}) > 1:
        return "the runs were not scored on the same examples"
    return None


def _without_examples(row: str, runs: pd.DataFrame, reason: str) -> Scored:
    part = runs.sort_values(["seed", "run_id"])
    seeds = tuple(int(seed) for seed in part["seed"])
    return Scored(Scores(row, seeds, part["score"].to_numpy(), np.empty((0, len(seeds))), 0, reason), None)


def _column(scored: Mapping[str, Scored], apart: Mapping[str, Estimate] = MappingProxyType({})) -> Column:
    """Return a column; the estimates that stand ``apart`` can be compared with nothing."""
    estimates = {row: estimate(entry.scores, LEVEL) for row, entry in scored.items()} | dict(apart)
    comparisons = corrected([compare_pair(a, b) for a, b in combinations(scored.values(), 2)])
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


def compare_pair(a: Scored, b: Scored) -> Comparison:
    """Compare two rows on one task; not corrected."""
    if a.scores.reason is None and b.scores.reason is None and a.examples != b.examples:
        one = replace(a.scores, deviations=np.empty((0, len(a.scores.seeds))), reason="not scored on the same examples")
        return compare(one, b.scores, LEVEL)
    return compare(a.scores, b.scores, LEVEL)


def _averages(columns: Collection[Mapping[str, Scored]], rows: Iterable[str]) -> Column:
    """Return the column of averages over tasks, which are fixed and share no examples with each other."""
    together: dict[str, Scored] = {}
    apart: dict[str, Estimate] = {}
    for row in rows:
        entries = [column[row] for column in columns]
        scores = [entry.scores for entry in entries]
        if len({one.seeds for one in scores}) > 1:
            mean = float(np.mean([one.by_seed.mean() for one in scores]))
            apart[row] = Estimate(mean, min(len(one.seeds) for one in scores), None, None, "other seeds on other tasks")
            continue
        reason = next((one.reason for one in scores if one.reason), None)
        by_seed = np.mean([one.by_seed for one in scores], axis=0)
        deviations = np.empty((0, len(by_seed)))
        if reason is None:
            deviations = np.concatenate([one.deviations for one in scores]) / len(scores)
        average = Scores(row, scores[0].seeds, by_seed, deviations, sum(one.degrees for one in scores), reason)
        together[row] = Scored(average, tuple(entry.examples for entry in entries))
    return _column(together, apart)


def _by_task(scored: Mapping[tuple[str, str], Mapping[str, Scored]], row: str) -> dict[str, list[float]]:
    return {task: [float(score) for score in column[row].scores.by_seed] for (task, _), column in scored.items()}


def _no_average(runs: pd.DataFrame) -> str | None:
    columns = runs[COLUMN].drop_duplicates()
    if len(columns) < 2:
        return "There is one task: the table says all."
    if columns["task"].duplicated().any() or scale(runs["score"]) != 100:
        return "There is no average, because the columns are not one fraction a task."
    return None
