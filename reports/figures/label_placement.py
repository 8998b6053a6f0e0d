"""Where adapters stand on an axis of sizes, so that marks of nearly the same size stay apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MARK_GAP = 0.027  # least distance between two means, as a part of the axis


@dataclass(frozen=True)
class SizeAxis:
    """The logarithm of parameter counts, with a place for zero to the left of the smallest.

    Attributes:
        low: log10 of the smallest positive count, or a little less.
        high: log10 of the largest count, or a little more.
        zero: where a count of zero stands; ``None`` if there is none.
    """

    low: float
    high: float
    zero: float | None

    @classmethod
    def around(cls, counts: Sequence[int]) -> SizeAxis:
        """Return the axis for these counts, at least a decade long, so that one budget is no range."""
        positive = [math.log10(count) for count in counts if count > 0]
        low, high = (min(positive), max(positive)) if positive else (0.0, 0.0)
        missing = max(0.0, 1.0 - (high - low)) / 2 if positive else 0.0
        low, high = low - missing, high + missing
        return cls(low, high, low - max(0.3, 0.2 * (high - low)) if 0 in counts else None)

    @property
    def limits(self) -> tuple[float, float]:
        """Left and right end, with a margin."""
        left = self.low if self.zero is None else self.zero
        margin = 0.07 * max(self.high - left, 1.0)
        return left - margin, self.high + margin

    def label_places(self, counts: Sequence[int]) -> list[float]:
        """Return where counts stand, far enough apart for the marks to be distinct; see `spread_labels`."""
        left, right = self.limits
        gap = min(MARK_GAP, 0.8 / len(counts)) * (right - left)
        at_zero = iter(spread_labels([self.zero for count in counts if count == 0 and self.zero is not None], gap))
        others = iter(spread_labels([math.log10(count) for count in counts if count > 0], gap))
        return [next(others if count > 0 else at_zero) for count in counts]

    def ticks(self) -> dict[float, str]:
        """Return labelled ticks: decades if there are two, else 1, 2 and 5 of each; thinned if many."""
        decades = range(math.floor(self.low), math.ceil(self.high) + 1)
        for steps in ((1,), (1, 2, 5)):
            numbers = [step * 10.0**decade for decade in decades for step in steps]
            inside = [number for number in numbers if self.low - 0.02 <= math.log10(number) <= self.high + 0.02]
            if len(inside) > 1:
                break
        thinned = inside[:: 1 + len(inside) // 6]
        at_zero = {} if self.zero is None else {self.zero: "0"}
        return at_zero | {math.log10(number): _short(number) for number in thinned}


def spread_labels(places: Sequence[float], gap: float) -> list[float]:
    """Return the places, in their order, moved as little as it takes for every two to be ``gap`` spread_labels."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    clusters: list[list[int]] = []
    for i in order:
        clusters.append([i])
        while len(clusters) > 1 and _start(clusters[-1], places, gap) - _end(clusters[-2], places, gap) < gap:
            last = clusters.pop()
            clusters[-1].extend(last)
    moved = list(places)
    for cluster in clusters:
        if len(cluster) > 1:
            for k, i in enumerate(cluster):
                moved[i] = _start(cluster, places, gap) + k * gap
    return moved


def _start(cluster: list[int], places: Sequence[float], gap: float) -> float:
    return sum(places[i] for i in cluster) / len(cluster) - gap * (len(cluster) - 1) / 2


def _end(cluster: list[int], places: Sequence[float], gap: float) -> float:
    return _start(cluster, places, gap) + gap * (len(cluster) - 1)


def _short(number: float) -> str:
    for unit, suffix in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:g}{suffix}"
    return f"{number:g}"
