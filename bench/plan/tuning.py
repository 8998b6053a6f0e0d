"""What the settings of a tuned suite were tuned for, and what they are run with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from parbench.bench.plan.layers import merged
from parbench.bench.plan.notes import NOT_TUNED, TUNED_OTHERWISE
from parbench.bench.plan.overrides import TRAINING, Overrides, read_sets
from parbench.bench.plan.planned_run import PlannedRun
from parbench.bench.plan.suite import Suite, Tuning
from parbench.bench.plan.values import setting_of, training_of
from parbench.bench.train.settings import TrainingSettings
from parbench.bench.util.base_precision import BasePrecision
from parbench.bench.util.errors import UserError
from parbench.methods import find_method
from parbench.methods.expression import ResolvedMethod, split
from parbench.tasks.base import Task


def untuned(
    suite: Suite,
    overrides: Overrides,
    task: Task,
    choice: ResolvedMethod,
    precision: BasePrecision,
    fixed: Mapping[str, Any],
    fraction: float = 1.0,
) -> tuple[str, ...]:
    """Return a note for a run whose setting was not tuned in a suite of tuned ones, or for other runs than this.

    Args:
        suite: the suite.
        overrides: what the command changes of it.
        task: of the run.
        choice: its method.
        precision: of the base weights.
        fixed: what the command gives options of the method.
        fraction: share of the training split.
    """
    tuning = suite.tuning
    of_its_own = suite.has_base_model(task, overrides.base_model)
    if tuning is None:
        return ()
    if not (of_its_own and tuning.has(task.name, choice.method.name, precision)):
        return (NOT_TUNED,)
    if _changes(fixed, suite, tuning, task, choice):
        return (NOT_TUNED,)
    on_other_data = fraction != 1.0 or overrides.limit not in (None, suite.on(task, "limit"))
    trained, tuned = (_training(suite, task, sets) for sets in (overrides.sets, tuning.sets))
    return (TUNED_OTHERWISE,) if on_other_data or trained.deciding() != tuned.deciding() else ()


def _changes(fixed: Mapping[str, Any], suite: Suite, tuning: Tuning, task: Task, choice: ResolvedMethod) -> bool:
    """Return whether options that are given by hand are others than a method was tuned with: what is best changes."""
    of_suite = (find_method(expression) for expression in suite.methods)
    own = [one.values for one in of_suite if one.method.name == choice.method.name]
    sets = read_sets(tuning.sets, [text.partition(".")[0] for text in tuning.sets])
    tuned = merged(*own, *(sets.get(name, {}) for name in choice.setting_names))
    return setting_of(suite, task, choice, tuned) != setting_of(suite, task, choice, merged(tuned, fixed))


def _training(suite: Suite, task: Task, sets: Sequence[str]) -> TrainingSettings:
    """Return the training of a task's runs with some ``--set``."""
    of_training = [text for text in sets if text.startswith(f"{TRAINING}.")]
    return training_of(suite, task, "a method", read_sets(of_training, ()).get(TRAINING, {}))


def to_be_tuned(suite: Suite, runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    """Return the runs whose settings an equal tuning has yet to find.

    A suite whose settings were tuned has a part of them, and says at which of the budgets the others are to be tuned.
    """
    tuning = suite.tuning
    if tuning is None:
        return list(runs)
    left = [run for run in runs if NOT_TUNED in run.notes]
    budgets = split(tuning.budget or "", ",")
    at_these = [run for run in left if run.spec.budget is None or run.spec.budget["asked"] in budgets]
    return at_these if any(run.spec.budget for run in at_these) else left


def differences_from_tuning(
    suite: Suite, tuning: Tuning, overrides: Overrides, budget: str | None, on_its_own_models: bool
) -> list[str]:
    """Return what differs from how the suite's settings were tuned.

    A suite that comes with parbench is also the start for other base models; each of their runs has a note that its
    setting was not tuned.

    Raises:
        UserError: they were tuned on another base model.
    """
    asked = overrides.base_model or suite.base_model
    on_others = not on_its_own_models or suite.base_model != tuning.base_model
    if on_others and not suite.is_shipped:
        raise UserError(
            f'the suite "{suite.name}" was tuned on {tuning.base_model}, not on {asked}; tune it again, '
            "or leave --model out"
        )
    if on_others:
        return [f"the settings of the suite were tuned on its own base models, not on {asked}"]
    compared = [
        ("--budget", tuning.budget, budget),
        ("--base-precision", (tuning.base_precision,), overrides.base_precisions or suite.base_precisions),
        ("--set", tuning.sets, overrides.sets),
    ]
    return [
        f"tuned with {option} {_words(before)}, and run with {_words(now)}"
        for option, before, now in compared
        if before != now
    ]


def _words(value: str | tuple[str, ...] | None) -> str:
    """Return an option's value as text."""
    return value if isinstance(value, str) else " ".join(value or ()) or "none"
