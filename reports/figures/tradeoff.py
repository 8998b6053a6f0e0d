"""Score against cost: adapter parameters, memory and time, of the runs or of a profile; one panel per task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import FixedFormatter, FixedLocator

from parbench.reports.figures.label_placement import SizeAxis
from parbench.reports.figures.style import (
    Look,
    Reason,
    Section,
    bars_in_words,
    bars_of,
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
from parbench.reports.profile.costs import MEMORY, STEP, Profiled
from parbench.reports.rows import COLUMN, CONDITION, at_same
from parbench.reports.tables import boards, is_counted, measures_speed, summarise, unit_of

PANEL_HEIGHT = 2.2  # inches
MOST_CAPTION = 2000  # characters: of hundreds of methods that a profile lacks not all can be named

_CELL = [*CONDITION, *COLUMN, "method", "row"]

Panel = Callable[[Axes, pd.DataFrame, pd.DataFrame, dict[str, Look]], None]


@dataclass(frozen=True)
class CostAxis:
    """What a score is bought with.

    Attributes:
        label: of the axis.
        of: its value for each run, missing where it was not measured.
        lack: why there is no figure where no run with a score has one.
    """

    label: str
    of: Callable[[pd.DataFrame], pd.Series[float]]
    lack: str


@dataclass(frozen=True)
class ProfiledAxis:
    """A cost of a profile.

    Attributes:
        name: its column.
        unit: what it is divided by.
        label: of the axis.
    """

    name: str
    unit: int
    label: str


def score_vs_parameters(runs: pd.DataFrame, cells: pd.DataFrame | None = None, conditions: str = "") -> Figure | Reason:
    """Draw every leaderboard's scores against the reported adapter parameters, one panel a task.

    Small marks are runs; a large mark with a bar is the mean over the seeds of a setting.

    Args:
        runs: the frame's runs.
        cells: their summary, if it is at hand; with its intervals, if it has any.
        conditions: trials and hardware, for the caption.
    """
    drawn = runs[is_drawn(runs)]
    if drawn.empty:
        return Reason("No run has both a score and a count of its parameters.")
    cells = _with_parameters(summarise(runs) if cells is None else cells)
    caption = (
        f"small: one run; large: mean over the seeds of a setting, with the {bars_in_words(cells)}; "
        "adapters of nearly the same size stand side by side"
    )
    return _figure(drawn, cells, _sizes, "adapter parameters, as reported", (caption, conditions), runs["method"])


def score_vs_memory(runs: pd.DataFrame, cells: pd.DataFrame | None = None, conditions: str = "") -> Figure | Reason:
    """Draw scores against the peak memory of training: the accelerator's where it was measured, else the process's.

    Args:
        runs: the frame's runs.
        cells: as for `score_vs_parameters`.
        conditions: trials and hardware, for the caption.
    """
    scored = runs[is_counted(runs)]
    if len(scored) and bool(scored["cost/peak_device_bytes"].notna().all()):
        cost = CostAxis("peak accelerator memory while training (GiB)", _device, "")
    else:
        cost = CostAxis(
            "peak process memory while training (GiB)", _process, "No run has both a score and a measured peak memory."
        )
    return _against(runs, cells, cost, conditions)


def score_vs_step_time(runs: pd.DataFrame, cells: pd.DataFrame | None = None, conditions: str = "") -> Figure | Reason:
    """Draw scores against the mean time of an optimiser step.

    Args:
        runs: the frame's runs.
        cells: as for `score_vs_parameters`.
        conditions: trials and hardware, for the caption.
    """
    lack = "No run has both a score and a measured step time."
    return _against(runs, cells, CostAxis("time of a training step (s)", _step, lack), conditions)


def score_vs_profiled_step(runs: pd.DataFrame, profiled: Profiled | None, conditions: str = "") -> Figure | Reason:
    """Draw scores against the time of a training step in a profile, as a multiple of LoRA's.

    Args:
        runs: the frame's runs.
        profiled: the summary's cells with their costs, if there is a profile.
        conditions: trials and hardware, for the caption.
    """
    axis = ProfiledAxis(STEP, 1, "profiled time of a training step, as a multiple of LoRA's")
    return _profiled(runs, profiled, axis, conditions)


def score_vs_profiled_memory(runs: pd.DataFrame, profiled: Profiled | None, conditions: str = "") -> Figure | Reason:
    """Draw scores against the peak memory of training in a profile; arguments as of `score_vs_profiled_step`."""
    axis = ProfiledAxis(MEMORY, 2**30, "profiled peak memory of training (GiB)")
    return _profiled(runs, profiled, axis, conditions)


def is_drawn(runs: pd.DataFrame) -> pd.Series[bool]:
    """Return which runs `score_vs_parameters` shows: with a score, of a setting whose parameters were counted."""
    counted = runs[is_counted(runs)]
    counts = counted.groupby(_CELL, dropna=False)["ledger/reported"]
    return is_counted(runs) & counts.transform("max").notna().reindex(runs.index, fill_value=False)


def pareto(costs: list[float], scores: list[float]) -> list[int]:
    """Return which points no other beats: none is as cheap and better, or cheaper and as good; by cost."""
    order = sorted(range(len(costs)), key=lambda i: (costs[i], -scores[i]))
    front: list[int] = []
    for i in order:
        if not front or scores[i] > scores[front[-1]]:
            front.append(i)
    return front


def _against(runs: pd.DataFrame, cells: pd.DataFrame | None, cost: CostAxis, conditions: str) -> Figure | Reason:
    costs = cost.of(runs)
    drawn = runs.assign(cost=costs)[is_counted(runs) & costs.notna()]
    if drawn.empty:
        return Reason(cost.lack)
    cells = summarise(runs) if cells is None else cells
    ends = drawn.groupby(_CELL, dropna=False)["cost"].agg(["mean", "min", "max"])
    ends = ends.rename(columns={"mean": "cost", "min": "least", "max": "most"}).reset_index()
    cells = cells.merge(ends, on=_CELL)
    words = (_explained(cells, "least to most over the runs"), conditions)
    return _figure(drawn, cells, lambda _: _costs, cost.label, words, runs["method"])


def _profiled(runs: pd.DataFrame, profiled: Profiled | None, axis: ProfiledAxis, conditions: str) -> Figure | Reason:
    if profiled is None:
        return Reason(
            "No profile was given: bench profile --out FOLDER makes one, bench report --profile FOLDER takes it."
        )
    cells = profiled.cells[profiled.cells[axis.name].notna()]
    ends = {"cost": axis.name, "least": f"{axis.name}_least", "most": f"{axis.name}_most"}
    cells = cells.assign(**{end: cells[column] / axis.unit for end, column in ends.items()})
    drawn = runs[is_counted(runs)].merge(cells[[*_CELL, "cost"]], on=_CELL)
    if drawn.empty:
        return Reason(f"No row of a leaderboard has this cost in a profile: {'; '.join(profiled.remarks)}.")
    caption = "; ".join([_explained(cells, "least to most of the profile's rounds"), *profiled.remarks])
    words = (fit(caption, MOST_CAPTION), conditions)
    return _figure(drawn, cells, lambda _: _costs, axis.label, words, runs["method"])


def _explained(cells: pd.DataFrame, level: str) -> str:
    return (
        f"small: one run; large: mean over the seeds of a setting; upright bar: {bars_in_words(cells)}; level bar: "
        f"{level}; line: what no other setting beats in both (Pareto front of the means)"
    )


def _figure(
    runs: pd.DataFrame,
    cells: pd.DataFrame,
    panel_of: Callable[[pd.DataFrame], Panel],
    label: str,
    words: tuple[str, str],
    methods: pd.Series[str],
) -> Figure:
    """Draw runs.

    ``methods`` are also those that are not drawn here, and have looks of their own elsewhere; ``words`` are the caption
    and the conditions, see `parbench.reports.figures.style.page`.
    """
    shown = set(runs["method"])
    looks = {method: look for method, look in looks_of(methods.unique()).items() if method in shown}
    cells = cells.assign(**bars_of(cells))
    parts = list(boards(runs))
    width = width_of(max(columns_of(part.groupby(COLUMN).ngroups) for part in parts))
    sections = [
        Section(
            section_title(part, width),
            PANEL_HEIGHT * rows_of(part.groupby(COLUMN).ngroups),
            partial(_board, runs=part, cells=cells, looks=looks, panel=panel_of(part), label=label),
            small=is_small(part),
            is_placed=True,
        )
        for part in parts
    ]
    return page(sections, looks, words[0], width, words[1])


def _board(
    area: SubFigure,
    runs: pd.DataFrame,
    cells: pd.DataFrame,
    looks: dict[str, Look],
    panel: Panel,
    label: str,
) -> None:
    """Draw one leaderboard, one panel per task."""
    columns = [part for _, part in runs.groupby(COLUMN)]
    for axes, part in zip(panels(area, len(columns), label), columns, strict=True):
        _panel(axes, part, cells_of(part, cells), looks, panel)


def cells_of(runs: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """Return the summary's cells of the task that these runs are of, which have a mean."""
    same = at_same(cells, runs.iloc[0], (*CONDITION, *COLUMN))
    return cells[same & cells["mean"].notna() & cells["row"].isin(runs["row"])]


