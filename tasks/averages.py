"""Averages that a family of tasks is known by in papers, where they are not the plain mean over a table's tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from parbench.bench.util.registry import Registry


@dataclass(frozen=True)
class Average:
    """An average with a name of its own.

    Attributes:
        name: what a table calls it, after the family's name.
        tasks: names of the tasks that it is over; it is not without any of them.
        of: the average of one score a task, in the order of ``tasks``. Smooth: intervals follow from its slopes.
    """

    name: str
    tasks: tuple[str, ...]
    of: Callable[[Sequence[float]], float]


# By family, which is what the names of its tasks begin with: ``vtab`` of ``vtab/dtd``.
AVERAGES: Registry[tuple[Average, ...]] = Registry("family of averages", entry_point_group="parbench.averages")
AVERAGES.register(
    "vtab", "parbench.tasks.vtab:AVERAGES", "means of the three groups, over all tasks and over the groups"
)
AVERAGES.register(
    "commonsense_single", "parbench.tasks.commonsense.task:AVERAGES", "arithmetic and harmonic mean of eight sets"
)
