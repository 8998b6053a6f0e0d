"""What each comparison of a leaderboard could have seen."""

from __future__ import annotations

from parbench.reports.ranking import Ranking
from parbench.reports.statistics import Comparison
from parbench.reports.statistics.power import POWER
from parbench.reports.tables import NOTHING, Table
from parbench.tasks.metrics.units import Unit

DETECTABLE_NOTE = (
    f"The smallest true difference that the test of a pair finds in {POWER:.0%} of cases, at 5 %, not corrected for "
    "other comparisons, with this spread over seeds and examples. A pair that is not told apart may differ by as much; "
    f"{NOTHING} where nothing could be tested."
)
# With more pairs only those with the baseline are listed; the file of comparisons has all.
_MOST_PAIRS = 45


def detectable_table(ranking: Ranking, baseline: str | None) -> Table:
    """Return pairs of rows against tasks; those with the baseline come first. No rows where nothing was tested.

    Args:
        ranking: of the leaderboard.
        baseline: one of its rows, if any has a score.
    """
    found: dict[tuple[str, str], dict[tuple[str, str], str]] = {}
    for key, column in ranking.columns.items():
        for pair in column.comparisons:
            names = (pair.b, pair.a) if pair.b == baseline else (pair.a, pair.b)
            found.setdefault(names, {})[key] = _text(pair, column.unit)
    if all(text == NOTHING for texts in found.values() for text in texts.values()):
        return Table(("pair",), ())
    with_baseline = [names for names in found if names[0] == baseline]
    others = [names for names in found if names[0] != baseline]
    pairs = [*with_baseline, *others] if len(found) <= _MOST_PAIRS or not with_baseline else with_baseline
    heads = [f"{column} ({metric}{ranking.columns[column, metric].unit.mark})" for column, metric in ranking.columns]
    rows = [
        (f"{first} and {second}", *(found[first, second].get(key, NOTHING) for key in ranking.columns))
        for first, second in pairs
    ]
    return Table(("pair", *heads), tuple(rows))


def _text(pair: Comparison, unit: Unit) -> str:
    return NOTHING if pair.detectable is None else unit.text(pair.detectable)
