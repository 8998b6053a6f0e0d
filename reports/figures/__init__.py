"""Figures for a paper's column or page, readable without colour, the same bytes each time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import parbench.reports.figures.plotting  # noqa: F401  # isort: skip - before anything that imports matplotlib

import pandas as pd
from matplotlib.figure import Figure

from parbench.reports.conditions import conditions_of_boards
from parbench.reports.data_efficiency import in_full
from parbench.reports.figures.curves import History, read_histories, training_curves
from parbench.reports.figures.data_efficiency import data_efficiency
from parbench.reports.figures.heat import heat_map
from parbench.reports.figures.parameter_budgets import score_vs_budget
from parbench.reports.figures.ranks import critical_differences
from parbench.reports.figures.style import Picture, Reason, drawn_or_reason, pictured, to_bytes
from parbench.reports.figures.tradeoff import (
    is_drawn,
    score_vs_memory,
    score_vs_parameters,
    score_vs_profiled_memory,
    score_vs_profiled_step,
    score_vs_step_time,
)
from parbench.reports.figures.trials import score_vs_trials
from parbench.reports.frame import Frame
from parbench.reports.leaderboard import Leaderboard
from parbench.reports.profile.costs import Profiled
from parbench.reports.tables import summarise

__all__ = [
    "CAPTIONS",
    "History",
    "Picture",
    "Reason",
    "all_figures",
    "critical_differences",
    "data_efficiency",
    "heat_map",
    "is_drawn",
    "pictured",
    "read_histories",
    "score_vs_budget",
    "score_vs_memory",
    "score_vs_parameters",
    "score_vs_profiled_memory",
    "score_vs_profiled_step",
    "score_vs_step_time",
    "score_vs_trials",
    "to_bytes",
    "training_curves",
]

# By name, which is that of the file too.
CAPTIONS = {
    "score_vs_parameters": "Score against adapter parameters",
    "score_vs_memory": "Score against peak memory of training",
    "score_vs_step_time": "Score against time of a training step",
    "score_vs_profiled_step": "Score against profiled time of a training step",
    "score_vs_profiled_memory": "Score against profiled peak memory of training",
    "heat_map": "Difference to a baseline, task by task",
    "critical_differences": "Mean ranks over tasks, with critical differences",
    "data_efficiency": "Score against share of the training split",
    "score_vs_budget": "Score against parameter budget",
    "training_curves": "Training loss",
    "score_vs_trials": "Score against number of trials",
}


def all_figures(
    frame: Frame,
    cells: pd.DataFrame | None = None,
    histories: Mapping[str, History] | None = None,
    profiled: Profiled | None = None,
    baseline: str | None = None,
    boards: Sequence[Leaderboard] = (),
) -> dict[str, Figure | Reason]:
    """Draw everything that can be drawn of a frame.

    Args:
        frame: the runs.
        cells: their summary, if it is at hand, with its intervals, if it has any; of all shares of the training split,
            as ``frame`` is. What is on the curves of data efficiency is not drawn elsewhere.
        histories: what `read_histories` found.
        profiled: the costs of the cells that are drawn, if there is a profile.
        baseline: what the heat map compares with.
        boards: the leaderboards, which know what differs from it, and the trials and hardware for the captions.

    Returns:
        By name, as in `CAPTIONS`: the figure, or why there is none.
    """
    every = summarise(frame.runs) if cells is None else cells
    runs, cells = frame.runs[in_full(frame.runs, "score")], every[in_full(every)]
    words = conditions_of_boards([(board.title, board.conditions) for board in boards])
    drawings: dict[str, Callable[[], Figure | Reason]] = {
        "score_vs_parameters": lambda: score_vs_parameters(runs, cells, words),
        "score_vs_memory": lambda: score_vs_memory(runs, cells, words),
        "score_vs_step_time": lambda: score_vs_step_time(runs, cells, words),
        "score_vs_profiled_step": lambda: score_vs_profiled_step(runs, profiled, words),
        "score_vs_profiled_memory": lambda: score_vs_profiled_memory(runs, profiled, words),
        "heat_map": lambda: heat_map(cells, baseline, boards, words),
        "critical_differences": lambda: critical_differences(cells, words),
        "data_efficiency": lambda: data_efficiency(every, words),
        "score_vs_budget": lambda: score_vs_budget(cells, words),
        "training_curves": lambda: training_curves(runs, histories or {}, words),
        "score_vs_trials": lambda: score_vs_trials(frame.aside, frame.runs, frame.suites, words),
    }
    return {name: drawn_or_reason(draw) for name, draw in drawings.items()}
