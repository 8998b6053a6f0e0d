"""Is a difference above, below or within a margin? One-sided tests, and the two of an equivalence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import t

from parbench.reports.statistics.comparisons import spread_of_difference
from parbench.reports.statistics.estimates import Interval, VarianceComponents, is_zero, too_few
from parbench.reports.statistics.scores import Scores

Question = Literal["above", "not_below", "within"]
"""``above``: the difference is greater than the margin. ``not_below``: greater than minus the margin. ``within``: both
ends are, after Schuirmann ("A comparison of the two one-sided tests procedure and the power approach", 1987)."""


@dataclass(frozen=True)
class MarginTest:
    """The answer to a question about a difference.

    Attributes:
        difference: the first minus the second.
        interval: of the level at which an end beyond the margin and ``holds`` of at most 5 % are the same thing: 95 %
            for ``above``, whose p-values are those of the two-sided test, else 90 %; ``None`` where ``reason`` says
            why.
        holds: p-value of the hypothesis that it does not hold.
        fails: p-value of the hypothesis that it does.
        reason: a sentence, or ``None``.
    """

    difference: float
    interval: Interval | None
    holds: float | None
    fails: float | None
    reason: str | None = None


def margin_test(a: Scores, b: Scores, question: Question, margin: float = 0.0) -> MarginTest:
    """Test a difference of two methods' mean scores against a margin, with the variance of `compare_scores`.

    Args:
        a: of one call of `score_runs`.
        b: of the same call.
        question: what is asked of the first minus the second.
        margin: 0 or more, in the metric's unit.
    """
    difference = float(a.by_seed.mean() - b.by_seed.mean())
    reason = too_few(min(len(a.seeds), len(b.seeds))) or a.reason or b.reason
    if reason is not None:
        return MarginTest(difference, None, None, None, reason)
    spread = spread_of_difference(a, b)
    if is_zero(spread, np.concatenate([a.by_seed, b.by_seed])):
        reason = "all runs differ by the same: there is no variation to judge by"
        return MarginTest(difference, None, None, None, reason)
    return _answered(difference, spread, question, margin)


def ratio_test(ratios: Sequence[float], most: float) -> MarginTest:
    """Test whether a ratio of two costs is at most ``most``, by a t test of its logarithm.

    The interval is of 90 %, and of the ratio, as is ``difference``: the geometric mean.

    Args:
        ratios: one per seed, positive.
        most: the largest ratio for which the claim holds.
    """
    logs = np.log(np.asarray(ratios, dtype="float64"))
    mean = float(logs.mean()) if len(logs) else float("nan")
    reason = too_few(len(logs))
    if reason is not None:
        return MarginTest(float(np.exp(mean)), None, None, None, reason)
    error = float(logs.std(ddof=1)) / np.sqrt(len(logs))
    if error <= 1e-12:
        return MarginTest(float(np.exp(mean)), None, None, None, "all runs have the same ratio of costs")
    degrees = len(logs) - 1
    half = float(t.isf(0.05, degrees)) * error
    interval = Interval(float(np.exp(mean - half)), float(np.exp(mean + half)), 0.9)
    below = float(t.cdf((mean - np.log(most)) / error, degrees))
    return MarginTest(float(np.exp(mean)), interval, below, 1 - below)


def _answered(difference: float, spread: VarianceComponents, question: Question, margin: float) -> MarginTest:
    level = 0.95 if question == "above" else 0.9
    half = spread.half_width(level)
    interval = Interval(difference - half, difference + half, level)
    if question == "above":
        holds = min(1.0, 2 * _upper(spread, difference - margin))
        fails = min(1.0, 2 * _upper(spread, margin - difference))
    elif question == "not_below":
        holds, fails = _upper(spread, difference + margin), _upper(spread, -margin - difference)
    else:
        holds = max(_upper(spread, difference + margin), _upper(spread, margin - difference))
        fails = min(1.0, 2 * min(_upper(spread, difference - margin), _upper(spread, -margin - difference)))
    return MarginTest(difference, interval, holds, fails)


def _upper(spread: VarianceComponents, distance: float) -> float:
    """Return the one-sided p-value of a distance above 0."""
    two_sided = spread.p_value(distance)
    return two_sided / 2 if distance > 0 else 1 - two_sided / 2
