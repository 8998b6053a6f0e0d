"""The names by which a command asks for methods, tasks and base models."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from parbench.bench.plan.suite import Suite
from parbench.bench.util.errors import UserError, did_you_mean
from parbench.methods import METHODS, find_method
from parbench.tasks import TASKS, is_task_file


@dataclass(frozen=True)
class AskedNames:
    """The names in the command of a run, which may say more than those in its spec.

    Attributes:
        method: the method's expression.
        task: a registered name, or the path of a YAML file.
        base_model: a registered name, a local folder or a hub id.
    """

    method: str
    task: str
    base_model: str

    def absolute(self) -> AskedNames:
        """Return the same names with absolute paths, for a process that works in another folder."""
        return replace(self, task=_absolute(self.task), base_model=_absolute(self.base_model))


def _absolute(name: str) -> str:
    return str(Path(name).absolute()) if Path(name).exists() else name


def expand_tasks(names: Iterable[str]) -> list[str]:
    """Replace task groups by their members; the order is kept, repetitions are dropped, YAML files stay as they are.

    Raises:
        UserError: there is no such task or task group.
    """
    found: dict[str, None] = {}
    for name in names:
        members = [known for known in TASKS if known.startswith(f"{name}/")]
        if name not in TASKS and not members and not is_task_file(name):
            groups = {known.partition("/")[0] for known in TASKS if "/" in known}
            raise UserError(f'there is no task called "{name}"{did_you_mean(name, {*TASKS, *groups})}')
        found.update(dict.fromkeys(members or [name]))
    return list(found)


def refuse_unknown_names(suite: Suite, asked: Iterable[str]) -> None:
    """Check the names that a suite has values for: the values of a misspelt name would have no effect.

    Args:
        suite: the suite.
        asked: names of the tasks to run, including those that YAML files define.

    Raises:
        UserError: there is no such task, task group or method.
    """
    tasks = {*TASKS, *asked}
    known = tasks | {name.partition("/")[0] for name in tasks}
    # A suite that runs task files, or that `bench tune` wrote, may name tasks of files that are not run now.
    only_known = suite.tuning is None and not any(map(is_task_file, suite.tasks))
    for name in suite.by_task:
        if only_known and name not in known:
            raise UserError(f'the suite "{suite.name}" has values by_task for "{name}"{did_you_mean(name, known)}')
    for layer in (suite, *suite.by_kind.values(), *suite.by_task.values()):
        for name in layer.settings:
            plain = name.partition("+")[0]
            if plain not in METHODS:
                raise UserError(f'the suite "{suite.name}" has settings for "{name}"{did_you_mean(plain, METHODS)}')
            if plain != name and (canonical := find_method(name).method.name) != name:
                raise UserError(f'the suite "{suite.name}" has settings for "{name}"; write it "{canonical}"')
