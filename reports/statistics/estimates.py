"""The mean over seeds with an interval that covers seeds and examples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtri, stdtr, stdtrit
from scipy.stats import beta

from parbench.reports.statistics.scores import Scores

MIN_SEEDS = 3
"""The fewest seeds for an interval over seeds: with two, a t quantile is 12.7 standard errors."""

_ROUNDING = 1e-12
"""Standard errors at or below this part of a score are rounding residues of zero."""

_FEW = 10.0
"""So many examples on the rarer side, right or wrong, and the variance that few seeds show is not trusted below that of
one run; see `_least_variance`."""


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
class VarianceComponents:
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
        levels = [max(2 * float(stdtr(degrees, -statistic)), 1e-300) for _, degrees in self._counted]
        least, most = min(levels), max(levels)
        low, high = math.log(least), math.log(most)

        def beyond(log: float) -> float:
            return self._quantile(math.exp(log)) - statistic

        # The signs are checked where the search would look: rounding may put either end on the wrong side of 0.
        if beyond(high) >= 0:
            return most
        if beyond(low) <= 0:
            return least
        return math.exp(brentq(beyond, low, high))

    @property
    def _counted(self) -> list[tuple[float, int]]:
        """The parts that are variance: not zero, and not what rounding leaves of zero beside the others."""
        return [part for part in self.parts if part[0] > _ROUNDING**2 * self.variance]

    def _quantile(self, alpha: float) -> float:
        counted = self._counted
        quantiles = (-variance * stdtrit(degrees, alpha / 2) for variance, degrees in counted)
        return float(sum(quantiles) / sum(variance for variance, _ in counted))


def estimate(scores: Scores, level: float = 0.95, bounds: tuple[float, float] = (-math.inf, math.inf)) -> Estimate:
    """Return the mean over seeds with its interval, which covers the draw of the seeds and that of the examples.

    Of a metric without bounds the interval is mean ± quantile x standard error, the variance being the sum of the two
    parts of `spread_of`. A percentile interval of a two-level bootstrap (resample seeds, then examples) would take the
    few seeds for all there are: with 3 seeds it covers as little as 78 % instead of 95 % when most of the variance is
    between seeds. BCa does not help, because it corrects for skewness, not for the smallness of the sample of seeds.

    Of a metric between two bounds it is asymmetric and stays between them, see `_bounded`.

    Args:
        scores: of one method on one task.
        level: nominal coverage.
        bounds: least and greatest value of the metric.
    """
    n = len(scores.seeds)
    mean = float(scores.by_seed.mean())
    sd = float(scores.by_seed.std(ddof=1)) if n > 1 else None
    reason = too_few(n) or scores.reason
    if reason is None:
        spread = spread_of([(1, scores)])
        half = 0.0 if is_zero(spread, scores.by_seed) else spread.half_width(level)
        interval = _bounded(scores, mean, half, level, bounds) if np.isfinite(bounds).all() else None
        if interval is None and half > 0:
            low, high = (float(np.clip(end, *bounds)) for end in (mean - half, mean + half))
            interval = Interval(low, high, level)
        if interval is not None:
            return Estimate(mean, n, sd, interval, None)
        reason = "all runs score the same on whatever examples: there is no variation to judge by"
    return Estimate(mean, n, sd, None, reason)


def _bounded(scores: Scores, mean: float, half: float, level: float, bounds: tuple[float, float]) -> Interval | None:
    """Return the interval of a mean between two bounds, or ``None`` where nothing varies and it is at neither bound.

    That of Korn and Graubard ("Confidence Intervals for Proportions with Small Expected Number of Positive Counts",
    Survey Methodology 1998): Clopper's and Pearson's interval of so many independent examples as would have the
    half width that the variance and its degrees of freedom give. In simulations of accuracies from 0.5 to 0.995 with 50
    to 2,000 examples and 3 to 10 seeds it covers 94 % or more, where mean ± half width covers as little as 79 %.

    Args:
        scores: of one method on one task.
        mean: of them.
        half: half the width of the symmetric interval; 0 where nothing varies.
        level: nominal coverage.
        bounds: least and greatest value of the metric.
    """
    low, high = bounds
    share = min(max((mean - low) / (high - low), 0.0), 1.0)
    alpha = 1 - level
    examples = scores.degrees + 1
    if min(share, 1 - share) <= _ROUNDING:
        share, size = round(share), float(examples)
    elif half == 0:
        return None
    else:
        normal = float(ndtri(1 - alpha / 2))
        least = normal * math.sqrt(_least_variance(scores, mean, bounds))
        size = share * (1 - share) * ((high - low) * normal / max(half, least)) ** 2
    rights, wrongs = share * size, (1 - share) * size
    lower = float(beta.ppf(alpha / 2, rights, wrongs + 1)) if rights > 0 else 0.0
    upper = float(beta.isf(alpha / 2, rights + 1, wrongs)) if wrongs > 0 else 1.0
    return Interval(low + (high - low) * min(lower, share), low + (high - low) * max(upper, share), level)


def _least_variance(scores: Scores, mean: float, bounds: tuple[float, float]) -> float:
    """Return the variance below which that of a mean between two bounds is not believed.

    Near a bound the few examples on the rarer side decide all runs, and a draw of examples without the hardest of them
    shows neither seeds that differ nor examples that do. There the mean over the seeds counts as no more certain than
    one run; the further away, the less this holds.
    """
    low, high = bounds
    run = float((scores.deviations**2).sum()) / len(scores.seeds)
    if run <= 0:
        return 0.0
    rarer = (mean - low) * (high - mean) / run * min(mean - low, high - mean) / (high - low)
    return run * min(1.0, _FEW / max(rarer, _ROUNDING))


def spread_of(groups: Sequence[tuple[int, Scores]], size: float | None = None) -> VarianceComponents:
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
        size: of the scores behind them, which decides what is a rounding residue; that of the groups' by default.
    """
    if size is None:
        size = max(float(np.abs(scores.by_seed).max()) for _, scores in groups)
    seeds = []
    shared: np.ndarray | float = 0.0
    counted = 0.0
    for sign, scores in groups:
        n = len(scores.seeds)
        between = float(scores.by_seed.var(ddof=1)) / n
        between = between if math.sqrt(between) > _ROUNDING * max(1.0, size) else 0.0
        mean = scores.deviations.mean(axis=1)
        own = (float((scores.deviations**2).sum()) / n - float(mean @ mean)) / (n - 1)
        seeds.append((between, n - 1))
        shared = shared + sign * mean
        counted += min(between, max(own, 0.0))
    examples = max(0.0, float(np.square(shared).sum()) - counted)
    return VarianceComponents((*seeds, (examples, min(scores.degrees for _, scores in groups))))


def is_zero(spread: VarianceComponents, values: np.ndarray) -> bool:
    """Return whether there is no variance but for rounding, given scores for their size."""
    return math.sqrt(spread.variance) <= _ROUNDING * max(1.0, float(np.abs(values).max()))


def too_few(n: int) -> str | None:
    """Return the reason that there is no interval with n seeds, or ``None``."""
    return None if n >= MIN_SEEDS else f"n = {n}: the spread over seeds needs {MIN_SEEDS} seeds or more"
