"""Ranks and comparisons on a leaderboard, from the per-example rows of its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import pandas as pd

from parbench.reports.attempt import NotComputed, attempt
from parbench.reports.averages import average_column, mean_of_tasks, named_averages, why_no_average
from parbench.reports.columns import Column, rank_column
from parbench.reports.jackknife import LeftOut
from parbench.reports.repeats import Floors, average_floor
from parbench.reports.rows import COLUMN
from parbench.reports.scored import LEVEL, Scored, score_column
from parbench.reports.statistics import (
    InterquartileMean,
    TaskRanking,
    interquartile_mean,
    no_ranking,
    rank_over_tasks,
    win_tie_loss,
)
from parbench.reports.tables import is_counted, row_key, unit_of


@dataclass(frozen=True)
class Ranking:
    """The statistics of one leaderboard.

    Attributes:
        columns: by task and metric.
        average: of the rows with a score on every task; ``None`` where ``no_average`` says why.
        no_average: a sentence, or ``None``.
        over_tasks: mean ranks and Friedman's test, of the rows with a score on every task.
        incomplete: rows without a score on some task, which are not ranked over tasks.
        unlearnt: rows that did not learn on some task, which are neither.
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
    unlearnt: tuple[str, ...]
    wins: pd.DataFrame
    interquartile: Mapping[str, InterquartileMean]
    named: Mapping[tuple[str, str], Column]
    no_named: tuple[str, ...]


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
    units = {(str(column), str(metric)): unit_of(part) for (column, metric), part in runs.groupby(COLUMN)}
    columns = {key: rank_column(column, units[key], floors.get(key)) for key, column in scored.items()}
    learnt = {
        key: {row: entry for row, entry in scored[key].items() if column.standings[row].learnt}
        for key, column in columns.items()
    }
    scored_everywhere = [row for row in rows if all(row in part for part in scored.values()) and len(scored) == asked]
    complete = [row for row in scored_everywhere if all(row in part for part in learnt.values())]
    unlearnt = {row for key, column in scored.items() for row in column if row not in learnt[key]}
    no_average = why_no_average(runs, units.values())
    named, no_named = named_averages(learnt, units, runs, floors)
    means = pd.DataFrame(
        {row: [column[row].scores.by_seed.mean() for column in scored.values()] for row in complete},
        index=[f"{column} {metric}" for column, metric in scored],
    )
    floor = average_floor(floors, scored)
    return Ranking(
        columns=columns,
        average=None if no_average else average_column(scored, units, complete, floor, mean_of_tasks),
        no_average=no_average,
        over_tasks=_rank_over_tasks(means),
        incomplete=tuple(sorted(set(runs["row"]).difference(scored_everywhere))),
        unlearnt=tuple(sorted(unlearnt)),
        wins=win_tie_loss({f"{key[0]} {key[1]}": column.comparisons for key, column in columns.items()}),
        interquartile={} if no_average else {row: _interquartile(_by_task(scored, row)) for row in complete},
        named=named,
        no_named=no_named,
    )


def _rank_over_tasks(means: pd.DataFrame) -> TaskRanking:
    found = attempt(lambda: rank_over_tasks(means, 1 - LEVEL))
    return no_ranking(found.reason) if isinstance(found, NotComputed) else found


def _interquartile(by_task: Mapping[str, Sequence[float]]) -> InterquartileMean:
    found = attempt(lambda: interquartile_mean(by_task, LEVEL, resamples=2_000))
    return InterquartileMean(None, len(by_task), None, None, found.reason) if isinstance(found, NotComputed) else found


def _by_task(scored: Mapping[tuple[str, str], Mapping[str, Scored]], row: str) -> dict[str, list[float]]:
    return {task: [float(score) for score in column[row].scores.by_seed] for (task, _), column in scored.items()}
