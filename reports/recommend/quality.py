"""How good methods are on a task: as measured on it, or as their ranks on other tasks let expect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from parbench.reports.attempt import NotComputed, attempt
from parbench.reports.differences import rank_shares
from parbench.reports.recommend.evidence import Evidence
from parbench.reports.scored import LEVEL
from parbench.reports.statistics import TaskRanking, no_ranking, rank_over_tasks
from parbench.tasks.base import Kind

Basis = Literal["measured", "extrapolated"]
# A row can be judged over tasks from so many of them; of one task its own comparisons count.
_SEVERAL = 2


@dataclass(frozen=True)
class Quality:
    """How good the rows are, best first.

    Attributes:
        basis: whether it was measured on the task itself.
        values: by row, larger is better: the mean score, or the mean share of the other rows that it is above.
        evidence: what it is from.
        better: by pair of rows, whether the first is shown to be better than the second; pairs that were not shown to
            differ are not in it.
        over_tasks: ranks over the tasks, where there are several.
        on_tasks: by row, on how many of the tasks it learnt.
        why_not_told: why nothing could be shown, or ``None``.
    """

    basis: Basis
    values: Mapping[str, float]
    evidence: tuple[Evidence, ...]
    better: frozenset[tuple[str, str]]
    over_tasks: TaskRanking
    on_tasks: Mapping[str, int]
    why_not_told: str | None

    @property
    def rows(self) -> tuple[str, ...]:
        """The rows, best first."""
        return tuple(sorted(self.values, key=lambda row: (-self.values[row], row)))

    def is_shown_worse(self, row: str) -> bool:
        """Return whether some row is shown to be better than this one."""
        return any(worse == row for _, worse in self.better)

    def cell_of(self, row: str) -> tuple[Evidence, pd.Series[Any]]:
        """Return the summary of a row on the first task that has it, and that task."""
        return next((one, one.cells[row]) for one in self.evidence if row in one.cells)


def quality(evidence: Sequence[Evidence], task: str, base_model: str, kind: Kind | None) -> Quality | None:
    """Return how good methods are on a task with a base model; ``None`` where nothing is known of two of them.

    What was measured on the task with the base model counts alone. Else the tasks of the same kind count, whatever the
    base model, and where there are none those of other kinds.

    Args:
        evidence: all there is.
        task: its name.
        base_model: its name, as in records.
        kind: of the task's model.
    """
    own = [one for one in evidence if (one.task, one.base_model) == (task, base_model)]
    alike = [one for one in evidence if kind is not None and one.kind == kind]
    for part in (own, alike, list(evidence)):
        found = _of(part, "measured" if part is own else "extrapolated")
        if found is not None and len(found.values) > 1:
            return found
    return None


def _of(evidence: Sequence[Evidence], basis: Basis) -> Quality | None:
    usable = tuple(one for one in evidence if len(one.learnt) > 1)
    if not usable:
        return None
    counts: dict[str, int] = {}
    for one in usable:
        for row in one.learnt:
            counts[row] = counts.get(row, 0) + 1
    if len(usable) < _SEVERAL:
        (one,) = usable
        values = {row: one.column.standings[row].estimate.mean for row in one.learnt}
        return Quality(basis, values, usable, _shown_on(one), no_ranking("one task"), counts, one.column.reason)
    shares: dict[str, list[float]] = {}
    for one in usable:
        for row, share in rank_shares(one.column).items():
            shares.setdefault(row, []).append(1 - share)
    values = {row: sum(found) / len(found) for row, found in shares.items()}
    ranking = _over_tasks(usable, counts)
    return Quality(basis, values, usable, _shown_over(ranking), ranking, counts, ranking.reason)


def _shown_on(one: Evidence) -> frozenset[tuple[str, str]]:
    pairs = ((pair, pair.better(1 - LEVEL)) for pair in one.column.comparisons)
    return frozenset((better, pair.b if better == pair.a else pair.a) for pair, better in pairs if better is not None)


def _over_tasks(evidence: Sequence[Evidence], counts: Mapping[str, int]) -> TaskRanking:
    """Return the ranks of the rows that learnt on every task: Friedman's test compares complete cases."""
    rows = [row for row, count in counts.items() if count == len(evidence)]
    means = pd.DataFrame(
        {row: [one.column.standings[row].estimate.mean for one in evidence] for row in rows},
        index=[one.name for one in evidence],
    )
    found = attempt(lambda: rank_over_tasks(means, 1 - LEVEL))
    return no_ranking(found.reason) if isinstance(found, NotComputed) else found


def _shown_over(ranking: TaskRanking) -> frozenset[tuple[str, str]]:
    """Return the pairs that Nemenyi's test tells apart, of a family that Friedman's does not take for equal."""
    if ranking.nemenyi is None or ranking.p_value is None or ranking.p_value > ranking.alpha:
        return frozenset()
    ranks = ranking.mean_ranks
    return frozenset(
        (a, b)
        for a in ranks
        for b in ranks
        if ranks[a] < ranks[b] and float(ranking.nemenyi.to_dict()[b][a]) <= ranking.alpha
    )
