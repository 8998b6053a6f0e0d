"""The row of a method that has one setting on some tasks and several on others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence

import pandas as pd


class Column(dict[str, tuple[int, str]]):
    """The settings of a method on one task by id, each with its number of seeds and the time of its first run."""

    @classmethod
    def of(cls, runs: pd.DataFrame) -> Column:
        """Return the settings of the runs of a method on one task.

        Args:
            runs: with ``setting_id``, ``seed`` and ``started``.
        """
        grouped = runs.groupby("setting_id", sort=False)
        seeds, started = grouped["seed"].nunique(), grouped["started"].min().fillna("~")
        return cls({str(one): (int(seeds[one]), str(started[one])) for one in seeds.index})


def main_row(columns: Sequence[Column], places: Mapping[str, tuple[str, Hashable]]) -> set[tuple[int, str]]:
    """Return the settings of a row that one hyper-parameter of its own per task must not tear apart.

    Where each task has its own learning rate, a second rate on one of them would make each rate a row, with one task
    each. Then one setting of every task makes one row, as it would without the second: of several the one that most
    tasks with only one have, then the one with the most seeds, then the one that was run first. No score has a part in
    it.

    It is empty where a row per value tears nothing: where there are no more rows than some task has settings, or every
    task has several.

    Args:
        columns: the settings of the method on each task.
        places: of each setting the precision of its base weights, and the row that its values give it.

    Returns:
        The number of the column and the id, of each setting.
    """
    found: set[tuple[int, str]] = set()
    for precision in dict.fromkeys(one for one, _ in places.values()):
        own = [[setting for setting in column if places[setting][0] == precision] for column in columns]
        rows = {places[setting][1] for settings in own for setting in settings}
        if len(rows) == max(map(len, own)) or not any(len(settings) == 1 for settings in own):
            continue
        tasks = Counter(places[settings[0]][1] for settings in own if len(settings) == 1)
        for number, settings in enumerate(own):
            if settings:
                found.add((number, min(settings, key=lambda one: _order(one, columns[number], tasks, places))))
    return found


def _order(
    setting: str, column: Column, tasks: Counter[Hashable], places: Mapping[str, tuple[str, Hashable]]
) -> tuple[int, int, str, str]:
    seeds, started = column[setting]
    return -tasks[places[setting][1]], -seeds, started, repr(places[setting][1])


def main_row_note(cells: pd.DataFrame) -> Iterator[str]:
    """Yield a sentence where rows of a leaderboard were put together by `main_row`.

    Args:
        cells: the summary of one leaderboard.
    """
    rows = cells.drop_duplicates("row")
    kinds = rows.groupby(["method", "base_precision"])["row"].transform("nunique")
    # A row per value has the value in its name.
    bare = rows["row"].isin([*rows["method"], *(rows["method"] + " (base=" + rows["base_precision"] + ")")])
    if found := [str(row) for row in rows.loc[bare & (kinds > 1), "row"]]:
        yield (
            f"Of several settings on a task, the row of {', '.join(found)} has the one that most tasks with only one "
            "have, then the one with the most seeds, then the one that was run first; the others are rows of their own."
        )
