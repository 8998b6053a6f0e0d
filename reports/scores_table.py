"""Methods against tasks: the table of scores with its tie groups, and the averages beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from parbench.reports.columns import Column, Standing
from parbench.reports.conditions import DAGGER, UNTUNED_NOTE
from parbench.reports.constant import DID_NOT_LEARN
from parbench.reports.costs_table import count_range
from parbench.reports.ranking import Ranking
from parbench.reports.rows import COLUMN
from parbench.reports.scored import LEVEL
from parbench.reports.tables import NOT_RUN, NOTHING, Table, unit_of, with_interval
from parbench.tasks.metrics.units import Unit


class ScoresTable:
    """Methods against tasks, as mean ± half an interval, with tie groups."""

    def __init__(self, cells: pd.DataFrame, ranking: Ranking) -> None:
        self._ranking = ranking
        self._has_untuned = bool(cells["untuned"].any())
        self._averages = averages_of(ranking)
        self._units = {(str(task), str(metric)): unit_of(part) for (task, metric), part in cells.groupby(COLUMN)}

    def table(self, rows: list[pd.DataFrame]) -> Table:
        """Return the table; ``rows`` are the cells of each of its rows."""
        heads = [f"{task} ({metric}{unit.mark})" for (task, metric), unit in self._units.items()]
        body, bold = [], set()
        for number, row in enumerate(rows):
            name = str(row["row"].iloc[0])
            by_column = {(cell["column"], cell["metric"]): cell for _, cell in row.iterrows()}
            texts = [name, count_range(row["ledger/reported"])]
            for key, unit in self._units.items():
                column = self._ranking.columns.get(key)
                standing = column.standings.get(name) if column else None
                if standing and standing.best:
                    bold.add((number, len(texts)))
                texts.append(_score(by_column[key], unit, standing) if key in by_column else NOT_RUN)
            for average in self._averages.values():
                if average.is_best(name):
                    bold.add((number, len(texts)))
                texts.append(average.text(name) + (DAGGER if row["untuned"].any() and average.has(name) else ""))
            body.append(tuple(texts))
        return Table(("method", "parameters", *heads, *self._averages), tuple(body), frozenset(bold))

    def notes(self) -> Iterator[str]:
        """Yield how to read the table."""
        units = [*self._units.values(), *(average.column.unit for average in self._averages.values())]
        fractions = {unit.factor for unit in units} == {100}
        columns = [*self._ranking.columns.values(), *(average.column for average in self._averages.values())]
        standings = [standing for column in columns for standing in column.standings.values()]
        half = ""
        if any(standing.estimate.interval is not None for standing in standings):
            half = (
                f" ± the distance to the ends of its {LEVEL:.0%} interval (-a/+b where they differ), which covers "
                "seeds and examples,"
            )
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
                f"{NOTHING} where a row lacks a score on any of them or did not learn on it."
            )
        elif len(self._units) > 1 and self._ranking.no_average:
            yield self._ranking.no_average
        if self._ranking.named:
            names = ", ".join(name for name in self._averages if name != "average")
            yield (
                f"Averages that papers know by name: {names}; over the tasks of that name alone, {NOTHING} where a row "
                "lacks a score on any of them."
            )
        yield from self._ranking.no_named
        if self._has_untuned:
            yield UNTUNED_NOTE
        yield from _unlearnt(self._ranking)
        yield from _no_intervals(self._ranking)
        for (task, _), column in self._ranking.columns.items():
            if column.reason is not None and len(column.standings) > 1:
                yield f"No ranks on {task}: {column.reason}."


@dataclass(frozen=True)
class AverageColumn:
    """A column of averages."""

    column: Column

    def has(self, name: str) -> bool:
        """Return whether there is an average of a row."""
        return name in self.column.standings

    def is_best(self, name: str) -> bool:
        """Return whether a row is set in bold."""
        return name in self.column.standings and self.column.standings[name].best

    def text(self, name: str) -> str:
        """Return a row's average as text."""
        standing = self.column.standings.get(name)
        return _mean(standing, self.column.unit) if standing else NOTHING


def averages_of(ranking: Ranking) -> dict[str, AverageColumn]:
    """Return the averages of a leaderboard by the heads of their columns."""
    columns = {"average": ranking.average} if ranking.average else {}
    columns |= {f"{family}: {name}": column for (family, name), column in ranking.named.items()}
    return {
        head if column.unit.factor == 100 else f"{head} (as is)": AverageColumn(column)
        for head, column in columns.items()
    }


def _unlearnt(ranking: Ranking) -> Iterator[str]:
    for (task, _), column in ranking.columns.items():
        rows = [row for row, standing in column.standings.items() if not standing.learnt]
        if rows and column.constant is not None:
            yield (
                f"On {task} a constant prediction scores {column.unit.text(column.constant)}. Not better with "
                f"confidence, so marked as {DID_NOT_LEARN} and in no rank, comparison or average: {', '.join(rows)}."
            )


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


def _score(cell: Any, unit: Unit, standing: Standing | None) -> str:
    if standing is None:
        failed, count = str(cell["failed"]), cell["n_failed"]
        # What no seed can change is not counted.
        return failed.removeprefix(f"{count} ") if count == 1 or failed == f"{count} skipped" else failed
    remarks = [f"n={cell['n_ok']}", *([cell["failed"]] if cell["failed"] else [])]
    remarks += [] if standing.learnt else [DID_NOT_LEARN]
    return f"{_mean(standing, unit)}{DAGGER if cell['untuned'] else ''} ({', '.join(remarks)})"


def _mean(standing: Standing, unit: Unit) -> str:
    found = standing.estimate
    ends = (found.interval.low, found.interval.high) if found.interval else (None, None)
    text = with_interval(unit, found.mean, *ends)
    return text if standing.ranks is None else f"{text} [{standing.ranks}]"