def _panel(axes: Axes, runs: pd.DataFrame, cells: pd.DataFrame, looks: dict[str, Look], panel: Panel) -> None:
    """Draw one task."""
    factor = unit_of(cells).factor
    first = cells.iloc[0]
    axes.set_title(fit(first["column"], 32))
    panel(
        axes,
        runs,
        cells.assign(**{name: factor * cells[name] for name in ("mean", "low", "high")}),
        looks,
    )
    axes.set_ylabel(fit(first["metric"], 30) + (" x100" if factor == 100 else ""))
    axes.set_xlabel("")


def _sizes(board: pd.DataFrame) -> Panel:
    """Return how panels of a leaderboard are drawn: all have the same axis of sizes."""
    axis = SizeAxis.around([int(count) for count in board["ledger/reported"].dropna()])

    def draw(axes: Axes, runs: pd.DataFrame, cells: pd.DataFrame, looks: dict[str, Look]) -> None:
        cells = cells.assign(place=axis.label_places([int(count) for count in cells["ledger/reported"]]))
        _marks(axes, runs.merge(cells[["method", "row", "place"]], on=["method", "row"]), cells, looks)
        axes.set_xlim(*axis.limits)
        ticks = axis.ticks()
        axes.xaxis.set_major_locator(FixedLocator(list(ticks)))
        axes.xaxis.set_major_formatter(FixedFormatter(list(ticks.values())))
        if axis.zero is not None and axis.high > axis.low:
            axes.axvline((axis.zero + axis.low) / 2, color="0.5", linewidth=0.6, linestyle=":")

    return draw


