"""Which budget the runs of a command have: its own, or else the suite's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from parbench.bench.budget.text import budget_text
from parbench.bench.plan.overrides import NO_BUDGET, Overrides
from parbench.bench.plan.suite import Suite
from parbench.bench.util.errors import UserError
from parbench.methods.expression import ResolvedMethod
from parbench.tasks.base import Task


class AskedBudget(NamedTuple):
    """The budgets of a command.

    Attributes:
        text: as `parbench.bench.budget.text.budget_text` writes them; ``None`` for no limit.
        note: why the suite's budget does not apply; empty where it does, or the suite has none.
    """

    text: str | None
    note: str = ""


def asked_budget(
    suite: Suite,
    overrides: Overrides,
    tasks: Iterable[Task],
    methods: Iterable[ResolvedMethod],
    sets: Mapping[str, Mapping[str, Any]],
) -> AskedBudget:
    """Return the budgets of the command, or else the suite's.

    The suite's budget is for its own base models, and gives way to a size that the command sets.

    Args:
        tasks: those that were asked for.
        sets: the command's ``--set`` by method.

    Raises:
        UserError: the command has a budget and sets a size, too.
    """
    methods = list(methods)
    if overrides.budgets == NO_BUDGET:
        return AskedBudget(None)
    if overrides.budgets is not None:
        refuse_two_sizes(overrides.budgets, methods, sets)
        return AskedBudget(budget_text(overrides.budgets))
    if suite.budget is None:
        return AskedBudget(None)
    if not on_its_own_models(suite, overrides, tasks):
        reason = f"it is for the suite's own base models, not for {overrides.base_model}"
        return AskedBudget(None, _note(suite.budget, reason))
    if sized := [found for choice in methods if (found := _size_by_hand(choice, sets))]:
        return AskedBudget(None, _note(suite.budget, f"{sized[0]} sets a size"))
    return AskedBudget(suite.budget)


def refuse_two_sizes(
    budget: str, methods: Iterable[ResolvedMethod], sets: Mapping[str, Mapping[str, Any]] | None = None
) -> None:
    """Check that a command which limits parameters sets no size itself: one of the two would have no effect.

    Raises:
        UserError: it does.
    """
    for choice in methods:
        if sized := _size_by_hand(choice, sets or {}):
            raise UserError(f"the budget {budget} sizes {choice.method.name}, and {sized} sets its size; give either")


def on_its_own_models(suite: Suite, overrides: Overrides, tasks: Iterable[Task]) -> bool:
    """Return whether the base model of each task is that of the suite, named by the command or not."""
    return all(suite.has_base_model(task, overrides.base_model) for task in tasks)


def _note(budget: str, reason: str) -> str:
    return f"the suite's budget, {budget}, does not apply: {reason}; give --budget to match sizes"


def _size_by_hand(choice: ResolvedMethod, sets: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what sets the size of a method in the command, or nothing."""
    knob = choice.method.size_knob
    if knob is None:
        return ""
    if knob.field in choice.values:
        return f"{choice.method.name}({knob.field}={choice.values[knob.field]})"
    names = choice.setting_names
    return next((f"--set {name}.{knob.field}" for name in names if knob.field in sets.get(name, {})), "")
