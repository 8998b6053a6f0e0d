"""Score against a condition of training on a logarithmic axis: one panel per task, one line per row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import FixedFormatter, FixedLocator

from parbench.reports.figures.curves import DASHES
from parbench.reports.figures.style import (
    MARKERS,
    Look,
    Section,
    columns_of,
    is_small,
    looks_of,
    page,
    panels,
    rows_of,
    titled,
    width_of,
)
from parbench.reports.figures.text import fit
from parbench.reports.rows import COLUMN
from parbench.reports.tables import unit_of

PANEL_HEIGHT = 2.1  # inches
GAP = 0.012  # between methods at one place, as a part of the axis
ROOM_OF_LABEL = 0.16  # of the axis


@dataclass(frozen=True)
class Condition:
    """What the scores are drawn against.

    Attributes:
        column: of the summary.
        label: of the axis.
        text: of a tick, from its value.
    """

    column: str
    label: str
    text: Callable[[float], str]


def score_lines(
    boards: Sequence[tuple[str, pd.DataFrame]], condition: Condition, caption: str, conditions: str
) -> Figure:
    """Draw how scores change with a condition.

    Args:
        boards: titles, and the points below each, with ``low`` and ``high``.
        condition: what the scores are drawn against.
        caption: what lines and bars are.
        conditions: trials and hardware, for the caption.
    """
    looks = looks_of(method for _, points in boards for method in points["method"])
    width = width_of(max(columns_of(points.groupby(COLUMN).ngroups) for _, points in boards))
    sections = [
        Section(
            titled(title, is_small(points), width),
            PANEL_HEIGHT * rows_of(points.groupby(COLUMN).ngroups),
            partial(_board, points=points, condition=condition, looks=looks),
            small=is_small(points),
            is_placed=True,
        )
        for title, points in boards
    ]
    return page(sections, looks, caption, width, conditions)


def _board(area: SubFigure, points: pd.DataFrame, condition: Condition, looks: dict[str, Look]) -> None:
    columns = [part for _, part in points.groupby(COLUMN)]
    for axes, part in zip(panels(area, len(columns), condition.label), columns, strict=True):
        _panel(axes, part, condition, looks)


def _panel(axes: Axes, points: pd.DataFrame, condition: Condition, looks: dict[str, Look]) -> None:
    factor = unit_of(points).factor
    places = np.log10(np.sort(points[condition.column].unique().astype("float64")))
    length = places[-1] - places[0]
    rows = [part.sort_values(condition.column) for _, part in points.groupby(["method", "row"])]
    gap = min(GAP, 0.1 / len(rows)) * length
    for number, row in enumerate(rows):
        look = looks[str(row["method"].iloc[0])]
        at = np.log10(row[condition.column].to_numpy(dtype="float64")) + (number - (len(rows) - 1) / 2) * gap
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
    ticks = _ticks(places.tolist(), length)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FixedFormatter([condition.text(10**place) for place in ticks]))


def _ticks(places: list[float], length: float) -> list[float]:
    """Return the places to be labelled: all, but for those too near to a larger one's label."""
    kept: list[float] = []
    for place in reversed(places):
        if not kept or kept[-1] - place >= ROOM_OF_LABEL * length:
            kept.append(place)
    return kept[::-1]
