"""The mean over seeds with an interval that covers seeds and examples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import stdtr, stdtrit

from parbench.reports.statistics.scores import Scores

MIN_SEEDS = 3
"""Seeds below which nothing is said about the spread over seeds: with two, a t quantile is 12.7 standard errors."""

_ROUNDING = 1e-12
"""Standard errors at or below this part of a score are what rounding leaves of zero."""


@dataclass(frozen=True)
class Interval:
    """A confidence interval.

    Attributes:
        low: lower end, in the metric's unit.
        high: upper end.
        level: nominal coverage, such as 0.95.
    """

    low: float
    high: float
    level: float


@dataclass(frozen=True)
class Estimate:
    """A method's score on one task.

    Attributes:
        mean: over the seeds.
        n: number of seeds.
        sd: standard deviation over the seeds, divisor n - 1; ``None`` for one seed.
        interval: of the mean over all seeds and all examples that there could have been; ``None`` where ``reason``
            says why.
        reason: a sentence, or ``None``.
    """

    mean: float
    n: int
    sd: float | None
    interval: Interval | None
    reason: str | None


@dataclass(frozen=True)
class Spread:
    """The variance of a mean over seeds, or of the difference of two, in independent parts.

    The sum of estimated variances with different degrees of freedom has no exact t distribution (the Behrens-Fisher
    problem). Its quantiles here are those of Cochran and Cox ("Experimental Designs", 1950), the mean of the parts'
    t quantiles weighted by the parts' variances: conservative, which Satterthwaite's are not in the far tail that a
    correction for many comparisons looks at.

    Attributes:
        parts: variance and degrees of freedom of each part.
    """

    parts: tuple[tuple[float, int], ...]

    @property
    def variance(self) -> float:
        """The sum of the parts."""
        return sum(variance for variance, _ in self.parts)

    def half_width(self, level: float) -> float:
        """Return the distance from the mean to the ends of its interval."""
        return self._quantile(1 - level) * math.sqrt(self.variance)

    def p_value(self, distance: float) -> float:
        """Return the two-sided p-value of a distance from 0: the level whose quantile it is; at least 1e-300."""
        statistic = abs(distance) / math.sqrt(self.variance)
        # As the quantile is a mean of the parts' quantiles, its level lies between the levels by each part alone.
        levels = [2 * float(stdtr(degrees, -statistic)) for variance, degrees in self.parts if variance > 0]
        low, high = max(min(levels), 1e-300), max(levels)
        if statistic <= self._quantile(high):
            return high
        if statistic >= self._quantile(low):
            return low
        return math.exp(brentq(lambda log: self._quantile(math.exp(log)) - statistic, math.log(low), math.log(high)))

    def _quantile(self, alpha: float) -> float:
        quantiles = (-variance * stdtrit(degrees, alpha / 2) for variance, degrees in self.parts if variance > 0)
        return float(sum(quantiles) / self.variance)


def estimate(scores: Scores, level: float = 0.95, bounds: tuple[float, float] = (-math.inf, math.inf)) -> Estimate:
    """Return the mean over seeds with its interval, which covers the draw of the seeds and that of the examples.

    The interval is mean ± quantile x standard error, the variance being the sum of the two parts of `spread_of`. A
    percentile interval of a two-level bootstrap (resample seeds, then examples) would take the few seeds for all there
    are: with 3 seeds it covers as little as 78 % instead of 95 % when most of the variance is between seeds. BCa does
    not help, because it corrects for skewness, not for the smallness of the sample of seeds.

    Args:
        scores: of one method on one task.
        level: nominal coverage.
        bounds: least and greatest value of the metric, beyond which no interval goes.
    """
    n = len(scores.seeds)
    mean = float(scores.by_seed.mean())
    sd = float(scores.by_seed.std(ddof=1)) if n > 1 else None
    reason = too_few(n) or scores.reason
    if reason is None:
        spread = spread_of([(1, scores)])
        if not is_zero(spread, scores.by_seed):
            half = spread.half_width(level)
            low, high = (float(np.clip(end, *bounds)) for end in (mean - half, mean + half))
            return Estimate(mean, n, sd, Interval(low, high, level), None)
        reason = "all runs score the same on whatever examples: there is no variation to judge by"
    return Estimate(mean, n, sd, None, reason)


def spread_of(groups: Sequence[tuple[int, Scores]]) -> Spread:
    """Return the variance of a signed sum of means over seeds.

    A score has a part of its own seed, a part of the examples that it shares with all runs, and a part of the two
    together. For one group of S seeds, with the covariance C of its scores from the draw of the examples:

    - seeds: s²/S, where s² is the sample variance of the scores. It holds all that differs from run to run, so that it
      counts the run's own noise on the examples, too; S - 1 degrees of freedom.
    - examples: what the mean over seeds varies with the examples, 1'C1/S², less the run's own part of it, which is
      already in s²/S: (tr C/S - 1'C1/S²)/(S - 1), but no more than s²/S itself. So the whole is never less than the
      variance from the examples alone.

    Groups are of different runs, but share the examples.

    Args:
        groups: of one call of `score_runs`, each with the sign of its mean in the sum and at least 2 seeds.
    """
    seeds = []
    shared: np.ndarray | float = 0.0
    counted = 0.0
    for sign, scores in groups:
        n = len(scores.seeds)
        between = float(scores.by_seed.var(ddof=1)) / n
        mean = scores.deviations.mean(axis=1)
        own = (float((scores.deviations**2).sum()) / n - float(mean @ mean)) / (n - 1)
        seeds.append((between, n - 1))
        shared = shared + sign * mean
        counted += min(between, max(own, 0.0))
    examples = max(0.0, float(np.square(shared).sum()) - counted)
    return Spread((*seeds, (examples, min(scores.degrees for _, scores in groups))))


def is_zero(spread: Spread, values: np.ndarray) -> bool:
    """Tell whether there is no variance but for rounding, given scores for their size."""
    return math.sqrt(spread.variance) <= _ROUNDING * max(1.0, float(np.abs(values).max()))


def too_few(n: int) -> str | None:
    """Return the reason that there is no interval with n seeds, or ``None``."""
    return None if n >= MIN_SEEDS else f"n = {n}: the spread over seeds needs {MIN_SEEDS} seeds or more"
