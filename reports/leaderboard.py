"""Leaderboards, laid out as text: methods against tasks, their cost, and their standing over all tasks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import pandas as pd

from parbench.reports.attempt import NotComputed, attempt
from parbench.reports.caveats import facts, warnings
from parbench.reports.conditions import Tried, conditions, is_untuned, marked, trials_of_cells, unmatched_sizes
from parbench.reports.cost_ratios import baseline_row, check_baseline
from parbench.reports.costs_table import costs_table
from parbench.reports.data_efficiency import in_full
from parbench.reports.detectable import detectable_table
from parbench.reports.differences import rows_by_rank
from parbench.reports.extra_tables import other_metrics, retention_table, subset_scores, subset_tables
from parbench.reports.frame import Frame
from parbench.reports.main_row import main_row_note
from parbench.reports.over_tasks_table import over_tasks_notes, over_tasks_table, wins_table
from parbench.reports.ranking import Ranking, rank_board
from parbench.reports.repeats import floors, noise_notes, noise_table, repeats
from parbench.reports.rows import BOARD, at_same, flatten
from parbench.reports.scores_table import ScoresTable
from parbench.reports.settings_table import bound_notes, settings_table
from parbench.reports.statistics import no_ranking, win_tie_loss
from parbench.reports.suites import limits_of
from parbench.reports.tables import SMALL_LABEL, Table, boards, distinct, row_key, summarise, title
from parbench.reports.verdict import verdict


@dataclass(frozen=True)
class Leaderboard:
    """All methods under one protocol, budget and share of the training split, on the tasks of all base models.

    Attributes:
        title: what it is of; names the protocol and the budget.
        label: a sentence that must stand wherever the numbers stand, or ``None``.
        verdict: the result in a few sentences, see `parbench.reports.verdict`.
        conditions: seeds, trials and hardware.
        sizes: a sentence where methods of different sizes are compared, or ``None``.
        facts: what was held fixed, with its revisions.
        warnings: what was not and should have been.
        scores: methods against tasks.
        notes: how to read the scores.
        subsets: for each task with subsets, methods against them.
        other_metrics: for each task with metrics beside the one that ranks, methods against them.
        costs: methods against parameter counts, time and memory.
        settings: hyper-parameters of the methods, with what was tried and in how many trials.
        over_tasks: methods against averages and mean ranks over all tasks.
        over_tasks_notes: how to read that, or why there is nothing to read.
        wins: methods against methods, on how many tasks the one is better.
        noise: what repeated runs scored; without rows where nothing was repeated.
        noise_notes: which differences chance alone explains.
        detectable: pairs of methods against tasks: what each comparison could have seen.
        consistency: methods against tasks: how many predictions differ between seeds; only in a report, which reads
            the per-example rows again.
        retention: methods against what they forgot of general text; without rows where it was not measured.
        cells: the numbers of `summarise` of this board.
        baseline: the row that the others are compared with; ``None`` where no row has a score.
        ranking: the statistics behind it all.
        in_full: whether it is to be shown; else it is of a smaller share of the training split, and its scores are
            points of the curves of data efficiency.
    """

    title: str
    label: str | None
    verdict: tuple[str, ...]
    conditions: tuple[str, ...]
    sizes: str | None
    facts: tuple[str, ...]
    warnings: tuple[str, ...]
    scores: Table
    notes: tuple[str, ...]
    subsets: tuple[Table, ...]
    other_metrics: tuple[Table, ...]
    costs: Table
    settings: Table
    over_tasks: Table
    over_tasks_notes: tuple[str, ...]
    wins: Table
    noise: Table
    noise_notes: tuple[str, ...]
    retention: Table
    cells: pd.DataFrame
    ranking: Ranking
    in_full: bool = True
    baseline: str | None = None
    detectable: Table = field(default_factory=lambda: Table(("pair",), ()))
    consistency: Table = field(default_factory=lambda: Table(("method",), ()))


def leaderboards(frame: Frame, baseline: str | None = None, by_rank: bool = False) -> list[Leaderboard]:
    """Lay out one leaderboard for each protocol, budget and share of the training split.

    It has the tasks of all base models, see `parbench.reports.rows.board_labels`. Those of small suites stand by
    themselves.

    Args:
        frame: the runs.
        baseline: the row or method that the others are compared with; see `parbench.reports.cost_ratios.baseline_row`.
        by_rank: whether the rows stand in the order of their mean rank, instead of that of their names.

    Raises:
        UserError: there is no score of the baseline.
    """
    repeated = repeats(frame)
    every = summarise(frame.runs)
    if baseline is not None:
        check_baseline(every, baseline)
    tried = trials_of_cells(every, frame.runs, frame.aside, frame.suites)
    every = every.assign(**{name: [getattr(one, name) for one in tried] for name in Tried._fields})
    pairs = zip(boards(frame.runs), boards(every.assign(in_full=in_full(every))), strict=True)
    found = []
    for runs, own in pairs:
        cells = own.assign(untuned=is_untuned(own))
        again = repeated[at_same(repeated, cells.iloc[0], BOARD)]
        board = attempt(partial(_leaderboard, runs, cells, frame, again, baseline, by_rank))
        found.append(_not_computed(cells, board.reason) if isinstance(board, NotComputed) else board)
    return found


def _not_computed(cells: pd.DataFrame, reason: str) -> Leaderboard:
    """Return a leaderboard that holds its summary and the reason why there is nothing else."""
    first, nothing = cells.iloc[0], Table(("method",), ())
    ranking = Ranking({}, None, reason, no_ranking(reason), (), (), win_tie_loss({}), {}, {}, ())
    return Leaderboard(
        title=title(cells),
        label=SMALL_LABEL if first["small"] else None,
        verdict=(),
        conditions=(),
        sizes=None,
        facts=(),
        warnings=(f"{reason}.",),
        scores=nothing,
        notes=(),
        subsets=(),
        other_metrics=(),
        costs=nothing,
        settings=nothing,
        over_tasks=nothing,
        over_tasks_notes=(),
        wins=nothing,
        noise=nothing,
        noise_notes=(),
        retention=nothing,
        cells=cells.drop(columns="in_full"),
        ranking=ranking,
        in_full=bool(first["in_full"]),
    )


def _leaderboard(
    runs: pd.DataFrame,
    cells: pd.DataFrame,
    frame: Frame,
    repeated: pd.DataFrame,
    baseline: str | None,
    by_rank: bool,
) -> Leaderboard:
    noise = floors(repeated)
    ranking = rank_board(runs, frame.left_out, noise)
    first = cells.iloc[0]
    rows = [row for _, row in cells.groupby(["method", "row"], sort=False)]
    rows.sort(key=lambda row: row_key(row.iloc[0]))
    names = [str(row["row"].iloc[0]) for row in rows]
    if by_rank:
        names = rows_by_rank(names, ranking)
        rows.sort(key=lambda row: names.index(str(row["row"].iloc[0])))
    scores = ScoresTable(cells, ranking)
    several = len(ranking.columns) > 1 or bool(ranking.named)  # of one task its column is all there is
    nothing = Table(("method",), ())
    limits = limits_of(distinct(runs["suite"]), frame.suites)
    compared = baseline_row(cells, baseline)
    return Leaderboard(
        title=title(cells),
        label=SMALL_LABEL if first["small"] else None,
        verdict=verdict(cells, ranking, compared, limits),
        conditions=tuple(conditions(runs, cells)),
        sizes=unmatched_sizes(runs, cells),
        facts=tuple(facts(runs)),
        warnings=tuple(warnings(runs)),
        scores=scores.table(rows),
        notes=(*scores.notes(), *_setting_notes(rows), *main_row_note(cells), *bound_notes(rows, frame.suites)),
        subsets=tuple(marked(subset_tables(subset_scores(runs)), cells)),
        other_metrics=tuple(marked(other_metrics(runs), cells)),
        costs=costs_table(rows, budgeted=bool(pd.notna(first["budget"]))),
        settings=settings_table(rows, frame.aside, frame.suites),
        over_tasks=over_tasks_table(names, ranking) if several else nothing,
        over_tasks_notes=tuple(over_tasks_notes(ranking)) if several else (),
        wins=wins_table(names, ranking.wins),
        noise=noise_table(repeated),
        noise_notes=tuple(noise_notes(repeated, noise, cells)),
        retention=retention_table(rows),
        cells=cells.drop(columns="in_full"),
        ranking=ranking,
        in_full=bool(first["in_full"]),
        baseline=compared,
        detectable=detectable_table(ranking, compared),
    )


def _setting_notes(rows: list[pd.DataFrame]) -> Iterator[str]:
    concerned: dict[str, list[str]] = {}
    for row in rows:
        settings = [
            flatten(json.loads(setting), json.loads(training))
            for setting, training in zip(row["setting"], row["training"], strict=True)
        ]
        names = sorted({name for setting in settings for name in setting})
        differ = ", ".join(name for name in names if len({setting.get(name) for setting in settings}) > 1)
        if differ:
            concerned.setdefault(differ, []).append(str(row["row"].iloc[0]))
    for differ, methods in concerned.items():
        yield f"Settings that are not the same on all tasks: {differ} of {', '.join(methods)}."
