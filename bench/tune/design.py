"""The first trials of a search: points that fill the space of hyper-parameters evenly."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy.stats import qmc

from parbench.methods.base import Dimension

# More than any method has. The first columns of one design serve all methods, whatever their number of dimensions.
_DIMENSIONS = 8
_SEED = 0


def first_points(space: Sequence[Dimension], number: int) -> list[dict[str, float]]:
    """Return the first points of a scrambled Sobol sequence (Owen, 1998), on the logarithmic scale of each dimension.

    Of each dimension every eighth of the range holds one of the first eight points, and of each pair of dimensions
    most of the cells are as evenly filled. Two spaces have the same points in the dimensions that they both have.

    Args:
        space: the dimensions, at most eight.
        number: of points.
    """
    # All points of a whole power of two: fewer would not be even, and scipy warns of it.
    drawn = qmc.Sobol(_DIMENSIONS, scramble=True, rng=_SEED).random(2 ** max(0, math.ceil(math.log2(max(number, 1)))))
    return [
        {axis.field: axis.low * (axis.high / axis.low) ** float(place) for axis, place in zip(space, row, strict=False)}
        for row in drawn[:number]
    ]
