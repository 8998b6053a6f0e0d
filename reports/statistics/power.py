"""What a comparison could have seen, and what it would take to see a difference."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from scipy.optimize import brentq
from scipy.stats import nct

from parbench.reports.statistics.estimates import MIN_SEEDS, VarianceComponents
from parbench.reports.statistics.scores import Scores

POWER = 0.8
MOST_SEEDS = 1000
MOST_EXAMPLES = 10_000_000


@dataclass(frozen=True)
class NoiseSources:
    """Where the noise of a difference of two methods, paired by seed and example, comes from.

    Attributes:
        seeds: variance between seeds of the difference of two runs, on endless examples.
        own: variance of the difference of two runs that comes from the draw of the examples and is their own.
        shared: likewise, what all seeds have in common.
        examples: number of examples that ``own`` and ``shared`` are for.
    """

    seeds: float
    own: float
    shared: float
    examples: int

    def spread(self, seeds: int, examples: int | None = None) -> VarianceComponents:
        """Return the variance of the mean difference over a number of seeds and examples."""
        count = self.examples if examples is None else examples
        per_run = self.seeds + self.own * self.examples / count
        return VarianceComponents(
            ((per_run / seeds, seeds - 1), (self.shared * self.examples / count, max(1, count - 1)))
        )


def noise_sources(difference: Scores) -> NoiseSources:
    """Return the sources of the noise of a difference, see `spread_of` for how its variance is divided.

    Args:
        difference: of two methods, by seed; with 2 seeds or more.
    """
    n = len(difference.seeds)
    between = float(difference.by_seed.var(ddof=1))
    mean = difference.deviations.mean(axis=1)
    of_mean = float(mean @ mean)
    own = max(0.0, (float((difference.deviations**2).sum()) / n - of_mean) / (n - 1)) * n
    return NoiseSources(max(0.0, between - own), own, max(0.0, of_mean - own / n), difference.degrees + 1)


def pooled(sources: list[NoiseSources]) -> NoiseSources:
    """Return the mean of several comparisons' sources, on the same examples."""
    n = len(sources)
    seeds, own, shared = (sum(getattr(one, name) for one in sources) / n for name in ("seeds", "own", "shared"))
    return NoiseSources(seeds, own, shared, sources[0].examples)


def detectable(spread: VarianceComponents, alpha: float = 0.05, power: float = POWER) -> float | None:
    """Return the smallest difference that a test at a level finds with a power; ``None`` without variance.

    Args:
        spread: the variance of the difference.
        alpha: two-sided level.
        power: probability of finding it.
    """
    if spread.variance <= 0:
        return None
    error = math.sqrt(spread.variance)
    critical = spread.half_width(1 - alpha) / error
    return error * _noncentrality(round(critical, 3), round(_degrees(spread), 2), power)


def power_of(spread: VarianceComponents, difference: float, alpha: float = 0.05) -> float:
    """Return the probability that a test at a two-sided level finds a difference; 1 without variance."""
    if spread.variance <= 0:
        return 1.0
    error = math.sqrt(spread.variance)
    return float(nct.sf(spread.half_width(1 - alpha) / error, _degrees(spread), abs(difference) / error))


def seeds_needed(
    sources: NoiseSources, difference: float, alpha: float = 0.05, power: float = POWER, examples: int | None = None
) -> int | None:
    """Return how many seeds find a difference with a power; ``None`` where no number up to `MOST_SEEDS` does.

    Args:
        sources: of the noise.
        difference: to be found, in the metric's unit.
        alpha: two-sided level of the test.
        power: probability of finding it.
        examples: reported; as many as the sources are for by default.
    """

    def enough(seeds: int) -> bool:
        return power_of(sources.spread(seeds, examples), difference, alpha) >= power

    return _least(enough, MIN_SEEDS, MOST_SEEDS)


def examples_needed(
    sources: NoiseSources, difference: float, seeds: int, alpha: float = 0.05, power: float = POWER
) -> int | None:
    """Return how many examples find a difference with a power; ``None`` where the seeds alone vary too much.

    Args:
        sources: of the noise.
        difference: to be found, in the metric's unit.
        seeds: number of seeds.
        alpha: two-sided level of the test.
        power: probability of finding it.
    """

    def enough(examples: int) -> bool:
        return power_of(sources.spread(seeds, examples), difference, alpha) >= power

    return _least(enough, 2, MOST_EXAMPLES)


def _least(enough: Callable[[int], bool], low: int, high: int) -> int | None:
    """Return the least number from ``low`` to ``high`` that is enough, by bisection."""
    if not enough(high):
        return None
    while low < high:
        middle = (low + high) // 2
        if enough(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _degrees(spread: VarianceComponents) -> float:
    """Return Satterthwaite's degrees of freedom, for the distribution of the statistic if there is a difference."""
    return spread.variance**2 / sum(variance**2 / degrees for variance, degrees in spread.parts if variance > 0)


@lru_cache(maxsize=4096)
def _noncentrality(critical: float, degrees: float, power: float) -> float:
    """Return the distance, in standard errors, that exceeds a critical value with a probability."""
    return float(brentq(lambda distance: nct.sf(critical, degrees, distance) - power, 0.0, 3 * critical + 10))
