"""What following a recommendation would have cost: each task is left out, and recommended for from the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from parbench.reports.cost_ratios import BASELINE
from parbench.reports.recommend.evidence import Evidence
from parbench.reports.recommend.quality import quality
from parbench.reports.scored import LEVEL
from parbench.reports.statistics import Comparison, Estimate, Scores, estimate

# Regrets on accuracies and other shares have one scale, and a mean.
_POINTS = 100


@dataclass(frozen=True)
class LeftOutTask:
    """One task, recommended for without it.

    Attributes:
        evidence: the task that was left out.
        tasks: number of tasks that the recommendation is from.
        same_kind: whether they are of its kind.
        recommended: the row that was recommended first; ``None`` where ``reason`` says why there is none.
        best: the row with the best mean on the task.
        regret: the best mean less that of the recommended row, in the metric's unit.
        comparison: of the two, paired and corrected with the others of the task; ``None`` where they are the same.
        baseline: the regret of always taking LoRA; ``None`` where it has no score here.
        any_method: the regret of a method taken at random.
        reason: why nothing was recommended, or ``None``.
    """

    evidence: Evidence
    tasks: int
    same_kind: bool
    recommended: str | None
    best: str
    regret: float | None
    comparison: Comparison | None
    baseline: float | None
    any_method: float
    reason: str | None

    @property
    def is_shown_worse(self) -> bool:
        """Whether some method is shown to be better than the recommended one on the task."""
        pairs = (pair.better(1 - LEVEL) for pair in self.evidence.column.comparisons if self.recommended in _of(pair))
        return any(better is not None and better != self.recommended for better in pairs)


@dataclass(frozen=True)
class Validation:
    """Recommendations for tasks that were left out.

    Attributes:
        tasks: each of them.
        regret: mean over the tasks with a scale in points; ``None`` where there is none.
        baseline: that of always taking LoRA, on the same tasks.
        any_method: that of a method taken at random.
    """

    tasks: tuple[LeftOutTask, ...]
    regret: Estimate | None
    baseline: Estimate | None
    any_method: Estimate | None


def validate(evidence: Sequence[Evidence]) -> Validation:
    """Leave out each task in turn, with all base models, and recommend for it from the others."""
    tasks = tuple(_leave_out(one, evidence) for one in evidence if len(one.column.standings) > 1)
    counted = [one for one in tasks if one.regret is not None and one.evidence.column.unit.factor == _POINTS]
    with_baseline = [one.baseline for one in counted if one.baseline is not None]
    return Validation(
        tasks,
        _mean([one.regret for one in counted if one.regret is not None]),
        _mean(with_baseline) if len(with_baseline) == len(counted) else None,
        _mean([one.any_method for one in counted]),
    )


def _leave_out(left_out: Evidence, evidence: Sequence[Evidence]) -> LeftOutTask:
    means = {row: standing.estimate.mean for row, standing in left_out.column.standings.items()}
    best = max(means, key=lambda row: (means[row], row))
    others = [one for one in evidence if one.task != left_out.task]
    found = quality(others, left_out.task, left_out.base_model, left_out.kind)
    row = next((row for row in found.rows if row in means), None) if found else None
    reason = None
    if row is None:
        reason = "no method of it was run on another task" if found else "nothing is known from other tasks"
    pair = next((pair for pair in left_out.column.comparisons if {row, best} == _of(pair)), None)
    return LeftOutTask(
        left_out,
        len(found.evidence) if found else 0,
        bool(found) and all(one.kind == left_out.kind for one in found.evidence) if found else False,
        row,
        best,
        None if row is None else means[best] - means[row],
        pair,
        means[best] - means[BASELINE] if BASELINE in means else None,
        means[best] - sum(means.values()) / len(means),
        reason,
    )


def _of(pair: Comparison) -> set[str]:
    return {pair.a, pair.b}


def _mean(regrets: Sequence[float]) -> Estimate | None:
    """Return the mean over tasks with a t interval, the tasks taken for a sample of those that there are."""
    if not regrets:
        return None
    places = tuple(range(len(regrets)))
    scores = Scores("regret", places, np.array(regrets), np.zeros((1, len(regrets))), max(1, len(regrets) - 1))
    return estimate(scores, LEVEL)
