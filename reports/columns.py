"""A column of a leaderboard: the estimate of each row, and the ranks that comparisons leave open."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from types import MappingProxyType

from parbench.reports.attempt import NotComputed, attempt
from parbench.reports.constant import has_learnt
from parbench.reports.scored import LEVEL, Scored, compare_pair, corrected
from parbench.reports.statistics import (
    Comparison,
    Estimate,
    NoiseFloor,
    RankRange,
    Scores,
    estimate,
    rank_ranges,
)
from parbench.tasks.metrics.units import Unit


@dataclass(frozen=True)
class Standing:
    """A row of a leaderboard in one column.

    Attributes:
        estimate: mean and interval.
        ranks: the ranks it may have; ``None`` where nothing in the column could be tested.
        best: whether it is in the best tie group of a column where some row is known not to be.
        learnt: whether it is above a constant prediction, see `parbench.reports.constant`; a row that is not takes no
            part in comparisons, ranks and averages.
    """

    estimate: Estimate
    ranks: RankRange | None
    best: bool
    learnt: bool = True


@dataclass(frozen=True)
class Column:
    """One column of a leaderboard: a task, or the average over all.

    Attributes:
        standings: by row, of those with a score.
        comparisons: of every pair of these rows, corrected by Holm.
        reason: why there are no ranks; ``None`` where there are.
        unit: of its scores.
        constant: what a constant prediction scores; ``None`` where that is not known.
    """

    standings: Mapping[str, Standing]
    comparisons: tuple[Comparison, ...]
    reason: str | None
    unit: Unit
    constant: float | None = None


def rank_column(
    scored: Mapping[str, Scored],
    unit: Unit,
    floor: NoiseFloor | None,
    apart: Mapping[str, Estimate] = MappingProxyType({}),
) -> Column:
    """Return a column; the estimates that stand ``apart`` can be compared with nothing."""
    estimates = {row: _estimate(entry.scores, unit) for row, entry in scored.items()} | dict(apart)
    learnt = {row: row not in scored or has_learnt(found, scored[row].constant) for row, found in estimates.items()}
    constant = max((one.constant for one in scored.values() if one.constant is not None), default=None)
    part = [entry for row, entry in scored.items() if learnt[row]]
    comparisons = corrected([compare_pair(a, b, floor, unit) for a, b in combinations(part, 2)])
    tested = {name for pair in comparisons if pair.p_value is not None for name in (pair.a, pair.b)}
    if not tested:
        reason = _why_untested(comparisons, apart.values(), all(learnt.values()))
        unranked = {row: Standing(found, None, False, learnt[row]) for row, found in estimates.items()}
        return Column(unranked, comparisons, reason, unit, constant)
    ranks = rank_ranges([row for row in estimates if learnt[row]], comparisons, 1 - LEVEL)
    bold = best_rows({row: found.mean for row, found in estimates.items() if row in ranks}, ranks, tested)
    standings = {row: Standing(found, ranks.get(row), row in bold, learnt[row]) for row, found in estimates.items()}
    return Column(standings, comparisons, None, unit, constant)


def _why_untested(comparisons: Iterable[Comparison], apart: Iterable[Estimate], all_learnt: bool) -> str:
    reasons = {pair.reason for pair in comparisons} | {found.reason for found in apart}
    known = sorted(reason for reason in reasons if reason)
    return "; ".join(known) or f"fewer than two methods {'have a score' if all_learnt else 'learnt'}"


def best_rows(means: Mapping[str, float], ranks: Mapping[str, RankRange], tested: Collection[str]) -> set[str]:
    """Return the rows to be set in bold: the best by its mean, and those shown to be close to it.

    A row is close to the best where no comparison shows that it is worse than any other, in a column where some row is
    shown to be worse. Nothing below a row that is not bold is: an untested row, or one with a wide interval, cannot
    stand out by what is not known of it.
    """
    if all(rank.best == 1 for rank in ranks.values()):
        return set()
    found: set[str] = set()
    for row in sorted(means, key=lambda row: -means[row]):
        if ranks[row].best > 1 or row not in tested:
            break
        found.add(row)
    return found


def _estimate(scores: Scores, unit: Unit) -> Estimate:
    found = attempt(lambda: estimate(scores, LEVEL, (unit.low, unit.high)))
    if isinstance(found, NotComputed):
        return Estimate(float(scores.by_seed.mean()), len(scores.seeds), None, None, found.reason)
    return found
