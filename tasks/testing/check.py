"""Checks that a task keeps its contract: data that is always the same, apart, and that its metrics can tell."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from parbench.bench.util.errors import UserError
from parbench.tasks.base import Splits, Task
from parbench.tasks.data.source import DataSource
from parbench.tasks.leaks import leaks
from parbench.tasks.testing.inspection import check_files, constant, perfect_scores


class TaskContractError(AssertionError):
    """A task violates its contract; the message has one line per fault."""


@dataclass(frozen=True)
class TaskReport:
    """What is found of a task.

    Attributes:
        task: its name.
        sizes: number of examples of each split.
        faults: a sentence for each violation of the contract.
        warnings: a sentence for each thing that is suspicious and does not prevent the use of the task.
    """

    task: str
    sizes: dict[str, int]
    faults: tuple[str, ...]
    warnings: tuple[str, ...]

    def raise_for_failures(self) -> None:
        """Raise if there is a fault.

        Raises:
            TaskContractError: there are some.
        """
        if self.faults:
            faults = "\n".join(f"  {fault}" for fault in self.faults)
            raise TaskContractError(f'the task "{self.task}" does not keep its contract:\n{faults}')

    def __str__(self) -> str:
        sizes = ", ".join(f"{size:,} {split}" for split, size in self.sizes.items())
        faults = [f"fault: {fault}" for fault in self.faults]
        warnings = [f"warning: {warning}" for warning in self.warnings]
        return "\n".join([f'"{self.task}": {sizes or "no examples"}', *faults, *warnings])


def check_task(task: Task, source: DataSource | None = None) -> TaskReport:
    """Check that a task's data can be had and is always the same, that its splits are apart, and that its metrics tell.

    Args:
        source: where the data is; default: the task's own, which a task outside parbench brings along.
    """
    if not isinstance(task, Task):
        kind = task.__name__ if isinstance(task, type) else type(task).__name__
        return TaskReport(kind, {}, ("it is not an instance of a parbench.tasks.base.Task",), ())
    source = source or task.own_source
    if source is None:
        return TaskReport(task.name, {}, ("it has no own_source; give the source of its data",), ())
    try:
        if missing := task.missing(source):
            return TaskReport(task.name, {}, (f"its data is missing: {missing}",), ())
        splits = task.splits(source)
        check_files(splits)
        faults = tuple(_faults(task, source, splits))
        return TaskReport(task.name, splits.sizes, faults, tuple(task.findings(splits)))
    except UserError as error:
        return TaskReport(task.name, {}, (str(error),), ())


def _faults(task: Task, source: DataSource, splits: Splits) -> Iterator[str]:
    if task.revision(source) != task.revision(source):
        yield "its revision changes from call to call, and so would the identity of a run"
    again = task.splits(source)
    changed = [name for name, split in splits.by_name.items() if split[:] != again.by_name[name][:]]
    if changed:
        yield f"the {' and the '.join(changed)} split have other rows when they are loaded again"
    found = leaks(task, splits)
    if found.reported or found.similar:
        yield (
            f"{found.reported + found.similar} of {len(splits.reported)} reported examples are in the other splits as "
            "well, whatever their case and blanks"
        )
    yield from _of_scores(task, splits)


def _of_scores(task: Task, splits: Splits) -> Iterator[str]:
    perfect, simple = perfect_scores(task, splits), constant(task, splits)
    for what, scores in (("its references", perfect), ("a constant prediction", simple.scores if simple else None)):
        value = None if scores is None else scores.get(task.primary, math.nan)
        if value is not None and not math.isfinite(value):
            yield f"{task.primary}, which ranks, is not a number for {what}"
            return
    if perfect is not None and simple is not None and not perfect[task.primary] > simple.scores[task.primary]:
        yield (
            f"{task.primary}, which ranks, is {simple.scores[task.primary]:g} for a constant prediction "
            f"({simple.says}), and no more for the references themselves"
        )
