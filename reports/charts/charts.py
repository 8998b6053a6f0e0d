"""All interactive figures of a page, with the library that draws them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from parbench.reports.charts.chart import Chart, Palette
from parbench.reports.charts.costs import costs_chart
from parbench.reports.charts.differences import differences_chart
from parbench.reports.charts.library import Library, library
from parbench.reports.charts.trials import trials_chart
from parbench.reports.conditions import conditions_of_boards
from parbench.reports.figures.trials import searches_of
from parbench.reports.frame import Frame
from parbench.reports.leaderboard import Leaderboard
from parbench.reports.rows import BOARD, COLUMN
from parbench.reports.tables import is_counted

MOST_BOARDS = 12
MOST_POINTS = 1_500  # runs of a page that are points of their own


@dataclass(frozen=True)
class Charts:
    """The interactive figures of a page.

    Attributes:
        of_boards: by the number of a leaderboard, from 1: its differences, which stand at its head.
        others: all others, which stand with the figures.
        methods: the names that can be hidden.
        library: what draws them.
    """

    of_boards: Mapping[int, Chart]
    others: Sequence[Chart]
    methods: Sequence[str]
    library: Library

    def every(self) -> list[Chart]:
        """Return all charts."""
        return [*self.of_boards.values(), *self.others]


def charts_of(frame: Frame, boards: Sequence[Leaderboard]) -> Charts | None:
    """Return the interactive figures; ``None`` where there is nothing to draw.

    Args:
        frame: the runs.
        boards: the leaderboards of the page, of which the first `MOST_BOARDS` are drawn.
    """
    scored = frame.runs[is_counted(frame.runs)]
    palette = Palette.of(pd.concat([frame.runs, frame.aside]) if len(frame.aside) else frame.runs)
    points = scored if len(scored) <= MOST_POINTS else scored.iloc[:0]
    of_boards: dict[int, Chart] = {}
    others: list[Chart] = []
    for number, board in enumerate(boards[:MOST_BOARDS], start=1):
        own = board.cells[BOARD[0]].iloc[0]
        ids = _ids_of(scored[scored[BOARD[0]] == own])
        if differences := differences_chart(number, board, ids, palette):
            of_boards[number] = differences
        if costs := costs_chart(number, board, points[points[BOARD[0]] == own], palette):
            others.append(costs)
    words = conditions_of_boards([(board.title, board.conditions) for board in boards])
    if trials := trials_chart(searches_of(frame.aside, frame.runs, frame.suites), palette, words):
        others.append(trials)
    if not of_boards and not others:
        return None
    return Charts(of_boards, others, list(dict.fromkeys(palette.names.values())), library())


def _ids_of(runs: pd.DataFrame) -> Mapping[tuple[str, str, str], Sequence[str]]:
    """Return the ids of the runs of each column, metric and row."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for column, metric, row, run in runs[[*COLUMN, "row", "run_id"]].itertuples(index=False, name=None):
        found.setdefault((str(column), str(metric), str(row)), []).append(str(run))
    return found
