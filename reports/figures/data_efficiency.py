"""Score against the share of the training split: the data-efficiency curves."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import FixedFormatter, FixedLocator

from parbench.reports.data_efficiency import curve_title, curves
from parbench.reports.figures.curves import DASHES
from parbench.reports.figures.style import (
    MARKERS,
    Look,
    Reason,
    Section,
    bars_in_words,
    bars_of,
    columns_of,
    fit,
    is_small,
    looks_of,
    page,
    panels,
    rows_of,
    titled,
    width_of,
)
from parbench.reports.rows import COLUMN
from parbench.reports.tables import percent, unit_of

PANEL_HEIGHT = 2.1  # inches
GAP = 0.012  # between methods at one share, as a part of the axis
ROOM_OF_LABEL = 0.16  # of the axis


def data_efficiency(cells: pd.DataFrame, conditions: str = "") -> Figure | Reason:
    """Draw how scores rise with the share of the training split, one panel a task, one line a row.

    Args:
        cells: the summary with its intervals, if it has any, of all shares.
        conditions: trials and hardware, for the caption.
    """
    boards = curves(cells.assign(**bars_of(cells)))
    if not boards:
        return Reason("No method was trained on two shares of a training split; bench run --train-fraction does.")
    looks = looks_of(method for points in boards for method in points["method"])
    width = width_of(max(columns_of(points.groupby(COLUMN).ngroups) for points in boards))
    sections = [
        Section(
            titled(curve_title(points), is_small(points), width),
            PANEL_HEIGHT * rows_of(points.groupby(COLUMN).ngroups),
            partial(_board, points=points, looks=looks),
            small=is_small(points),
            is_placed=True,
        )
        for points in boards
    ]
    caption = (
        f"mean over the seeds of a setting, with the {bars_in_words(cells)}; methods at the same share stand side by "
        "side; the share is on a logarithmic scale"
    )
    return page(sections, looks, caption, width, conditions)


def _board(area: SubFigure, points: pd.DataFrame, looks: dict[str, Look]) -> None:
    columns = [part for _, part in points.groupby(COLUMN)]
    for axes, part in zip(panels(area, len(columns), "share of the training split"), columns, strict=True):
        _panel(axes, part, looks)


def _panel(axes: Axes, points: pd.DataFrame, looks: dict[str, Look]) -> None:
    factor = unit_of(points).factor
    shares = np.log10(np.sort(points["train_fraction"].unique()))
    length = shares[-1] - shares[0]
    rows = [part.sort_values("train_fraction") for _, part in points.groupby(["method", "row"])]
    gap = min(GAP, 0.1 / len(rows)) * length
    for number, row in enumerate(rows):
        look = looks[str(row["method"].iloc[0])]
        at = np.log10(row["train_fraction"].to_numpy(dtype="float64")) + (number - (len(rows) - 1) / 2) * gap
        means, bars = (factor * row[names].to_numpy(dtype="float64") for names in ("mean", ["low", "high"]))
        axes.errorbar(
            at,
            means,
            yerr=np.abs(bars.T - means),
            linestyle=DASHES[MARKERS.index(look.marker) % len(DASHES)],
            linewidth=1.0,
            elinewidth=0.7,
            **{**look.mean, "markersize": 4},
        )
    axes.set_title(fit(points["column"].iloc[0], 32))
    axes.set_ylabel(fit(points["metric"].iloc[0], 30) + (" x100" if factor == 100 else ""))
    axes.margins(x=0.08)
    ticks = _ticks(shares.tolist(), length)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FixedFormatter([percent(10**place) for place in ticks]))


def _ticks(shares: list[float], length: float) -> list[float]:
    """Return the shares to be labelled: all, but for those too near to a larger one's label."""
    kept: list[float] = []
    for share in reversed(shares):
        if not kept or kept[-1] - share >= ROOM_OF_LABEL * length:
            kept.append(share)
    return kept[::-1]
