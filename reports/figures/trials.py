"""Score against the number of trials of a search: what each method would have reached with less tuning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from parbench.bench.plan.notes import NOT_TUNED
from parbench.bench.plan.suite import Suite
from parbench.reports.figures.curves import DASHES
from parbench.reports.figures.style import (
    MARKERS,
    Look,
    Reason,
    Section,
    is_small,
    looks_of,
    page,
    section_title,
    width_of,
)
from parbench.reports.figures.text import fit
from parbench.reports.rows import COLUMN
from parbench.reports.statistics import expected_best, rank_by_trials
from parbench.reports.tables import boards, unit_of
from parbench.tasks import metric_unit
from parbench.tasks.metrics.units import Unit

PANEL_HEIGHT = 2.0  # inches

# By method: the selection score of each trial, the mean over its seeds; ``None`` for one that failed.
Trials = Mapping[str, Sequence[float | None]]


@dataclass(frozen=True)
class Search:
    """The trials of one task.

    Attributes:
        runs: those that name it.
        trials: by method.
        metric: of the scores.
        unit: of the metric.
    """

    runs: pd.DataFrame
    trials: Trials
    metric: str
    unit: Unit


def score_vs_trials(
    aside: pd.DataFrame,
    runs: pd.DataFrame | None = None,
    suites: Mapping[str, Suite] = MappingProxyType({}),
    conditions: str = "",
) -> Figure | Reason:
    """Draw the expected best selection score of k trials, and the rank of each method by it, task by task.

    Nothing is run again: it follows from the trials that were recorded (`parbench.reports.statistics.expected_best`),
    in the store, or else by the suite of the runs.

    Args:
        aside: the frame's runs that count in no table, those that chose hyper-parameters among them.
        runs: the frame's other runs.
        suites: what is known of their suites.
        conditions: trials and hardware, for the caption.
    """
    searches = searches_of(aside, runs, suites)
    if not searches:
        return Reason("No hyper-parameters were searched in this store; bench tune does.")
    looks = looks_of(list(dict.fromkeys(method for search in searches for method in search.trials)))
    width = width_of(2)
    sections = [
        Section(
            f"{section_title(search.runs, width)}\n{fit(str(search.runs['column'].iloc[0]), 60)}",
            PANEL_HEIGHT,
            partial(_task, search=search, looks=looks),
            small=is_small(search.runs),
        )
        for search in searches
    ]
    caption = (
        "left: expected best score on the selection split of k trials out of those recorded, band: standard deviation "
        "of that best; right: rank by it, 1 is best. A trial that failed counts as the worst score seen on the task."
    )
    return page(sections, looks, caption, width, conditions)


def searches_of(aside: pd.DataFrame, runs: pd.DataFrame | None, suites: Mapping[str, Suite]) -> list[Search]:
    """Return the searches of a store, or else those that the suites of its runs record; see `score_vs_trials`."""
    found = list(_in_store(aside))
    return found if found or runs is None else list(_by_suites(runs, suites))


def _in_store(aside: pd.DataFrame) -> Iterator[Search]:
    runs = aside[aside["purpose"] == "selection"] if len(aside) else aside
    if len(runs):
        for board in boards(runs):
            for _, part in board.groupby(COLUMN):
                yield Search(part, trials_of(part), str(part["metric"].iloc[0]), unit_of(part))


def _by_suites(runs: pd.DataFrame, suites: Mapping[str, Suite]) -> Iterator[Search]:
    """Yield the searches that suites record for the tasks of runs: of those methods alone that the runs are of."""
    tuned = runs[~runs["notes"].str.contains(NOT_TUNED, regex=False).fillna(False).astype("bool")]
    for name, part in tuned.groupby("suite"):
        tuning = suite.tuning if (suite := suites.get(str(name))) else None
        for _, own in part.groupby("column"):
            task = str(own["task"].iloc[0])
            found = tuning.found.get(task, {}) if tuning else {}
            kept = {str(method): found[method] for method in own["method"].unique() if method in found}
            if kept:
                metric = str(next(iter(kept.values()))["metric"])
                trials = {method: [one["score"] for one in notes["trials"]] for method, notes in kept.items()}
                yield Search(own, trials, metric, metric_unit(task, metric))


def trials_of(runs: pd.DataFrame) -> Trials:
    """Return the trials of one task: a setting of a method is a trial, scored by its mean over the selection seeds.

    Args:
        runs: the runs of one task that chose hyper-parameters.
    """
    # A setting of which one seed failed has failed: its mean would be over fewer seeds than the others'.
    means = (
        runs["selection_score"]
        .groupby([runs["method"], runs["setting_id"]])
        .agg(lambda scores: scores.mean(skipna=False))
    )
    return {
        str(method): [None if pd.isna(mean) else float(mean) for mean in by_setting]
        for method, by_setting in means.groupby(level=0)
    }


def _task(area: SubFigure, search: Search, looks: dict[str, Look]) -> None:
    trials, metric, unit = search.trials, search.metric, search.unit
    left, right = area.subplots(1, 2)
    seen = [score for scores in trials.values() for score in scores if score is not None]
    if not seen:
        for axes in (left, right):
            axes.set_axis_off()
        left.set_title("every trial failed")
        return
    for method, scores in trials.items():
        curve = unit.factor * expected_best(scores, failed=min(seen))
        _line(left, curve["expected"], looks[method])
        low, high = curve["expected"] - curve["sd"], curve["expected"] + curve["sd"]
        left.fill_between(curve.index, low, high, color=looks[method].colour, alpha=0.15, linewidth=0)
    for name, ranks in rank_by_trials(trials, failed=min(seen)).items():
        _line(right, ranks, looks[str(name)])
    left.set_ylabel("expected best\n" + fit(metric, 30) + (" x100" if unit.factor == 100 else ""))
    right.set_ylabel("rank")
    right.invert_yaxis()
    right.locator_params(axis="y", integer=True)
    for axes in (left, right):
        axes.set_xlabel("trials")
        axes.locator_params(axis="x", nbins=5, integer=True)


def _line(axes: Axes, curve: pd.Series[float], look: Look) -> None:
    dashes = DASHES[MARKERS.index(look.marker) % len(DASHES)]
    axes.plot(curve.index, curve.to_numpy(), linewidth=1.2, linestyle=dashes, **{**look.mean, "markersize": 3.5})
