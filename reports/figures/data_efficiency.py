"""Score against the share of the training split: the data-efficiency curves."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from parbench.reports.data_efficiency import curve_title, curves
from parbench.reports.figures.lines import Condition, score_lines
from parbench.reports.figures.style import Reason, bars_in_words, bars_of
from parbench.reports.tables import percent

SHARE = Condition("train_fraction", "share of the training split", percent)


def data_efficiency(cells: pd.DataFrame, conditions: str = "") -> Figure | Reason:
    """Draw how scores rise with the share of the training split, one panel a task, one line a row.

    Args:
        cells: the summary with its intervals, if it has any, of all shares.
        conditions: trials and hardware, for the caption.
    """
    boards = curves(cells.assign(**bars_of(cells)))
    if not boards:
        return Reason("No method was trained on two shares of a training split; bench run --train-fraction does.")
    caption = (
        f"mean over the seeds of a setting, with the {bars_in_words(cells)}; methods at the same share stand side by "
        "side; the share is on a logarithmic scale"
    )
    return score_lines([(curve_title(points), points) for points in boards], SHARE, caption, conditions)
