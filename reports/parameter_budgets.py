"""Scores by parameter budget: how a method's score depends on how many parameters it may have."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from parbench.reports.data_efficiency import EfficiencyTable, cell_score, in_full
from parbench.reports.rows import COLUMN
from parbench.reports.tables import MINI_LABEL, NOT_RUN, Table, percent, row_key, unit_of

NOTE_ON_BUDGETS = (
    "Mean with its 95 % interval over n runs, by the budget of reported parameters that the size was fitted to. All "
    "settings but the size are those of the suite at each budget: where these were tuned at one budget, the others "
    "show less than the method can do."
)
# What the scores of one table have in common.
_FIXED = ["small", "base_model", "protocol", "train_fraction", "limit", "evaluation_limit", *COLUMN]


def budget_tables(cells: pd.DataFrame) -> tuple[EfficiencyTable, ...]:
    """Return a table of every task on which a method has scores at two budgets or more.

    Args:
        cells: the summary with its intervals.
    """
    known = cells[in_full(cells) & cells["mean"].notna() & cells["budget/parameters"].notna()]
    return tuple(found for _, part in known.groupby(_FIXED, dropna=False) for found in _table(part))


def _table(points: pd.DataFrame) -> Iterator[EfficiencyTable]:
    """Yield the table of one task; none where no row has two budgets."""
    budgets = points.drop_duplicates("budget/parameters").sort_values("budget/parameters")
    if len(budgets) < 2:
        return
    rows = []
    for _, row in sorted(points.groupby(["method", "row"]), key=lambda pair: row_key(pair[1].iloc[0])):
        if len(row["budget/parameters"].unique()) > 1:
            by_budget = {
                int(cell["budget/parameters"]): cell_score(cell, unit_of(points)) for _, cell in row.iterrows()
            }
            scores = (by_budget.get(int(limit), NOT_RUN) for limit in budgets["budget/parameters"])
            rows.append((str(row["row"].iloc[0]), *scores))
    if not rows:
        return
    first = points.iloc[0]
    share = "" if first["train_fraction"] == 1 else f", {percent(first['train_fraction'])} of the training split"
    heads = [f"at most {int(limit):,}" for limit in budgets["budget/parameters"]]
    caption = f"{first['column']} ({first['metric']}{unit_of(points).mark})"
    title = f"{first['base_model']}, protocol {first['protocol']}{share}"
    table = Table(("method", *heads), tuple(rows), caption=caption)
    yield EfficiencyTable(title, MINI_LABEL if first["small"] else None, table)