def _costs(axes: Axes, runs: pd.DataFrame, cells: pd.DataFrame, looks: dict[str, Look]) -> None:
    cells = cells.assign(place=cells["cost"])
    front = cells.iloc[pareto(cells["cost"].tolist(), cells["mean"].tolist())]
    axes.plot(front["cost"], front["mean"], color="0.35", linewidth=0.8, drawstyle="steps-post", zorder=1)
    _marks(axes, runs.assign(place=runs["cost"]), cells, looks)
    axes.margins(x=0.12, y=0.1)
    axes.locator_params(axis="x", nbins=5)


def _marks(axes: Axes, runs: pd.DataFrame, cells: pd.DataFrame, looks: dict[str, Look]) -> None:
    """Draw runs and means at their ``place``; the cells' scores are in the shown unit.

    Everything of one method is one artist, and all bars are: a store of thousands of runs has many.
    """
    for method, (places, scores) in _by_method(runs, "place", "score"):
        axes.plot(places, unit_of(runs).factor * scores, **looks[method].run)
    ends = cells[["place", "low", "high", "method"]].dropna()
    lines = [[(at, low), (at, high)] for at, low, high in ends[["place", "low", "high"]].to_numpy("float64")]
    methods = ends["method"].tolist()
    if "least" in cells:
        level = cells[cells["least"] != cells["most"]]
        spans = level[["least", "most", "mean"]].to_numpy("float64")
        lines += [[(least, mean), (most, mean)] for least, most, mean in spans]
        methods += level["method"].tolist()
    colours = [looks[method].colour for method in methods]
    axes.add_collection(LineCollection(lines, colors=colours, linewidths=0.9, zorder=2))
    for method, (places, means) in _by_method(cells, "place", "mean"):
        axes.plot(places, means, linestyle="none", **looks[method].mean)


def _by_method(table: pd.DataFrame, *names: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yield of each method the numbers in these columns, of shape (columns, rows)."""
    numbers = table[list(names)].to_numpy("float64").T
    methods = table["method"].to_numpy(dtype=object)
    for method in dict.fromkeys(methods):
        yield str(method), numbers[:, methods == method]


def _with_parameters(cells: pd.DataFrame) -> pd.DataFrame:
    return cells[cells["ledger/reported"].notna()]


def _device(runs: pd.DataFrame) -> pd.Series[float]:
    return runs["cost/peak_device_bytes"].astype("float64") / 2**30


def _process(runs: pd.DataFrame) -> pd.Series[float]:
    return runs["cost/peak_process_bytes"].astype("float64") / 2**30


def _step(runs: pd.DataFrame) -> pd.Series[float]:
    steps = runs["cost/train_steps"].astype("float64")
    return runs["cost/train_seconds"] / steps.where((steps > 0) & measures_speed(runs))
