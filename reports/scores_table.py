"""Methods against tasks: the table of scores with its tie groups, and the averages beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from parbench.reports.costs_table import count_range
from parbench.reports.ranking import LEVEL, Column, Ranking, Standing
from parbench.reports.rows import COLUMN
from parbench.reports.tables import NOT_RUN, NOTHING, Table, scale


class ScoresTable:
    """Methods against tasks, as mean ± half an interval, with tie groups."""

    def __init__(self, cells: pd.DataFrame, ranking: Ranking) -> None:
        self._ranking = ranking
        self._averages = averages_of(ranking)
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
            texts = [name, count_range(row["ledger/reported"])]
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


@dataclass(frozen=True)
class Average:
    """A column of averages, and what its numbers are shown times."""

    column: Column
    factor: int

    def is_best(self, name: str) -> bool:
        """Return whether a row is set in bold."""
        return name in self.column.standings and self.column.standings[name].best

    def text(self, name: str) -> str:
        """Return a row's average as text."""
        standing = self.column.standings.get(name)
        return _mean(standing, self.factor) if standing else NOTHING


def averages_of(ranking: Ranking) -> dict[str, Average]:
    """Return the averages of a leaderboard by the heads of their columns."""
    columns = {"average": ranking.average} if ranking.average else {}
    columns |= {f"{family}: {name}": column for (family, name), column in ranking.named.items()}
    found = {}
    for head, column in columns.items():
        means = [standing.estimate.mean for standing in column.standings.values()]
        factor = scale(pd.Series(means, dtype="float64"))
        found[head if factor == 100 else f"{head} (as is)"] = Average(column, factor)
    return found


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
