"""The numbers of the leaderboards as tidy frames, for files that are read by programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from parbench.reports.columns import Standing
from parbench.reports.extra_tables import subset_scores
from parbench.reports.leaderboard import Leaderboard
from parbench.reports.ranking import Ranking
from parbench.reports.rows import COLUMN, CONDITION
from parbench.reports.statistics import Interval
from parbench.reports.tables import SMALL_LABEL, distinct, summarise
from parbench.tasks import metric_unit

_BOARD = ["label", "suites", *CONDITION]
_STANDING = ["low", "high", "level", "rank_best", "rank_worst", "best_group", "no_interval", "learnt"]
_OVER_TASKS = [
    "average",
    *(f"average_{name}" for name in _STANDING if name != "learnt"),
    "interquartile_mean",
    "interquartile_low",
]
_OVER_TASKS += ["interquartile_high", "mean_rank", "new_task_rank_low", "new_task_rank_high"]
_NAMED = ("", " low", " high")
_PAIR = ["a", "b", "difference", "low", "high", "level", "paired", "p_value", "adjusted_p_value", "noise_floor"]
_PAIR += ["reason", "detectable"]


def cells_frame(runs: pd.DataFrame, boards: Sequence[Leaderboard]) -> pd.DataFrame:
    """Return the summary of every cell, see `reports.tables.summarise`, with its interval and its possible ranks.

    Args:
        runs: the frame's runs.
        boards: what was made of them.
    """
    cells = pd.concat([board.cells for board in boards], ignore_index=True) if boards else summarise(runs)
    standings = [
        _standing(column.standings.get(row) if (column := board.ranking.columns.get((name, metric))) else None)
        for board in boards
        for name, metric, row in board.cells[["column", "metric", "row"]].itertuples(index=False)
    ]
    numbers = pd.DataFrame(standings, columns=_STANDING, index=cells.index)
    cells.insert(list(cells.columns).index("metric") + 1, "unit", _units(cells))
    return _typed(pd.concat([cells, numbers], axis="columns"), _STANDING)


def over_tasks_frame(boards: Sequence[Leaderboard]) -> pd.DataFrame:
    """Return a row for each row of each leaderboard: its average, interquartile mean and mean rank over tasks.

    And, where a leaderboard has them, the averages that families of tasks are known by, ``FAMILY: NAME``, with the ends
    of their intervals. Comparisons by these averages are in `comparisons_frame`, as those by the plain average are.
    """
    rows = []
    named = dict.fromkeys(key for board in boards for key in board.ranking.named)
    names = [f"{family}: {name}{end}" for family, name in named for end in _NAMED]
    for board in boards:
        ranking, shared = board.ranking, _shared(board.cells)
        for _, cell in board.cells.drop_duplicates(["method", "row"]).iterrows():
            name = cell["row"]
            standing = ranking.average.standings.get(name) if ranking.average else None
            middle = ranking.interquartile.get(name)
            low, high, _ = _ends(middle.interval if middle else None)
            new_task = ranking.over_tasks.on_new_task.get(name)
            rows.append(
                {
                    **shared,
                    **{column: cell[column] for column in ("method", "row")},
                    "average": standing.estimate.mean if standing else None,
                    **{f"average_{key}": value for key, value in _standing(standing).items() if key != "learnt"},
                    "interquartile_mean": middle.value if middle else None,
                    "interquartile_low": low,
                    "interquartile_high": high,
                    "mean_rank": ranking.over_tasks.mean_ranks.get(name) if len(ranking.columns) > 1 else None,
                    "new_task_rank_low": new_task.low if new_task else None,
                    "new_task_rank_high": new_task.high if new_task else None,
                    **_named_averages(ranking, str(name)),
                }
            )
    columns = [*_OVER_TASKS, *names]
    return _typed(pd.DataFrame(rows, columns=[*_BOARD, "method", "row", *columns]), columns)


def comparisons_frame(boards: Sequence[Leaderboard]) -> pd.DataFrame:
    """Return a row for each pair of methods on each task, and by each average; see `reports.statistics.Comparison`."""
    rows = []
    for board in boards:
        shared = _shared(board.cells)
        own = {key: _shared(cells) for key, cells in board.cells.groupby(COLUMN)}
        columns: dict[tuple[str, str | None], Any] = dict(board.ranking.columns.items())
        if board.ranking.average:
            columns["average over tasks", None] = board.ranking.average
        columns |= {(f"{family}: {name}", None): column for (family, name), column in board.ranking.named.items()}
        for (name, metric), column in columns.items():
            for pair in column.comparisons:
                low, high, level = _ends(pair.interval)
                known = {key: getattr(pair, key) for key in _PAIR if key not in ("low", "high", "level")}
                ends = {"low": low, "high": high, "level": level}
                rows.append(
                    {
                        **own.get((name, metric), shared),
                        "column": name,
                        "metric": metric,
                        "unit": column.unit.name,
                        **known,
                        **ends,
                    }
                )
    return pd.DataFrame(rows, columns=[*_BOARD, *COLUMN, "unit", *_PAIR])


def _shared(cells: pd.DataFrame) -> dict[str, Any]:
    """Return the conditions of some cells; those that differ between columns are joined by "; "."""
    values = {column: cells[column].drop_duplicates() for column in _BOARD}
    return {
        column: found.iloc[0] if len(found) == 1 else "; ".join(distinct(found.dropna()))
        for column, found in values.items()
    }


def subsets_frame(runs: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each cell and subset, see `parbench.reports.extra_tables.subset_scores`.

    Args:
        runs: the frame's runs.
    """
    scores = subset_scores(runs)
    scores.insert(list(scores.columns).index("metric") + 1, "unit", _units(scores))
    scores.insert(0, "label", scores["small"].map({True: SMALL_LABEL, False: None}).astype("object"))
    return scores


def _units(table: pd.DataFrame) -> list[str]:
    """Return the unit of the metric of each row; values in files are in this unit, not scaled."""
    pairs = table[["task", "metric"]].itertuples(index=False, name=None)
    return [metric_unit(str(task), str(metric)).name for task, metric in pairs]


def _named_averages(ranking: Ranking, row: str) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for (family, name), column in ranking.named.items():
        if standing := column.standings.get(row):
            low, high, _ = _ends(standing.estimate.interval)
            numbers = (standing.estimate.mean, low, high)
            found |= {f"{family}: {name}{end}": number for end, number in zip(_NAMED, numbers, strict=True)}
    return found


def _standing(standing: Standing | None) -> dict[str, Any]:
    if standing is None:
        return dict.fromkeys(_STANDING)
    ranks = standing.ranks
    numbers = (
        *_ends(standing.estimate.interval),
        ranks.best if ranks else None,
        ranks.worst if ranks else None,
        standing.best,
        standing.estimate.reason,
        standing.learnt,
    )
    return dict(zip(_STANDING, numbers, strict=True))


def _ends(interval: Interval | None) -> tuple[float, float, float] | tuple[None, None, None]:
    return (interval.low, interval.high, interval.level) if interval else (None, None, None)


def _typed(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Give each column the type it has whatever the store holds, so that a file of one report is like the next."""
    kinds = {
        "rank_best": "Int64",
        "rank_worst": "Int64",
        "best_group": "boolean",
        "learnt": "boolean",
        "no_interval": "string",
    }
    return table.astype({name: kinds.get(name.removeprefix("average_"), "float64") for name in columns})
