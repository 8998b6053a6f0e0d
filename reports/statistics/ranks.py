"""Ranks that are no finer than the evidence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from parbench.reports.statistics.comparisons import Comparison


@dataclass(frozen=True)
class RankRange:
    """The ranks that a method may have; written ``1`` or ``1-3``."""

    best: int
    worst: int

    def __str__(self) -> str:
        return str(self.best) if self.best == self.worst else f"{self.best}-{self.worst}"


def rank_ranges(
    methods: Collection[str], comparisons: Iterable[Comparison], alpha: float = 0.05
) -> dict[str, RankRange]:
    """Return the ranks of each method that the corrected comparisons leave open.

    From 1 + the number of methods that are significantly better, to n - the number of those significantly worse. As the
    comparisons are corrected as a family, all ranges hold at once with a confidence of 1 - ``alpha`` (Mogstad, Romano,
    Shaikh and Wilhelm, "Inference for Ranks", Review of Economic Studies, doi 10.1093/restud/rdad006). A pair that
    could not be tested stays open.

    Args:
        methods: all that are ranked.
        comparisons: of `compare_all`; those with other methods are left aside.
        alpha: level of significance.
    """
    known = set(methods)
    above: Counter[str] = Counter()
    below: Counter[str] = Counter()
    for comparison in comparisons:
        better = comparison.better(alpha)
        if better is None or not known.issuperset((comparison.a, comparison.b)):
            continue
        below[better] += 1
        above[comparison.b if better == comparison.a else comparison.a] += 1
    return {method: RankRange(1 + above[method], len(known) - below[method]) for method in methods}


def win_tie_loss(tasks: Mapping[str, Iterable[Comparison]], alpha: float = 0.05) -> pd.DataFrame:
    """Count over tasks how often each method is significantly better, not known to differ, or worse than each other.

    Args:
        tasks: the comparisons of `compare_all` by task.
        alpha: level of significance, within a task.

    Returns:
        One row a pair, both ways round: ``method``, ``opponent``, ``wins``, ``ties``, ``losses``, and ``untested``, the
        tasks on which there was no test of the two. The four add up to the number of tasks that have the pair.
    """
    columns = ["method", "opponent", "wins", "ties", "losses", "untested"]
    counts: dict[tuple[str, str], Counter[str]] = {}
    for comparison in (comparison for comparisons in tasks.values() for comparison in comparisons):
        better = comparison.better(alpha)
        for method, opponent in ((comparison.a, comparison.b), (comparison.b, comparison.a)):
            if comparison.adjusted_p_value is None:
                outcome = "untested"
            else:
                outcome = {method: "wins", opponent: "losses", None: "ties"}[better]
            counts.setdefault((method, opponent), Counter())[outcome] += 1
    rows = [(*pair, *(count[name] for name in columns[2:])) for pair, count in sorted(counts.items())]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[2:], "int64"))
