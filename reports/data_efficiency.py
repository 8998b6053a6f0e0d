"""Data efficiency: how a method's score depends on its share of the training split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from parbench.reports.conditions import DAGGER
from parbench.reports.constant import DID_NOT_LEARN
from parbench.reports.rows import BOARD, COLUMN, CURVE
from parbench.reports.tables import (
    NOT_RUN,
    SMALL_LABEL,
    Table,
    board_key,
    percent,
    row_key,
    title,
    unit_of,
    with_interval,
)
from parbench.tasks.metrics.units import Unit

NOTE = (
    "Mean ± the distance to the ends of its 95 % interval, or -a/+b where they differ, over n runs, by share of the "
    "training split. The share is "
    "drawn by the seed; all else is as on the leaderboard of the largest share."
)


@dataclass(frozen=True)
class EfficiencyTable:
    """The curves of one leaderboard on one task, as a table.

    Attributes:
        title: of the leaderboard.
        label: a sentence that must stand wherever the numbers stand, or ``None``.
        table: methods against shares.
    """

    title: str
    label: str | None
    table: Table


def on_curve(table: pd.DataFrame, score: str = "mean") -> pd.Series[bool]:
    """Return which rows are points of a curve: with a score, of a row that has scores of two shares or more.

    Args:
        table: the summary, or with ``score`` the frame's runs.
        score: the column of scores.
    """
    shares = table["train_fraction"].where(table[score].notna())
    curve = table.groupby([*CURVE, *COLUMN, "method", "row"], dropna=False, sort=False).ngroup()
    return shares.notna() & (shares.groupby(curve).transform("nunique") > 1)


def in_full(table: pd.DataFrame, score: str = "mean") -> pd.Series[bool]:
    """Return which rows are of leaderboards to be shown in full.

    Of those that differ in the share of the training split alone it is the one of the largest share, and any that has
    a score that is not a point of a curve, since the points of a curve are shown by the curve.

    Args:
        table: the summary, or with ``score`` the frame's runs.
        score: the column of scores.
    """
    curve, board = (table.groupby(names, dropna=False, sort=False).ngroup() for names in (CURVE, BOARD))
    largest = table["train_fraction"] == table["train_fraction"].groupby(curve).transform("max")
    alone = table[score].notna() & ~on_curve(table, score)
    return largest | alone.groupby(board).transform("any")


def curves(cells: pd.DataFrame) -> list[pd.DataFrame]:
    """Return the points of each leaderboard's curves, all shares together, in the order of the report.

    Args:
        cells: the summary, of all shares.
    """
    points = cells[on_curve(cells)]
    parts = [part for _, part in points.groupby(CURVE, dropna=False, sort=False)]
    return sorted(parts, key=lambda part: board_key(part.assign(train_fraction=1.0)))


def efficiency_tables(cells: pd.DataFrame) -> tuple[EfficiencyTable, ...]:
    """Return a table of every leaderboard and task on which a method was trained on two shares or more.

    Args:
        cells: the summary with its intervals, of all shares.
    """
    return tuple(_efficiency(part) for points in curves(cells) for _, part in points.groupby(COLUMN))


def curve_title(points: pd.DataFrame) -> str:
    """Return the name of the leaderboards that differ in the share alone."""
    return title(points.assign(train_fraction=1.0))


def _efficiency(points: pd.DataFrame) -> EfficiencyTable:
    first = points.iloc[0]
    unit = unit_of(points)
    shares = sorted(points["train_fraction"].unique())
    rows = []
    for row in _rows(points):
        by_share = {cell["train_fraction"]: cell_score(cell, unit) for _, cell in row.iterrows()}
        rows.append((str(row["row"].iloc[0]), *(by_share.get(share, NOT_RUN) for share in shares)))
    caption = f"{first['column']} ({first['metric']}{unit.mark})"
    table = Table(("method", *map(percent, shares)), tuple(rows), caption=caption)
    return EfficiencyTable(curve_title(points), SMALL_LABEL if first["small"] else None, table)


def _rows(points: pd.DataFrame) -> Iterator[pd.DataFrame]:
    parts = [part for _, part in points.groupby(["method", "row"])]
    yield from sorted(parts, key=lambda part: row_key(part.iloc[0]))


def cell_score(cell: Any, unit: Unit) -> str:
    """Return the mean of a cell with its interval, its marks and the number of its runs."""
    learnt = cell.get("learnt")
    mark = "" if learnt is None or pd.isna(learnt) or learnt else f", {DID_NOT_LEARN}"
    untuned = DAGGER if cell.get("untuned", False) else ""
    return f"{with_interval(unit, cell['mean'], cell['low'], cell['high'])}{untuned} (n={cell['n_ok']}{mark})"
