"""Critical-difference diagrams: mean ranks over tasks, and which of them Nemenyi's test cannot tell apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from parbench.reports.figures.style import COLUMN_WIDTH, Reason, Section, is_small, page, section_title
from parbench.reports.figures.text import FONT_SIZE, fit_apart
from parbench.reports.rows import COLUMN
from parbench.reports.statistics import TaskRanking, rank_over_tasks
from parbench.reports.tables import boards, title

SIDE = 1.15  # inches, for names on either side of the axis
AXIS_HEIGHT, NAME_HEIGHT, GROUP_HEIGHT = 0.75, 0.17, 0.09  # inches


def critical_differences(cells: pd.DataFrame, conditions: str = "") -> Figure | Reason:
    """Draw one critical-difference diagram a leaderboard (Demšar, JMLR 2006, section 3.2.4).

    Args:
        cells: the summary.
        conditions: trials and hardware, for the caption.
    """
    drawn, lacking = [], []
    for board in boards(cells):
        # A pivot table would have a line for every pair of a task and a metric.
        means = board.set_index([*COLUMN, "row"])["mean"].unstack("row")  # noqa: PD010
        unlearnt = set(board.loc[board["learnt"].eq(False), "row"]) if "learnt" in board else set()
        ranking = rank_over_tasks(means.drop(columns=list(unlearnt)).dropna(axis="columns"))
        if ranking.reason is None:
            drawn.append((board, ranking))
        else:
            lacking.append(f"{title(board)}: {ranking.reason}.")
    if not drawn:
        return Reason(" ".join(lacking))
    sections = [
        Section(
            "\n".join([section_title(board, COLUMN_WIDTH), _facts(board, ranking)]),
            _height(ranking),
            partial(_diagram, ranking=ranking),
            small=is_small(board),
            is_placed=True,
        )
        for board, ranking in drawn
    ]
    caption = (
        "mean rank over the tasks, 1 being best, of the rows that learnt on each; rows under one thick line are not "
        "told apart by Nemenyi's test at 5 %; CD: critical difference of two mean ranks"
    )
    return page(sections, {}, caption, COLUMN_WIDTH, conditions)


def cliques(ranking: TaskRanking) -> list[tuple[str, str]]:
    """Return the first and last of each largest run of neighbours, by rank, that are within the critical difference."""
    names = _by_rank(ranking)
    found: list[tuple[int, int]] = []
    for start in range(len(names)):
        end = start
        while end + 1 < len(names) and _gap(ranking, names[start], names[end + 1]) <= (
            ranking.critical_difference or 0.0
        ):
            end += 1
        if end > start and not (found and found[-1][1] >= end):
            found.append((start, end))
    return [(names[start], names[end]) for start, end in found]


def _gap(ranking: TaskRanking, a: str, b: str) -> float:
    return ranking.mean_ranks[b] - ranking.mean_ranks[a]


def _by_rank(ranking: TaskRanking) -> list[str]:
    return sorted(ranking.mean_ranks, key=lambda name: (ranking.mean_ranks[name], name))


def _facts(board: pd.DataFrame, ranking: TaskRanking) -> str:
    left_out = board["row"].nunique() - len(ranking.mean_ranks)
    rows = f", {left_out} incomplete {'row' if left_out == 1 else 'rows'} left out" if left_out else ""
    p_value = ranking.p_value or 0.0
    return f"{len(ranking.tasks)} tasks{rows}; Friedman p {'< 0.001' if p_value < 0.001 else f'= {p_value:.3f}'}"


def _height(ranking: TaskRanking) -> float:
    lines = (len(ranking.mean_ranks) + 1) // 2
    return AXIS_HEIGHT + NAME_HEIGHT * lines + GROUP_HEIGHT * len(cliques(ranking))


def _diagram(area: SubFigure, ranking: TaskRanking) -> None:
    """Draw in inches: ranks to the right, lines downwards."""
    names, groups = _by_rank(ranking), cliques(ranking)
    height, left, right = _height(ranking), SIDE, COLUMN_WIDTH - SIDE
    worst = len(names)
    axes = area.add_axes((0, 0, 1, height * area.figure.dpi / area.bbox.height))
    axes.set_xlim(0, COLUMN_WIDTH)
    axes.set_ylim(height, 0)
    axes.axis("off")

    def at(rank: float) -> float:
        return left + (rank - 1) / (worst - 1) * (right - left)

    line = 0.5
    axes.plot([at(1), at(worst)], [line, line], color="0.1", linewidth=0.8)
    step = 1 + worst // 9
    for rank in range(1, worst + 1, step):
        axes.plot([at(rank)] * 2, [line - 0.06, line], color="0.1", linewidth=0.8)
        axes.text(at(rank), line - 0.08, str(rank), ha="center", va="bottom")
    _critical(axes, at, ranking)
    under = line + 0.1
    for first, last in groups:
        ends = [at(ranking.mean_ranks[first]) - 0.04, at(ranking.mean_ranks[last]) + 0.04]
        axes.plot(ends, [under, under], color="0.1", linewidth=2.4, solid_capstyle="butt")
        under += GROUP_HEIGHT
    half = (len(names) + 1) // 2
    labels = list(
        zip(fit_apart(names, SIDE - 0.15, FONT_SIZE - 1), [at(ranking.mean_ranks[name]) for name in names], strict=True)
    )
    for shown, edge, side in ((labels[:half], left - 0.1, "right"), (labels[half:][::-1], right + 0.1, "left")):
        _names(axes, shown, (line, under + 0.06, edge), side)


def _critical(axes: Axes, at: Callable[[float], float], ranking: TaskRanking) -> None:
    length = at(1 + (ranking.critical_difference or 0.0)) - at(1)
    axes.errorbar(at(1) + length / 2, 0.2, xerr=length / 2, color="0.1", elinewidth=0.8, capsize=2, capthick=0.8)
    axes.text(at(1) + length / 2, 0.15, f"CD = {ranking.critical_difference:.2f}", ha="center", va="bottom")


def _names(axes: Axes, names: Sequence[tuple[str, float]], where: tuple[float, float, float], side: str) -> None:
    """Draw names on one side with lines to their ranks' places.

    Args:
        axes: where to draw.
        names: each with its place.
        where: the axis, the first name's top and the edge.
        side: on which a name ends.
    """
    top, first, edge = where
    for number, (name, place) in enumerate(names):
        level = first + NAME_HEIGHT * (number + 0.5)
        axes.plot([place, place, edge], [top, level, level], color="0.45", linewidth=0.6)
        axes.text(
            edge + (-0.04 if side == "right" else 0.04),
            level,
            name,
            ha=side,
            va="center",
            fontsize=FONT_SIZE - 1,
        )
