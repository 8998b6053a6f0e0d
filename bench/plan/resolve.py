"""Resolves the names, settings and revisions of a suite, each once for all runs."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeVar, cast

from parbench.bench.budget.budget import Budget, parse_budgets
from parbench.bench.budget.count import Architecture
from parbench.bench.budget.fit import Fit, fit
from parbench.bench.models.base_model import BaseModel
from parbench.bench.models.catalogue import find_model
from parbench.bench.plan.asked_budget import AskedBudget, asked_budget
from parbench.bench.plan.defaults import without_defaults
from parbench.bench.plan.layers import by_hand, merged
from parbench.bench.plan.model_checks import check_training
from parbench.bench.plan.names import expand_tasks
from parbench.bench.plan.overrides import TRAINING, Overrides, read_sets
from parbench.bench.plan.suite import Suite
from parbench.bench.plan.values import setting_of, training_of
from parbench.bench.train.protocol import Protocol, Purpose
from parbench.bench.train.settings import TrainingSettings
from parbench.bench.util.errors import UserError
from parbench.methods import find_method
from parbench.methods.base import Setting
from parbench.methods.expression import ResolvedMethod
from parbench.methods.presets import TaskPreset, find_preset
from parbench.tasks import find_task
from parbench.tasks.base import Task
from parbench.tasks.data.location import DataLocation
from parbench.tasks.data.lock import RevisionLock
from parbench.tasks.data.source import DataSource
from parbench.tasks.retention import check_measurable, general_text_at

T = TypeVar("T")


class Limits(NamedTuple):
    """At most how many examples are used.

    Attributes:
        limit: of each split; ``None`` for all.
        evaluation_limit: of the selection split, and of each subset of the reported one.
    """

    limit: int | None
    evaluation_limit: int | None


@dataclass(frozen=True)
class Resolver:
    """Resolves what the runs of one command share.

    Attributes:
        suite: the suite.
        overrides: what the command line changes of it.
        lock: revisions that were resolved at their first use.
        announce: called with a line of text before each step that can take seconds.
    """

    suite: Suite
    overrides: Overrides
    lock: RevisionLock
    announce: Callable[[str], None] | None = None

    def tasks(self) -> tuple[list[Task], list[str]]:
        """Return the tasks to run. Of a group, those that the source has; a task asked for by name must be there.

        Those that a suite names must be there, too, unless the command has replaced its source by a folder.
        """
        asked = self.overrides.tasks or self.suite.tasks
        required = asked if self.overrides.tasks or self.overrides.data_root is None else ()
        found: list[Task] = []
        left_out: dict[str, str] = {}
        for name, plain in self.asked_tasks.items():
            task = self.configured(plain)
            missing = task.missing(self.source(task))
            if missing is None:
                found.append(task)
            elif name in required:
                # What is missing may be something other than data, such as a judge's key.
                is_data = missing in [self.source(task).missing(ref) for ref in task.refs]
                advice = "; give its files with --data-root, or use another suite" if is_data else ""
                raise UserError(f"the task {name} cannot run: {missing}{advice}")
            else:
                left_out[name] = missing
        unused = [name for name in self.overrides.options if not any(hasattr(task.options, name) for task in found)]
        if found and unused:
            raise UserError(f"none of the tasks {', '.join(asked)} has an option {unused[0]}; leave it out")
        if not found:
            reasons = "; ".join(dict.fromkeys(left_out.values()))
            raise UserError(f"none of the tasks {', '.join(asked)} can run: {reasons}")
        return found, [f"left out {name}: {reason}" for name, reason in left_out.items()]

    @cached_property
    def methods(self) -> dict[str, ResolvedMethod]:
        """The methods to compare, by expression."""
        return {expression: find_method(expression) for expression in self.overrides.methods or self.suite.methods}

    def budgets(self, task: Task) -> list[Budget | None]:
        """Return the budgets to meet on a task; ``None`` means no limit."""
        if (text := self.asked_budget.text) is None:
            return [None]
        architecture = self.architecture(task)

        def counted(expression: str) -> int:
            choice = find_method(expression)
            return architecture.count(choice.method, self.setting(choice, task)).reported

        return list(parse_budgets(text, architecture, counted))

    @cached_property
    def asked_budget(self) -> AskedBudget:
        """The budgets of the command, or else the suite's."""
        return asked_budget(self.suite, self.overrides, self.asked_tasks.values(), self.methods.values(), self.sets)

    @cached_property
    def location(self) -> DataLocation:
        """Where the data of all tasks is read from."""
        root = self.overrides.data_root
        return DataLocation(self.suite.data, str(self.lock.path), None if root is None else str(root))

    def retention_revision(self, task: Task) -> str | None:
        """Return the revision of the text on which forgetting is measured, if it is measured.

        Raises:
            UserError: the task's model has no likelihood of a text.
        """
        if not self.overrides.retention:
            return None
        check_measurable(task.head)
        return self.once("retention", lambda: general_text_at(self.location).revision())

    def resolved(self, expression: str, task: Task) -> tuple[Setting, TrainingSettings]:
        """Return the setting and training of a method on a task, the same for all seeds."""
        choice = self.methods[expression]
        return self.once(
            ("setting", expression, task.name), lambda: (self.setting(choice, task), self.training(choice, task))
        )

    def fitted(self, choice: ResolvedMethod, task: Task, budget: Budget) -> Fit:
        """Return how a method meets a budget, the same for all seeds."""
        setting = self.setting(choice, task)
        return self.once(
            ("fit", choice.method.name, setting.model_dump_json(), task.name, budget),
            lambda: self._fit(choice, setting, task, budget),
        )

    def _fit(self, choice: ResolvedMethod, setting: Setting, task: Task, budget: Budget) -> Fit:
        self.say(f"fitting {choice.method.name} to {budget.text} on {task.name}")
        mode = self.overrides.budget_mode
        return fit(choice.method, setting, budget, self.architecture(task), mode, self.given(choice))

    def architecture(self, task: Task) -> Architecture:
        """Return the base model under the head of a task, for counting parameters."""
        model = self.base_model(task)
        return self.once(("architecture", model.name, task.head), lambda: Architecture(model, task.head))

    def setting(self, choice: ResolvedMethod, task: Task) -> Setting:
        """Return the setting of a method on a task, before it is fitted to a budget.

        A default that is written out is left out: with it or without it, it is one run.
        """
        found = setting_of(self.suite, task, choice, self.given(choice), self.preset(choice, task))
        return without_defaults(choice.method, found, lambda: self.architecture(task))

    def training(self, choice: ResolvedMethod, task: Task) -> TrainingSettings:
        """Return how a method is trained on a task."""
        training = training_of(
            self.suite, task, choice.method.name, self.sets.get(TRAINING, {}), self.preset(choice, task)
        )
        check_training(training, self.protocol, choice.method, task)
        return training

    def limits(self, task: Task) -> Limits:
        """Return at most how many examples are used: as the command says, or the suite."""
        given, of_suite = self.overrides, self.suite
        return Limits(
            given.limit or of_suite.on(task, "limit"), given.evaluation_limit or of_suite.on(task, "evaluation_limit")
        )

    def given(self, choice: ResolvedMethod) -> dict[str, Any]:
        """Return what the expression of a method and the command line's ``--set`` give its options."""
        return by_hand(choice, self.sets)

    def fixed(self, choice: ResolvedMethod, setting: Setting) -> dict[str, Any]:
        """Return what the command gives a method's options, with ``None`` for a default that is written out.

        Args:
            choice: the method.
            setting: of its runs.
        """
        given = self.given(choice)
        return {name: None if getattr(setting, name) is None else value for name, value in given.items()}

    @property
    def protocol(self) -> Protocol:
        """The protocol of every run. Runs that choose hyper-parameters are strict and never use the reported split."""
        if self.overrides.purpose is Purpose.SELECTION:
            return Protocol.STRICT
        return self.overrides.protocol or self.suite.protocol

    def preset(self, choice: ResolvedMethod, task: Task) -> TaskPreset | None:
        """Return the published values, if the suite asks for them and there are any."""
        found = find_preset(choice.registered, self.base_model(task).name, task.name) if self.suite.presets else None
        return found.on(task.name) if found else None

    def source(self, task: Task) -> DataSource:
        """Return where the data of a task comes from."""
        return self.once(("source", task.name), lambda: self.location.source(task))

    def data_revision(self, task: Task) -> str:
        """Return the revision of a task's data."""
        return self.once(("data", task.name), lambda: task.revision(self.source(task)))

    def configured(self, task: Task) -> Task:
        """Return a task under the suite's and the command line's options.

        What the suite sets for its own base model does not hold for another.
        """
        layers = [layer.options for layer in self.suite.layers(task)]
        if not self.suite.has_base_model(task, self.overrides.base_model):
            for_its_own = type(task.options).for_a_model
            layers = [{name: value for name, value in layer.items() if name not in for_its_own} for layer in layers]
        known = type(task.options).model_fields
        layers.append({name: value for name, value in self.overrides.options.items() if name in known})
        layers += [self.sets.get(owner, {}) for owner in dict.fromkeys((task.name.partition("/")[0], task.name))]
        return task.configured(merged(*layers))

    @cached_property
    def asked_tasks(self) -> dict[str, Task]:
        """The tasks asked for, with groups expanded, by name or file."""
        return {name: find_task(name) for name in expand_tasks(self.overrides.tasks or self.suite.tasks)}

    def base_model(self, task: Task) -> BaseModel:
        """Return the backbone of a task's runs."""
        name = self.overrides.base_model or self.suite.on(task, "base_model")
        return self.once(("base model", name), lambda: find_model(name))

    def model_revision(self, task: Task) -> str:
        """Return the revision of a task's backbone."""
        model = self.base_model(task)
        return self.once(("model", model.name), lambda: model.weights.revision(self.lock))

    def say(self, text: str) -> None:
        """Announce a step that can take seconds."""
        if self.announce:
            self.announce(text)

    def once(self, key: Hashable, find: Callable[[], T]) -> T:
        """Return the cached value of ``key``, or compute it: runs share nearly everything that they consist of."""
        if key not in self._found:
            self._found[key] = find()
        return cast(T, self._found[key])

    @cached_property
    def _found(self) -> dict[Hashable, Any]:
        return {}

    @cached_property
    def sets(self) -> dict[str, dict[str, Any]]:
        """The command line's ``--set`` by method, task or task group."""
        names = [name for choice in self.methods.values() for name in choice.setting_names]
        for task in self.asked_tasks.values():
            names += [task.name.partition("/")[0], task.name]
        return read_sets(self.overrides.sets, dict.fromkeys(names))
