"""The values of a run's setting and training, merged from presets, the suite and the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parbench.bench.plan.layers import merged
from parbench.bench.plan.suite import Suite
from parbench.bench.train.settings import TrainingSettings
from parbench.bench.util.validation import validated
from parbench.methods.base import Setting
from parbench.methods.expression import ResolvedMethod
from parbench.methods.presets import TaskPreset
from parbench.tasks.base import Task


def setting_of(
    suite: Suite, task: Task, choice: ResolvedMethod, over: Mapping[str, Any], preset: TaskPreset | None = None
) -> Setting:
    """Merge preset, suite and what is given over it, over the method's defaults.

    A modified method starts from the values of the plain one.

    Args:
        suite: the suite.
        task: of the run.
        choice: its method.
        over: what goes over the suite's values, such as those of the command line.
        preset: the published values, if they are asked for.

    Raises:
        UserError: a value is wrong.
    """
    layers: list[Mapping[str, Any]] = [preset.setting] if preset else []
    parts = (suite, *suite.layers(task))
    layers += [part.settings.get(name, {}) for part in parts for name in choice.setting_names]
    what = f"the setting of {choice.method.name} on {task.name}"
    return validated(choice.method.setting_type, merged(*layers, over), what)


def training_of(
    suite: Suite, task: Task, method: str, over: Mapping[str, Any], preset: TaskPreset | None = None
) -> TrainingSettings:
    """Merge preset, the suite's values for the task and what is given over them, over the suite's training.

    Args:
        suite: the suite.
        task: of the run.
        method: its name, for error messages.
        over: what goes over the suite's values, such as those of the command line.
        preset: the published values, if they are asked for.

    Raises:
        UserError: a value is wrong.
    """
    published = [preset.training] if preset else []
    of_task = [layer.training for layer in suite.layers(task)]
    values = merged(suite.training, *published, *of_task, over)
    return validated(TrainingSettings, values, f"the training of {method} on {task.name}")
