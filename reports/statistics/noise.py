"""The noise floor: how far a score moves when the same run is repeated."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t


@dataclass(frozen=True)
class NoiseFloor:
    """The spread of repeated runs.

    Attributes:
        sd: standard deviation of a run around the mean of its group, pooled over groups; ``None`` where ``reason`` says
            why.
        max_difference: largest difference between two runs of a group; ``None`` likewise, and of a mean of scores.
        degrees: degrees of freedom of ``sd``: runs minus groups.
        groups: number of groups with two runs or more; others say nothing and are left out.
        level: confidence of `smallest_difference`.
        reason: a sentence, or ``None``.
    """

    sd: float | None
    max_difference: float | None
    degrees: int
    groups: int
    level: float
    reason: str | None

    def smallest_difference(self, runs: int = 1, others: int | None = None) -> float | None:
        """Return the difference between two means of so many runs that noise exceeds in 1 - ``level`` of cases.

        Smaller ones must not be read. For single runs it is the repeatability limit of ISO 5725 (or, with other seeds,
        the reproducibility limit), with a t quantile in place of 1.96 because ``sd`` is itself estimated. ``None`` if
        the noise is unknown.

        Args:
            runs: of the one mean.
            others: of the other; as many by default.
        """
        counts = (runs, runs if others is None else others)
        if min(counts) < 1:
            raise ValueError(f"a mean is of 1 run or more, not {min(counts)}")
        if self.sd is None:
            return None
        return float(t.isf((1 - self.level) / 2, self.degrees)) * self.sd * math.sqrt(sum(1 / n for n in counts))


def floor_of_mean(floors: Sequence[NoiseFloor], weights: Sequence[float] | None = None) -> NoiseFloor:
    """Return the noise floor of the mean of several scores, such as the average over tasks, with independent noise.

    Its degrees of freedom are the fewest of any of them, which is conservative.

    Args:
        floors: of each score, one or more.
        weights: of each score in the mean; equal by default.
    """
    degrees, groups, level = min(one.degrees for one in floors), sum(one.groups for one in floors), floors[0].level
    reason = next((one.reason for one in floors if one.reason is not None), None)
    if reason is not None:
        return NoiseFloor(None, None, degrees, groups, level, reason)
    shares = [1 / len(floors)] * len(floors) if weights is None else weights
    sd = math.sqrt(sum((share * (one.sd or 0.0)) ** 2 for share, one in zip(shares, floors, strict=True)))
    return NoiseFloor(sd, None, degrees, groups, level, None)


def noise_floor(groups: Iterable[Sequence[float]], level: float = 0.95) -> NoiseFloor:
    """Measure the spread of runs that were repeated.

    Give groups of the same seed to learn what the machine adds (kernels that are not deterministic), or groups that
    differ in the seed alone to learn what the seeds add. Runs that are equal to the bit have a floor of 0.

    Args:
        groups: scores of the repeated runs of each configuration.
        level: confidence of the smallest difference.

    Raises:
        ValueError: a score is not a finite number.
    """
    repeated = [np.asarray(group, dtype="float64") for group in groups if len(group) > 1]
    if not all(np.isfinite(group).all() for group in repeated):
        raise ValueError("a noise floor needs finite scores; leave failed runs out")
    degrees = sum(len(group) - 1 for group in repeated)
    if not repeated:
        return NoiseFloor(None, None, 0, 0, level, "no configuration was run twice")
    squares = sum(float(np.square(group - group.mean()).sum()) for group in repeated)
    max_difference = max(float(np.ptp(group)) for group in repeated)
    # Without a difference the deviations from a rounded mean are not noise.
    sd = math.sqrt(squares / degrees) if max_difference > 0 else 0.0
    return NoiseFloor(sd, max_difference, degrees, len(repeated), level, None)
