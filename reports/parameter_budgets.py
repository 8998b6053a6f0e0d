"""Scores by parameter budget: how a method's score depends on how many parameters it may have."""

from __future__ import annotations

import pandas as pd

from parbench.reports.data_efficiency import EfficiencyTable, cell_score, in_full
from parbench.reports.rows import COLUMN
from parbench.reports.tables import NOT_RUN, SMALL_LABEL, Table, percent, row_key, unit_of

NOTE_ON_BUDGETS = (
    "Mean with its 95 % interval over n runs, by the budget of reported parameters that the size was fitted to. All "
    "settings but the size are those of the suite at each budget: where these were tuned at one budget, the others "
    "show less than the method can do."
)
# What the scores of one board have in common, and those of one table.
_BOARD = ["small", "base_model", "protocol", "train_fraction", "limit", "evaluation_limit"]
_TABLE = [*_BOARD, *COLUMN]


def budget_boards(cells: pd.DataFrame) -> list[pd.DataFrame]:
    """Return the cells of rows that have scores at two budgets or more on a task, by what they have in common.

    Args:
        cells: the summary.
    """
    known = cells[in_full(cells) & cells["mean"].notna() & cells["budget/parameters"].notna()]
    budgets = known.groupby([*_TABLE, "method", "row"], dropna=False)["budget/parameters"].transform("nunique")
    return [part for _, part in known[budgets > 1].groupby(_BOARD, dropna=False)]


def budget_title(points: pd.DataFrame) -> str:
    """Return the name of a board of `budget_boards`."""
    first = points.iloc[0]
    share = "" if first["train_fraction"] == 1 else f", {percent(first['train_fraction'])} of the training split"
    return f"{first['base_model']}, protocol {first['protocol']}{share}"


def budget_tables(cells: pd.DataFrame) -> tuple[EfficiencyTable, ...]:
    """Return a table of every task on which a method has scores at two budgets or more.

    Args:
        cells: the summary with its intervals.
    """
    return tuple(_table(part) for points in budget_boards(cells) for _, part in points.groupby(COLUMN))


def _table(points: pd.DataFrame) -> EfficiencyTable:
    limits = sorted(int(limit) for limit in points["budget/parameters"].unique())
    rows = []
    for _, row in sorted(points.groupby(["method", "row"]), key=lambda pair: row_key(pair[1].iloc[0])):
        by_budget = {int(cell["budget/parameters"]): cell_score(cell, unit_of(points)) for _, cell in row.iterrows()}
        rows.append((str(row["row"].iloc[0]), *(by_budget.get(limit, NOT_RUN) for limit in limits)))
    first = points.iloc[0]
    caption = f"{first['column']} ({first['metric']}{unit_of(points).mark})"
    table = Table(("method", *(f"at most {limit:,}" for limit in limits)), tuple(rows), caption=caption)
    return EfficiencyTable(budget_title(points), SMALL_LABEL if first["small"] else None, table)
