"""Each method's paired difference to the baseline, task by task, in the order of mean ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from parbench.reports.columns import Column
from parbench.reports.constant import DID_NOT_LEARN
from parbench.reports.ranking import Ranking
from parbench.reports.scored import LEVEL

Verdict = Literal["baseline", "better", "worse", "open"]


@dataclass(frozen=True)
class Difference:
    """A row minus the baseline on one task.

    Attributes:
        row: of the leaderboard.
        value: the difference, in the metric's unit; ``None`` where ``note`` says why.
        interval: its ends, not corrected for other comparisons; ``None`` where there is none.
        verdict: whether the row is shown to be better or worse, after correction; ``open`` where neither is.
        ranks: the ranks that the row may have on the task, such as ``1-3``; empty where there are none.
        is_unbeaten: whether no row is shown to be better on the task, where there are ranks.
        note: why there is no difference, else empty.
    """

    row: str
    value: float | None
    interval: tuple[float, float] | None
    verdict: Verdict
    ranks: str
    is_unbeaten: bool
    note: str


def differences_on(column: Column | None, rows: Sequence[str], baseline: str) -> list[Difference]:
    """Return the difference of each row to the baseline on a task.

    Args:
        column: the task's; ``None`` where no row has a score.
        rows: their order is that of the result.
        baseline: one of them.
    """
    return [_difference(column, row, baseline) for row in rows]


def _difference(column: Column | None, row: str, baseline: str) -> Difference:
    standing = column.standings.get(row) if column else None
    if column is None or standing is None:
        return Difference(row, None, None, "open", "", False, "no score")
    if not standing.learnt:
        return Difference(row, None, None, "open", "", False, DID_NOT_LEARN)
    ranks = str(standing.ranks) if standing.ranks else ""
    unbeaten = standing.ranks is not None and standing.ranks.best == 1
    if row == baseline:
        return Difference(row, 0.0, None, "baseline", ranks, unbeaten, "")
    for pair in column.comparisons:
        if {pair.a, pair.b} == {row, baseline}:
            sign = 1 if pair.a == row else -1
            ends = sorted((sign * pair.interval.low, sign * pair.interval.high)) if pair.interval else None
            better = pair.better(1 - LEVEL)
            verdict: Verdict = "open" if better is None else "better" if better == row else "worse"
            interval = (ends[0], ends[1]) if ends else None
            return Difference(row, sign * pair.difference, interval, verdict, ranks, unbeaten, "")
    return Difference(row, None, None, "open", ranks, unbeaten, "baseline has no rank")


def rows_by_rank(rows: Sequence[str], ranking: Ranking) -> list[str]:
    """Return the rows in the order of their mean rank over the tasks on which they learnt.

    A rank is taken as a share of the rows that learnt on the task, so that few rows there are no advantage. Rows
    without any rank come last, in the given order.
    """
    shares: dict[str, list[float]] = {row: [] for row in rows}
    for column in ranking.columns.values():
        for row, share in rank_shares(column).items():
            shares[row].append(share)
    means = {row: sum(found) / len(found) for row, found in shares.items() if found}
    return sorted(rows, key=lambda row: (row not in means, means.get(row, 0.0), rows.index(row)))


def rank_shares(column: Column) -> Mapping[str, float]:
    """Return for each row that learnt the share of the others that are above it, ties counting half."""
    means = {row: standing.estimate.mean for row, standing in column.standings.items() if standing.learnt}
    above = {row: sum(other > mean for other in means.values()) for row, mean in means.items()}
    level = {row: sum(other == mean for other in means.values()) - 1 for row, mean in means.items()}
    return {row: (above[row] + level[row] / 2) / max(1, len(means) - 1) for row in means}
