"""Score against the parameter budget."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from parbench.reports.figures.lines import Condition, score_lines
from parbench.reports.figures.style import Reason, bars_in_words, bars_of
from parbench.reports.parameter_budgets import budget_boards, budget_title

BUDGET = Condition("budget/parameters", "budget, adapter parameters", lambda limit: f"{round(limit):,}")


def score_vs_budget(cells: pd.DataFrame, conditions: str = "") -> Figure | Reason:
    """Draw how scores change with the parameter budget, one panel per task, one line per row.

    Args:
        cells: the summary with its intervals, if it has any.
        conditions: trials and hardware, for the caption.
    """
    boards = budget_boards(cells.assign(**bars_of(cells)))
    if not boards:
        return Reason("No method was run at two budgets; bench run --budget 24k,96k does.")
    caption = (
        f"mean over the seeds of a setting, with the {bars_in_words(cells)}; methods at the same budget stand side by "
        "side; the budget is on a logarithmic scale, and a method's own size may be smaller"
    )
    return score_lines([(budget_title(points), points) for points in boards], BUDGET, caption, conditions)
