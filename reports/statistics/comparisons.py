"""Two methods on the same examples: is one better?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np
from scipy.stats import binom, binomtest

from parbench.bench.util.errors import UserError, did_you_mean
from parbench.reports.statistics.estimates import Interval, VarianceComponents, is_zero, spread_of, too_few
from parbench.reports.statistics.power import detectable
from parbench.reports.statistics.scores import Predictions, Scores


@dataclass(frozen=True)
class Comparison:
    """Two methods on one task.

    Attributes:
        a: the one method.
        b: the other.
        difference: mean score of ``a`` minus that of ``b``.
        n_a: number of seeds of ``a``.
        n_b: number of seeds of ``b``.
        paired: whether run was paired with run, the seeds being the same; examples always are.
        interval: of this difference alone, not corrected for other comparisons; ``None`` where ``reason`` says why.
        p_value: two-sided, of no difference; ``None`` where it could not be tested.
        adjusted_p_value: the same, corrected for the family it was tested in; ``None`` before that.
        reason: a sentence, or ``None``.
        noise_floor: the difference that repeated runs come to by chance alone, see `NoiseFloor.smallest_difference`;
            ``None`` where it is not known.
        detectable: the difference that this test, at 5 % and not corrected, finds in 80 % of cases; ``None`` where it
            could not be tested.
    """

    a: str
    b: str
    difference: float
    n_a: int
    n_b: int
    paired: bool
    interval: Interval | None
    p_value: float | None
    adjusted_p_value: float | None
    reason: str | None
    noise_floor: float | None = None
    detectable: float | None = None

    @property
    def is_noise(self) -> bool:
        """Whether the difference is below the noise floor, so that nothing may be read from it."""
        return self.noise_floor is not None and abs(self.difference) < self.noise_floor

    def better(self, alpha: float = 0.05) -> str | None:
        """Return the method that is significantly better after correction, ``None`` if neither is known to be.

        Below the noise floor neither is, whatever the p-value.
        """
        if self.adjusted_p_value is None or self.adjusted_p_value > alpha or self.is_noise:
            return None
        return self.a if self.difference > 0 else self.b


@dataclass(frozen=True)
class McNemar:
    """McNemar's test, seed by seed.

    Attributes:
        seeds: of the pairs of models.
        only_a: by seed, number of examples that only the first method has right.
        only_b: by seed, number of examples that only the second has right.
        p_values: by seed.
        p_value: of all seeds together; ``None`` where ``reason`` says why.
        reason: a sentence, or ``None``.
    """

    seeds: tuple[int, ...]
    only_a: tuple[int, ...]
    only_b: tuple[int, ...]
    p_values: tuple[float, ...]
    p_value: float | None
    reason: str | None


def compare_scores(
    a: Scores, b: Scores, level: float = 0.95, bounds: tuple[float, float] = (-math.inf, math.inf)
) -> Comparison:
    """Test whether two methods differ in their mean over seeds and examples.

    A t test on the difference whose variance comes from the same draws of examples for both methods, and from the
    seeds: of the differences run by run if the seeds are the same (a seed fixes head, data order and dropout, so that
    runs of the same seed may be correlated), else of each method by itself. See `VarianceComponents` for the quantiles.

    Args:
        a: of one call of `score_runs`.
        b: of the same call.
        level: nominal coverage of the interval.
        bounds: least and greatest value of the metric: a difference is at most as large as they are apart.

    Raises:
        ValueError: the two are not of the same call.
    """
    if a.reason is None and b.reason is None and a.deviations.shape[0] != b.deviations.shape[0]:
        raise ValueError(f"{a.method} and {b.method} were not scored on the same draws; score them in one call")
    paired = a.seeds == b.seeds
    difference = float(a.by_seed.mean() - b.by_seed.mean())
    untested = Comparison(a.method, b.method, difference, len(a.seeds), len(b.seeds), paired, None, None, None, None)
    reason = too_few(min(len(a.seeds), len(b.seeds))) or a.reason or b.reason
    if reason is not None:
        return replace(untested, reason=reason)
    values = np.concatenate([a.by_seed, b.by_seed])
    spread = spread_of_difference(a, b)
    if is_zero(spread, values):
        if is_nothing(difference, values):
            same = "both score the same in every run, on whatever examples"
            return replace(untested, difference=0.0, p_value=1.0, reason=same)
        return replace(untested, reason="all runs differ by the same: there is no variation to judge by")
    half, most = spread.half_width(level), bounds[1] - bounds[0]
    interval = Interval(max(difference - half, -most), min(difference + half, most), level)
    found = replace(untested, interval=interval, p_value=spread.p_value(difference))
    return replace(found, detectable=detectable(spread))


def is_nothing(difference: float, values: np.ndarray) -> bool:
    """Return whether a difference of means of values is 0 up to rounding."""
    return math.isclose(difference, 0.0, abs_tol=1e-12 * max(1.0, float(np.abs(values).max())))


def spread_of_difference(a: Scores, b: Scores) -> VarianceComponents:
    """Return the variance of the difference of two methods' means, paired by example and, for equal seeds, by seed.

    Args:
        a: of one call of `score_runs`, with at least 2 seeds.
        b: of the same call.
    """
    if a.seeds != b.seeds:
        return spread_of([(1, a), (-1, b)])
    size = float(np.abs(np.concatenate([a.by_seed, b.by_seed])).max())
    return spread_of([(1, difference_by_seed(a, b))], size=size)


def difference_by_seed(a: Scores, b: Scores) -> Scores:
    """Return the differences of two methods run by run, as scores; the two have the same seeds."""
    return Scores("", a.seeds, a.by_seed - b.by_seed, a.deviations - b.deviations, min(a.degrees, b.degrees))


def compare_all(
    scores: Mapping[str, Scores], against: str | None = None, level: float = 0.95
) -> tuple[Comparison, ...]:
    """Compare all pairs of methods on one task, or one method with all others, corrected by Holm as one family.

    Args:
        scores: of one call of `score_runs`.
        against: compare only with this method: fewer questions, hence more power for each.
        level: nominal coverage of the intervals, which are not corrected.

    Raises:
        UserError: there is no method ``against``.
    """
    if against is not None and against not in scores:
        raise UserError(f'there is no method "{against}" to compare with{did_you_mean(against, scores)}')
    pairs = combinations(scores, 2) if against is None else ((name, against) for name in scores if name != against)
    comparisons = [compare_scores(scores[a], scores[b], level) for a, b in pairs]
    adjusted = holm([comparison.p_value for comparison in comparisons])
    return tuple(
        replace(comparison, adjusted_p_value=p_value) for comparison, p_value in zip(comparisons, adjusted, strict=True)
    )


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Correct p-values for being a family.

    If those of at most 0.05 are taken for significant, one or more of them is wrong in no more than 5 % of families,
    however the tests depend on each other (Holm, "A Simple Sequentially Rejective Multiple Test Procedure",
    Scandinavian Journal of Statistics 1979).

    Args:
        p_values: of the tests of a family; ``None`` for a test that was not made, which does not count.
    """
    made = sorted((p_value, place) for place, p_value in enumerate(p_values) if p_value is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    least = 0.0
    for done, (p_value, place) in enumerate(made):
        least = max(least, min(1.0, (len(made) - done) * p_value))
        adjusted[place] = least
    return adjusted


def mcnemar(a: Predictions, b: Predictions, kind: Literal["mid-p", "exact"] = "mid-p") -> McNemar:
    """Test whether the trained models of two methods are right on different numbers of examples.

    This is about these models, not about the methods: it knows nothing of how other seeds would have turned out, so
    that no tie group is made from it. Each seed has a test of its own. Pooling the seeds' examples would count every
    example once per seed; a majority vote would test ensembles that were never trained; so the seeds' p-values, which
    depend on each other through the examples, are merged by twice their mean, valid under any dependence (Vovk and
    Wang, "Combining p-values via averaging", Biometrika 2020). One seed keeps its own.

    Args:
        a: of classes, not of numbers.
        b: on the same examples, with the same seeds.
        kind: "mid-p" (Fagerland, Lydersen and Laake, BMC Medical Research Methodology 2013), which hardly ever exceeds
            its level, or "exact", which never does and has less power.

    Raises:
        ValueError: the two are not on the same examples.
    """
    if not (np.array_equal(a.examples, b.examples) and np.array_equal(a.labels, b.labels)):
        raise ValueError("McNemar's test needs the same examples for both methods")
    if a.seeds != b.seeds:
        return McNemar((), (), (), (), None, "the methods were not run with the same seeds")
    if any(np.issubdtype(predicted.dtype, np.floating) for predicted in (a.predicted, b.predicted, a.labels)):
        return McNemar((), (), (), (), None, "there is no right or wrong in a regression")
    right_a, right_b = a.predicted == a.labels, b.predicted == b.labels
    only_a = tuple(int(count) for count in (right_a & ~right_b).sum(axis=1))
    only_b = tuple(int(count) for count in (right_b & ~right_a).sum(axis=1))
    p_values = tuple(_sign_test(first, second, kind) for first, second in zip(only_a, only_b, strict=True))
    merged = p_values[0] if len(p_values) == 1 else min(1.0, 2 * sum(p_values) / len(p_values))
    return McNemar(a.seeds, only_a, only_b, p_values, merged, None)


def _sign_test(only_a: int, only_b: int, kind: Literal["mid-p", "exact"]) -> float:
    n = only_a + only_b
    if n == 0:
        return 1.0
    exact = float(binomtest(only_a, n).pvalue)
    return exact if kind == "exact" else exact - float(binom.pmf(only_a, n, 0.5))
