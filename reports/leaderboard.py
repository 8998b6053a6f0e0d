"""Leaderboards, laid out as text: methods against tasks, what they cost, and how they stand over all tasks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from parbench.reports.caveats import facts, warnings
from parbench.reports.data_efficiency import in_full
from parbench.reports.extra_tables import other_metrics, retention_table, subset_scores, subset_tables
from parbench.reports.frame import Frame
from parbench.reports.jackknife import LeftOut
from parbench.reports.ranking import LEVEL, Column, Ranking, Standing, rank_board
from parbench.reports.repeats import floors, noise_notes, noise_table, repeats
from parbench.reports.rows import BOARD, COLUMN, at_same, flatten
from parbench.reports.tables import MINI_LABEL, NOT_RUN, NOTHING, Table, boards, row_key, scale, summarise, title


@dataclass(frozen=True)
class Leaderboard:
    """All methods with one base model, under one protocol, limit, budget and share of the training split.

    Attributes:
        title: what it is of; names the protocol and the budget.
        label: a sentence that must stand wherever the numbers stand, or ``None``.
        facts: what was held fixed, with its revisions.
        warnings: what was not and should have been.
        scores: methods against tasks.
        notes: how to read the scores.
        subsets: for each task with subsets, methods against them.
        other_metrics: for each task with metrics beside the one that ranks, methods against them.
        costs: methods against parameter counts, time and memory.
        over_tasks: methods against what is said of all tasks together.
        over_tasks_notes: how to read that, or why there is nothing to read.
        wins: methods against methods, on how many tasks the one is better.
        noise: what repeated runs scored; without rows where nothing was repeated.
        noise_notes: which differences chance alone explains.
        retention: methods against what they forgot of general text; without rows where it was not measured.
        cells: the numbers of `summarise` of this board.
        ranking: the statistics behind it all.
        in_full: whether it is to be shown; else it is of a smaller share of the training split, and its scores are
            points of the curves of data efficiency.
    """

    title: str
    label: str | None
    facts: tuple[str, ...]
    warnings: tuple[str, ...]
    scores: Table
    notes: tuple[str, ...]
    subsets: tuple[Table, ...]
    other_metrics: tuple[Table, ...]
    costs: Table
    over_tasks: Table
    over_tasks_notes: tuple[str, ...]
    wins: Table
    noise: Table
    noise_notes: tuple[str, ...]
    retention: Table
    cells: pd.DataFrame
    ranking: Ranking
    in_full: bool = True


def leaderboards(frame: Frame) -> list[Leaderboard]:
    """Lay out one leaderboard for each base model, protocol, limit, budget and share of the training split.

    Those of small suites stand by themselves.
    """
    repeated = repeats(frame)
    every = summarise(frame.runs)
    pairs = zip(boards(frame.runs), boards(every.assign(in_full=in_full(every))), strict=True)
    return [
        _leaderboard(runs, cells, frame.left_out, repeated[at_same(repeated, cells.iloc[0], BOARD)])
        for runs, cells in pairs
    ]


def _leaderboard(
    runs: pd.DataFrame, cells: pd.DataFrame, left_out: Mapping[str, LeftOut | str], repeated: pd.DataFrame
) -> Leaderboard:
    noise = floors(repeated)
    ranking = rank_board(runs, left_out, noise)
    first = cells.iloc[0]
    rows = [row for _, row in cells.groupby(["method", "row"], sort=False)]
    rows.sort(key=lambda row: row_key(row.iloc[0]))
    names = [str(row["row"].iloc[0]) for row in rows]
    scores = _Scores(cells, ranking)
    return Leaderboard(
        title=title(first),
        label=MINI_LABEL if first["small"] else None,
        facts=tuple(facts(runs)),
        warnings=tuple(warnings(runs)),
        scores=scores.table(rows),
        notes=(*scores.notes(), *_setting_notes(rows)),
        subsets=tuple(subset_tables(subset_scores(runs))),
        other_metrics=tuple(other_metrics(runs)),
        costs=_costs(rows, budgeted=bool(pd.notna(first["budget"]))),
        over_tasks=_over_tasks(names, ranking),
        over_tasks_notes=tuple(_over_tasks_notes(ranking)),
        wins=_wins(names, ranking.wins),
        noise=noise_table(repeated),
        noise_notes=tuple(noise_notes(repeated, noise, cells)),
        retention=retention_table(rows),
        cells=cells.drop(columns="in_full"),
        ranking=ranking,
        in_full=bool(first["in_full"]),
    )


class _Scores:
    """Methods against tasks, as mean ± half an interval, with tie groups."""

    def __init__(self, cells: pd.DataFrame, ranking: Ranking) -> None:
        self._ranking = ranking
        self._averages = _averages(ranking)
        self._factors: dict[tuple[str, str], int] = {
            (str(task), str(metric)): scale(part["mean"]) for (task, metric), part in cells.groupby(COLUMN)
        }

    def table(self, rows: list[pd.DataFrame]) -> Table:
        """Return the table; ``rows`` are the cells of each of its rows."""
        heads = [
            f"{task} ({metric})" if factor == 100 else f"{task} ({metric}, as is)"
            for (task, metric), factor in self._factors.items()
        ]
        body, bold = [], set()
        for number, row in enumerate(rows):
            name = str(row["row"].iloc[0])
            by_column = {(cell["column"], cell["metric"]): cell for _, cell in row.iterrows()}
            texts = [name, _span(row["ledger/reported"], _count)]
            for key, factor in self._factors.items():
                column = self._ranking.columns.get(key)
                standing = column.standings.get(name) if column else None
                if standing and standing.best:
                    bold.add((number, len(texts)))
                texts.append(_score(by_column[key], factor, standing) if key in by_column else NOT_RUN)
            for average in self._averages.values():
                if average.is_best(name):
                    bold.add((number, len(texts)))
                texts.append(average.text(name))
            body.append(tuple(texts))
        return Table(("method", "parameters", *heads, *self._averages), tuple(body), frozenset(bold))

    def notes(self) -> Iterator[str]:
        """Yield how to read the table."""
        fractions = {*self._factors.values(), *(average.factor for average in self._averages.values())} == {100}
        columns = [*self._ranking.columns.values(), *(average.column for average in self._averages.values())]
        standings = [standing for column in columns for standing in column.standings.values()]
        half = ""
        if any(standing.estimate.interval is not None for standing in standings):
            half = f" ± half of its {LEVEL:.0%} interval, which covers seeds and examples,"
        yield (
            f"Scores are x100{'' if fractions else ', but for those marked as is'}: mean{half} over n runs, which "
            "differ in their seed."
        )
        if any(column.reason is None for column in columns):
            some = any(standing.best for standing in standings)
            bold = " Bold: in the best tie group of a column where some method is not." if some else ""
            yield (
                "In brackets the ranks that a method may have, after paired comparisons of all methods, corrected by "
                f"Holm at {1 - LEVEL:.0%} within a column.{bold}"
            )
        if self._ranking.average:
            yield (
                f"The average is over all {len(self._ranking.columns)} tasks of this table; "
                f"{NOTHING} where a row lacks a score on any of them."
            )
        elif len(self._factors) > 1 and self._ranking.no_average:
            yield self._ranking.no_average
        if self._ranking.named:
            names = ", ".join(name for name in self._averages if name != "average")
            yield (
                f"Averages that papers know by name: {names}; over the tasks of that name alone, {NOTHING} where a row "
                "lacks a score on any of them."
            )
        yield from self._ranking.no_named
        yield from _no_intervals(self._ranking)
        for (task, _), column in self._ranking.columns.items():
            if column.reason is not None and len(column.standings) > 1:
                yield f"No ranks on {task}: {column.reason}."


def _no_intervals(ranking: Ranking) -> Iterator[str]:
    """Yield the reasons that are not plain from n."""
    concerned: dict[str, list[str]] = {}
    for (task, _), column in ranking.columns.items():
        for name, standing in column.standings.items():
            reason = standing.estimate.reason
            if reason is not None and not reason.startswith("n = "):
                concerned.setdefault(reason, []).append(f"{name} on {task}")
    for reason, places in concerned.items():
        listed = ", ".join(places[:4]) + (f" and {len(places) - 4} more" if len(places) > 4 else "")
        yield f"No interval of {listed}: {reason}."


def _score(cell: Any, factor: int, standing: Standing | None) -> str:
    if standing is None:
        failed, count = str(cell["failed"]), cell["n_failed"]
        # What no seed can change is not counted.
        return failed.removeprefix(f"{count} ") if count == 1 or failed == f"{count} skipped" else failed
    return f"{_mean(standing, factor)} (n={cell['n_ok']}{', ' if cell['failed'] else ''}{cell['failed']})"


def _mean(standing: Standing, factor: int) -> str:
    places = 1 if factor == 100 else 2
    found = standing.estimate
    text = f"{factor * found.mean:z.{places}f}"
    if found.interval is not None:
        text += f" ± {factor * (found.interval.high - found.mean):.{places}f}"
    return text if standing.ranks is None else f"{text} [{standing.ranks}]"


@dataclass(frozen=True)
class _Average:
    """A column of averages, and what its numbers are shown times."""

    column: Column
    factor: int

    def is_best(self, name: str) -> bool:
        return name in self.column.standings and self.column.standings[name].best

    def text(self, name: str) -> str:
        standing = self.column.standings.get(name)
        return _mean(standing, self.factor) if standing else NOTHING


def _averages(ranking: Ranking) -> dict[str, _Average]:
    """Return the averages of a leaderboard by the heads of their columns."""
    columns = {"average": ranking.average} if ranking.average else {}
    columns |= {f"{family}: {name}": column for (family, name), column in ranking.named.items()}
    found = {}
    for head, column in columns.items():
        means = [standing.estimate.mean for standing in column.standings.values()]
        factor = scale(pd.Series(means, dtype="float64"))
        found[head if factor == 100 else f"{head} (as is)"] = _Average(column, factor)
    return found


def _costs(rows: list[pd.DataFrame], budgeted: bool) -> Table:
    share = [("of budget", "of_budget", _share)] if budgeted else []
    shown: list[tuple[str, str, Callable[[Any], str]]] = [
        ("reported", "ledger/reported", _count),
        *share,
        ("trainable", "ledger/trainable", _count),
        ("optimised", "ledger/optimised", _count),
        ("frozen", "ledger/frozen", _count),
        ("stored (bytes)", "ledger/stored_bytes", _count),
        ("head", "ledger/head", _count),
        ("train (s/step)", "train_seconds_per_step", lambda value: f"{value:.3g}"),
        ("process memory (GiB)", "peak_process_bytes", _gibibytes),
        ("device memory (GiB)", "peak_device_bytes", _gibibytes),
    ]
    body = tuple((str(row["row"].iloc[0]), *(_span(row[column], form) for _, column, form in shown)) for row in rows)
    return Table(("method", *(head for head, _, _ in shown)), body)


def _over_tasks(names: list[str], ranking: Ranking) -> Table:
    averages = _averages(ranking)
    body = []
    for name in names:
        middle = ranking.interquartile.get(name)
        text = f"{100 * middle.value:z.1f}" if middle and middle.value is not None else NOTHING
        if middle and middle.interval:
            text += f" [{100 * middle.interval.low:z.1f}, {100 * middle.interval.high:z.1f}]"
        rank = ranking.over_tasks.mean_ranks.get(name)
        texts = (average.text(name) for average in averages.values())
        body.append((name, *texts, text, NOTHING if rank is None else f"{rank:.2f}"))
    best = {
        (number, place)
        for number, name in enumerate(names)
        for place, average in enumerate(averages.values(), start=1)
        if average.is_best(name)
    }
    return Table(("method", *averages, "interquartile mean", "mean rank"), tuple(body), frozenset(best))


def _over_tasks_notes(ranking: Ranking) -> Iterator[str]:
    if ranking.no_average:
        yield ranking.no_average
    unranked = _grouped((average.column.reason, head) for head, average in _averages(ranking).items())
    for reason, heads in unranked.items():
        yield f"No ranks by {', '.join(heads)}: {reason}."
    over = ranking.over_tasks
    if ranking.incomplete:
        yield f"Not ranked over tasks, for want of a score on some of them: {', '.join(ranking.incomplete)}."
    if over.reason is None and over.critical_difference is not None:
        yield (
            f"Friedman's test over {len(over.tasks)} tasks: chi-squared {over.statistic:.2f}, p = {over.p_value:.3g}. "
            f"Mean ranks that differ by less than {over.critical_difference:.2f} are not told apart (Nemenyi, "
            f"{over.alpha:.0%})."
        )
    else:
        yield f"No Friedman or Nemenyi test: {over.reason}."
    without = _grouped((one.reason, name) for name, one in ranking.interquartile.items() if one.interval is None)
    for reason, names in without.items():
        yield f"No interval of the interquartile mean of {', '.join(names)}: {reason}."
    if any(one.interval for one in ranking.interquartile.values()):
        yield (
            f"Interquartile mean: of the middle half of all scores, with a {LEVEL:.0%} bootstrap interval over seeds, "
            "for these tasks."
        )


def _grouped(pairs: Iterable[tuple[str | None, str]]) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for reason, name in pairs:
        if reason is not None:
            found.setdefault(reason, []).append(name)
    return found


def _wins(names: list[str], counts: pd.DataFrame) -> Table:
    texts: dict[tuple[str, str], str] = {}
    for _, pair in counts.iterrows():
        untested = f" ({pair['untested']} untested)" if pair["untested"] else ""
        texts[pair["method"], pair["opponent"]] = f"{pair['wins']}/{pair['ties']}/{pair['losses']}{untested}"
    return Table(
        ("method", *(f"against {name}" for name in names)),
        tuple((name, *(texts.get((name, other), NOTHING) for other in names)) for name in names),
    )


def _span(values: pd.Series[Any], form: Callable[[Any], str]) -> str:
    """Return the lowest and highest value over the tasks, or the one there is."""
    known = [value for value in values.tolist() if not pd.isna(value)]
    if not known:
        return NOTHING
    low, high = form(min(known)), form(max(known))
    return low if low == high else f"{low} to {high}"


def _count(value: Any) -> str:
    return f"{int(value):,}"


def _share(value: Any) -> str:
    return f"{value:.1%}{' OVER' if value > 1 else ''}"


def _gibibytes(value: Any) -> str:
    return f"{int(value) / 2**30:.2f}"


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
