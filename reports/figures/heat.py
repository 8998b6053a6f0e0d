"""Differences to a baseline by method and task."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import seaborn
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle

from parbench.reports.differences import differences_on
from parbench.reports.figures.style import COLUMN_WIDTH, PAGE_WIDTH, Reason, Section, is_small, page, section_title
from parbench.reports.figures.text import FONT_SIZE, fit, fit_apart
from parbench.reports.leaderboard import Leaderboard
from parbench.reports.ranking import Ranking
from parbench.reports.rows import COLUMN
from parbench.reports.tables import boards, row_key, unit_of

ROW_HEIGHT, HEAD_HEIGHT = 0.2, 1.0  # inches
CELL_WIDTH, NAME_WIDTH = 0.45, 1.15  # inches
FULL_COLOUR = 10.0  # points
BASELINE = "lora"

# Below: orange and darkening; above: blue, lighter for the same distance. So without colour the sign is in the number
# and the distance in the shade.
_MAP = LinearSegmentedColormap.from_list("below_above", ["#b35806", "#fdd0a2", "#ffffff", "#c6dbef", "#3182bd"])


def heat_map(
    cells: pd.DataFrame,
    baseline: str | None = None,
    leaderboards: Sequence[Leaderboard] = (),
    conditions: str = "",
) -> Figure | Reason:
    """Draw the difference of each row's mean to a baseline's, tasks across, one map a leaderboard.

    Args:
        cells: the summary.
        baseline: the row or method to compare with; by default LoRA, and full fine-tuning where there is no LoRA.
        leaderboards: where a map's is among them, only the cells that it shows to differ from the baseline have a
            colour.
        conditions: trials and hardware, for the caption.
    """
    found = []
    rankings = {str(one.cells["board"].iloc[0]): one.ranking for one in leaderboards}
    for board in boards(cells):
        name = _baseline(board, baseline)
        if name is not None and _can_compare(board, name):
            found.append((board, name))
    if not found:
        wanted = f'"{baseline}"' if baseline else "LoRA or full fine-tuning"
        return Reason(f"No leaderboard has a score of {wanted} and another row to compare with it.")
    tasks = max(board.groupby(COLUMN).ngroups for board, _ in found)
    width = min(PAGE_WIDTH, max(COLUMN_WIDTH, NAME_WIDTH + CELL_WIDTH * tasks))
    sections = [
        Section(
            section_title(board, width) + f"\ndifference to {fit(name, 40)}",
            HEAD_HEIGHT + ROW_HEIGHT * board["row"].nunique(),
            partial(_map, cells=board, baseline=name, ranking=rankings.get(str(board["board"].iloc[0]))),
            small=is_small(board),
        )
        for board, name in found
    ]
    caption = (
        "mean over the seeds minus the baseline's, x100 unless marked as is; blue: above, orange: below, the full "
        f"colour from {FULL_COLOUR:g} points on; {_what_is_coloured(bool(rankings))}; hatched: no score on either side"
    )
    return page(sections, {}, caption, width, conditions)


def _baseline(board: pd.DataFrame, asked: str | None) -> str | None:
    """Return the row to compare with: that of this name, or the first of this method."""
    for wanted in [asked] if asked else [BASELINE, "full"]:
        rows = sorted((row for _, row in board.iterrows() if wanted in (row["row"], row["method"])), key=row_key)
        if rows:
            return str(rows[0]["row"])
    return None


def _can_compare(board: pd.DataFrame, baseline: str) -> bool:
    scored = board[board["mean"].notna()]
    return bool((scored["row"] == baseline).any() and (scored["row"] != baseline).any())


def _what_is_coloured(tested: bool) -> str:
    if not tested:
        return "differences are not tested here"
    return "without a colour: not told apart from the baseline by the leaderboard's corrected comparison"


def _map(area: SubFigure, cells: pd.DataFrame, baseline: str, ranking: Ranking | None) -> None:
    rows = sorted((row for _, row in cells.drop_duplicates("row").iterrows()), key=row_key)
    names = [str(row["row"]) for row in rows]
    columns = sorted(cells[COLUMN].drop_duplicates().itertuples(index=False, name=None))
    values, shades = (np.full((len(names), len(columns)), np.nan) for _ in range(2))
    heads = []
    for place, (task, metric) in enumerate(columns):
        part = cells[(cells["column"] == task) & (cells["metric"] == metric)]
        factor = unit_of(part).factor
        means = part.set_index("row")["mean"].reindex(names)
        values[:, place] = factor * (means - means[baseline]).to_numpy(dtype="float64")
        heads.append(_head(task) + ("" if factor == 100 else "\n(as is)"))
        # A fixed scale, so that noise does not fill it. What is no fraction has one of its own.
        scale = FULL_COLOUR if factor == 100 else max(_largest(values[:, place]), np.finfo(float).tiny)
        shades[:, place] = np.clip(values[:, place] / scale, -1.0, 1.0)
        if ranking is not None:
            differences = differences_on(ranking.columns.get((str(task), str(metric))), names, baseline)
            shades[:, place] *= [one.verdict in ("better", "worse") for one in differences]
    axes = area.subplots()
    seaborn.heatmap(
        shades,
        vmin=-1.0,
        vmax=1.0,
        cmap=_MAP,
        cbar=False,
        annot=np.array([[_shown(value) for value in row] for row in values], dtype=object),
        fmt="",
        annot_kws={"fontsize": 6},
        linewidths=0.6,
        linecolor="white",
        xticklabels=heads,
        yticklabels=fit_apart(names, NAME_WIDTH, FONT_SIZE - 1),
        ax=axes,
    )
    for row, column in np.argwhere(np.isnan(values)):
        axes.add_patch(Rectangle((column, row), 1, 1, fill=False, hatch="////", edgecolor="0.8", linewidth=0))
    place = names.index(baseline)
    axes.add_patch(Rectangle((0, place), len(columns), 1, fill=False, edgecolor="0.2", linewidth=0.8, clip_on=False))
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.set_xticklabels(heads, rotation=0)
    axes.set_yticklabels(axes.get_yticklabels(), rotation=0)


def _head(task: str) -> str:
    """Return a task's name in short lines: the group, then the task."""
    return "\n".join(textwrap.fill(fit(part, 22), 10) for part in task.replace("/", "/\n", 1).split("\n"))


def _largest(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(np.abs(known).max()) if len(known) else 0.0


def _shown(value: float) -> str:
    return "" if math.isnan(value) else "0.0" if round(value, 1) == 0 else f"{value:+.1f}"
