"""Training losses by optimiser step, as the runs logged them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from parbench.bench.store.layout import HISTORY
from parbench.bench.store.store import Store
from parbench.reports.attempt import attempt
from parbench.reports.figures.style import (
    MARKERS,
    Look,
    Reason,
    Section,
    columns_of,
    is_small,
    looks_of,
    page,
    panels,
    rows_of,
    section_title,
    width_of,
)
from parbench.reports.figures.text import fit
from parbench.reports.rows import COLUMN
from parbench.reports.tables import boards

PANEL_HEIGHT = 1.9  # inches
DASHES = ["-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (7, 2))]


@dataclass(frozen=True)
class History:
    """What a run logged while it trained.

    Attributes:
        steps: optimiser steps at which the loss was logged, rising.
        losses: mean training loss since the step before; finite.
    """

    steps: tuple[int, ...]
    losses: tuple[float, ...]


def read_histories(store: Store, run_ids: pd.Series[str]) -> dict[str, History]:
    """Return the logged losses of runs by their ids; those that left none, or none that can be read, are left out."""
    found = {}
    for run_id in run_ids:
        path = store.runs / run_id / HISTORY
        history = attempt(partial(_read_history, path))
        # A curve is an extra; the run's record and rows are checked elsewhere.
        if isinstance(history, History) and history.steps:
            found[str(run_id)] = history
    return found


def training_curves(runs: pd.DataFrame, histories: Mapping[str, History], conditions: str = "") -> Figure | Reason:
    """Draw the training loss of every run that logged one, one panel a task.

    Args:
        runs: the frame's runs.
        histories: of `read_histories`.
        conditions: trials and hardware, for the caption.
    """
    drawn = runs[runs["run_id"].isin(list(histories))]
    if drawn.empty:
        return Reason("No run left a training loss that can be read.")
    looks = looks_of(drawn["method"].unique())
    parts = list(boards(drawn))
    width = width_of(max(columns_of(part.groupby(COLUMN).ngroups) for part in parts))
    sections = [
        Section(
            section_title(part, width),
            PANEL_HEIGHT * rows_of(part.groupby(COLUMN).ngroups),
            partial(_board, runs=part, histories=histories, looks=looks),
            small=is_small(part),
            is_placed=True,
        )
        for part in parts
    ]
    caption = "thin: one run; thick, with marks: mean over the runs of a setting at the steps that all of them logged"
    return page(sections, looks, caption, width, conditions)


def _read_history(path: Path) -> History:
    return _history(path.read_text(encoding="utf-8"))


def _history(text: str) -> History:
    points = {}
    for line in text.splitlines():
        entry = json.loads(line)
        if isinstance(entry, dict) and isinstance(entry.get("loss"), int | float) and math.isfinite(entry["loss"]):
            points[int(entry["step"])] = float(entry["loss"])
    steps = sorted(points)
    return History(tuple(steps), tuple(points[step] for step in steps))


def _board(area: SubFigure, runs: pd.DataFrame, histories: Mapping[str, History], looks: dict[str, Look]) -> None:
    columns = [part for _, part in runs.groupby(COLUMN)]
    for axes, part in zip(panels(area, len(columns), "optimiser step"), columns, strict=True):
        for (method, _), row in part.groupby(["method", "row"]):
            _lines(axes, [histories[run_id] for run_id in row["run_id"]], looks[str(method)])
        axes.set_title(fit(part["column"].iloc[0], 32))
        axes.set_ylabel("training loss")
        axes.locator_params(axis="x", nbins=5, integer=True)


def _lines(axes: Axes, histories: list[History], look: Look) -> None:
    number = MARKERS.index(look.marker)
    for history in histories:
        axes.plot(history.steps, history.losses, color=look.colour, linewidth=0.5, alpha=0.45)
    shared = sorted(set.intersection(*(set(history.steps) for history in histories)))
    if not shared:
        return
    values = [dict(zip(history.steps, history.losses, strict=True)) for history in histories]
    means = [float(np.mean([by_step[step] for by_step in values])) for step in shared]
    every = max(1, len(shared) // 6)
    marks = (number * every // len(MARKERS), every)  # not where another method's are
    dashes = DASHES[number % len(DASHES)]
    axes.plot(shared, means, linewidth=1.2, linestyle=dashes, markevery=marks, **{**look.mean, "markersize": 3.5})
