"""Averages that papers report of a family of tasks, where they are not the plain mean over a table's tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from parbench.bench.util.registry import Registry


@dataclass(frozen=True)
class Average:
    """An average with a name of its own.

    Attributes:
        name: its name in a table, after the family's name.
        tasks: names of the tasks averaged; it is undefined if one of them is missing.
        of: the average of one score per task, in the order of ``tasks``. Smooth: intervals use its derivatives.
    """

    name: str
    tasks: tuple[str, ...]
    of: Callable[[Sequence[float]], float]


# By family, the first part of its tasks' names: ``vtab`` of ``vtab/dtd``.
AVERAGES: Registry[tuple[Average, ...]] = Registry("family of averages", entry_point_group="parbench.averages")
AVERAGES.register(
    "vtab", "parbench.tasks.vtab:AVERAGES", "means of the three groups, over all tasks and over the groups"
)
AVERAGES.register(
    "commonsense_single", "parbench.tasks.commonsense.task:AVERAGES", "arithmetic and harmonic mean of eight sets"
)
