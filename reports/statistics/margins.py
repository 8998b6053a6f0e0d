"""Is a difference above, below or within a margin? One-sided tests, and the two of an equivalence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import t

from parbench.reports.statistics.comparisons import is_nothing, spread_of_difference
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
    values = np.concatenate([a.by_seed, b.by_seed])
    if is_zero(spread, values):
        if is_nothing(difference, values):
            return _of_the_same(question, margin)
        reason = "all runs differ by the same: there is no variation to judge by"
        return MarginTest(difference, None, None, None, reason)
    return _answered(difference, spread, question, margin)


def _of_the_same(question: Question, margin: float) -> MarginTest:
    """Return the answer where both score the same in every run, on whatever examples: there is nothing to estimate."""
    if question == "above":
        return MarginTest(0.0, None, 1.0, 0.0 if margin > 0 else 1.0)
    return MarginTest(0.0, None, 0.0, 1.0)


def ratio_test(ratios: Sequence[float], most: float) -> MarginTest:
    """Test whether a ratio of two costs is at most ``most``, by a t test of its logarithm.

    The interval is of 90 %, and of the ratio, as is ``difference``: the geometric mean. A ratio that is the same for
    every seed, as of bytes that are counted, is exact: its p-values are 0 and 1, and it has no interval.

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
        return exact_ratio(float(np.exp(mean)), most)
    degrees = len(logs) - 1
    half = float(t.isf(0.05, degrees)) * error
    interval = Interval(float(np.exp(mean - half)), float(np.exp(mean + half)), 0.9)
    below = float(t.cdf((mean - np.log(most)) / error, degrees))
    return MarginTest(float(np.exp(mean)), interval, below, 1 - below)


def exact_ratio(ratio: float, most: float) -> MarginTest:
    """Return whether a ratio that is counted, not estimated, is at most ``most``, up to the rounding of a quotient."""
    over = float(ratio > most * (1 + 1e-9))
    return MarginTest(ratio, None, over, 1 - over)


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
