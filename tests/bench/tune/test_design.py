"""The points that searches begin with."""

import math

import pytest

from parbench.bench.tune.design import first_points
from parbench.methods.base import Dimension

RATE, HEAD = Dimension("learning_rate", 1e-4, 1e-2), Dimension("head_learning_rate", 1e-4, 1e-1)


def places(points, axis):
    """Return where points are in a range, from 0 to 1 on its logarithmic scale."""
    return [math.log(point[axis.field] / axis.low) / math.log(axis.high / axis.low) for point in points]


@pytest.mark.parametrize("number", [2, 4, 8, 16])
def test_every_part_of_each_range_has_one_point(number):
    points = first_points((RATE, HEAD), number)
    for axis in (RATE, HEAD):
        assert sorted(int(place * number) for place in places(points, axis)) == list(range(number))


def test_a_quarter_of_the_plane_has_a_quarter_of_the_points():
    points = first_points((RATE, HEAD), 8)
    quarters = [
        (first > 0.5, second > 0.5) for first, second in zip(*(places(points, a) for a in (RATE, HEAD)), strict=True)
    ]
    assert {quarter: quarters.count(quarter) for quarter in quarters} == dict.fromkeys(quarters, 2)
    assert len(set(quarters)) == 4


def test_methods_begin_with_the_same_points_whatever_their_dimensions():
    other = Dimension("update_step", 2e-4, 1e-1)
    assert places(first_points((RATE,), 5), RATE) == pytest.approx(places(first_points((other, HEAD), 5), other))
    assert len(first_points((RATE, HEAD), 5)) == 5
    assert first_points((RATE,), 0) == []
