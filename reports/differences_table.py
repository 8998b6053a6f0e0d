"""The differences of the methods of a leaderboard to its baseline, as a table."""

from __future__ import annotations

from parbench.reports.conditions import DAGGER
from parbench.reports.differences import Difference, differences_on
from parbench.reports.leaderboard import Leaderboard
from parbench.reports.rows import COLUMN
from parbench.reports.scored import LEVEL
from parbench.reports.tables import NOTHING, Table, unit_of
from parbench.tasks.metrics.units import Unit


def differences_table(board: Leaderboard) -> Table:
    """Return methods against tasks: each difference to the baseline with its interval; bold where it is shown."""
    rows = [row[0] for row in board.scores.rows]
    columns, heads = [], []
    for (name, metric), cells in board.cells.groupby(COLUMN):
        unit = unit_of(cells)
        untuned = set(cells.loc[cells["untuned"], "row"])
        found = differences_on(board.ranking.columns.get((str(name), str(metric))), rows, board.baseline or "")
        columns.append([(_text(one, unit) + (DAGGER if one.row in untuned else ""), one.verdict) for one in found])
        heads.append(f"{name} ({metric}{unit.mark})")
    body = tuple((row, *(column[place][0] for column in columns)) for place, row in enumerate(rows))
    bold = {
        (place, number)
        for number, column in enumerate(columns, start=1)
        for place, (_, verdict) in enumerate(column)
        if verdict in ("better", "worse")
    }
    return Table(("method", *heads), body, frozenset(bold))


def differences_note(board: Leaderboard) -> str:
    """Return how to read the table."""
    return (
        f"Mean minus that of {board.baseline}, x100 but for what is marked as is, paired by example and seed, with its "
        f"{LEVEL:.0%} interval. Bold: better or worse than {board.baseline}, corrected by Holm for all pairs of "
        "methods on the task."
    )


def _text(one: Difference, unit: Unit) -> str:
    if one.value is None:
        return one.note
    if one.verdict == "baseline":
        return NOTHING
    text = unit.text(one.value, sign=True)
    if one.interval is None:
        return text
    low, high = (unit.text(end, sign=True) for end in one.interval)
    return f"{text} [{low}, {high}]"
