"""Makes planned runs: checked, fitted to their budget, with remarks for readers of their records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from parbench.bench.budget.budget import Budget
from parbench.bench.plan.model_checks import check_model, refusal, refused_precision
from parbench.bench.plan.names import AskedNames
from parbench.bench.plan.planned_run import PlannedRun
from parbench.bench.plan.resolve import Resolver
from parbench.bench.plan.tuning import untuned
from parbench.bench.record.code_hashes import harness_code, method_code
from parbench.bench.record.run_spec import RunSpec
from parbench.bench.train.input_checks import check_length
from parbench.bench.train.settings import TrainingSettings
from parbench.bench.util.base_precision import DESCRIPTIONS, FLOAT32, QUANTISED, BasePrecision
from parbench.bench.util.errors import UserError
from parbench.methods.base import Method, Setting
from parbench.methods.expression import ResolvedMethod, default_setting
from parbench.tasks import task_code
from parbench.tasks.base import Task


@dataclass(frozen=True)
class RunPlanner:
    """Makes the runs of one command.

    Attributes:
        shared: what they share.
    """

    shared: Resolver

    def run(
        self,
        expression: str,
        task: Task,
        seed: int,
        budget: Budget | None,
        fraction: float = 1.0,
        precision: BasePrecision = FLOAT32,
    ) -> PlannedRun:
        """Return one run with its setting and training resolved, checked and fitted to the budget."""
        shared = self.shared
        choice = shared.methods[expression]
        setting, training = shared.resolved(expression, task)
        self.check_inputs(choice, setting, training, task)
        fixed = shared.fixed(choice, setting)
        budget = budget if choice.method.size_knob else None  # else one run for all budgets
        setting, skip, notes = self.sized(choice, setting, task, budget)
        if precision != FLOAT32:
            skip = skip or self.refused_precision(choice.method, task, precision)
            notes += (f"base weights: {DESCRIPTIONS[precision]}",)
        notes += untuned(shared.suite, shared.overrides, task, choice, precision, fixed, fraction)
        limits = shared.limits(task)
        spec = RunSpec(
            suite=shared.suite.name,
            small=shared.suite.small,
            protocol=shared.protocol.value,
            task=task.name,
            base_model=shared.base_model(task).name,
            method=choice.method.name,
            setting=setting.model_dump(mode="json"),
            training=training.deciding(),
            budget=budget.as_json(shared.overrides.budget_mode) if budget else None,
            seed=seed,
            limit=limits.limit,
            data_source=shared.once(("data source", task.name), lambda: task.describe(shared.source(task))),
            data_revision=shared.data_revision(task),
            model_revision=shared.model_revision(task),
            method_code=method_code(choice),
            task_code=task_code(task),
            harness_code=harness_code(),
            purpose=shared.overrides.purpose.value,
            options=task.options.deciding(),
            definition=dict(task.definition) if task.definition else None,
            train_fraction=fraction,
            evaluation_limit=limits.evaluation_limit,
            retention=shared.retention_revision(task),
            base_precision=precision,
        )
        not_deciding = {"training": training.not_deciding(), "options": task.options.not_deciding()}
        return PlannedRun(spec, self.asked(expression, task), shared.location, skip, notes, not_deciding)

    def sized(
        self, choice: ResolvedMethod, setting: Setting, task: Task, budget: Budget | None
    ) -> tuple[Setting, str | None, tuple[str, ...]]:
        """Return a setting fitted to the budget, why the run must be skipped, if so, and remarks on its size."""
        if budget is None:
            reason = self.refusal(choice, setting, task)
            self.refuse_suite(choice, setting, task, reason)
            return setting, reason, ()
        fitted = self.shared.fitted(choice, task, budget)
        if fitted.setting is None:
            self.refuse_suite(choice, setting, task, fitted.refusal)
            return setting, fitted.note, ()
        return fitted.setting, None, (fitted.note,) if fitted.note else ()

    def check_inputs(self, choice: ResolvedMethod, setting: Setting, training: TrainingSettings, task: Task) -> None:
        """Check that the base model and the task fit, and that inputs are not longer than the model takes."""
        model = self.shared.base_model(task)
        limit = self.shared.once(
            # The shape of a model that is known here is that of every revision.
            ("input limit", model.name, task.name),
            lambda: check_model(model, "" if model.shape else self.shared.model_revision(task), task),
        )
        if task.modality.has_text:
            check_length(training.max_length, limit, choice.method.virtual_tokens(setting), model.name)

    def refusal(self, choice: ResolvedMethod, setting: Setting, task: Task) -> str | None:
        """Return why a method cannot be put on the base model, as far as is known without weights.

        It is tried once for all tasks of one auto class: the labels of a head do not matter.
        """
        model = self.shared.base_model(task)
        chosen = bool(self.shared.given(choice))

        def find() -> str | None:
            self.shared.say(f"checking {choice.method.name} on {model.name}")
            return refusal(choice.method, setting, self.shared.architecture(task), chosen)

        method = (choice.method.name, setting.model_dump_json(), chosen)
        return self.shared.once(("refusal", *method, model.name, task.head.auto_class), find)

    def refuse_suite(self, choice: ResolvedMethod, setting: Setting, task: Task, reason: str | None) -> None:
        """Check that a base model does not refuse a method for what the suite sets.

        Such a mistake is named before any run, as that of the command line is. But a suite that comes with parbench is
        also the start for base models that its values are not for: there the run is skipped.

        Args:
            reason: why the method cannot be put on the base model, if so.

        Raises:
            UserError: it takes the method with the method's own values.
        """
        suite, plain = self.shared.suite, default_setting(choice)
        for_others = suite.is_shipped and not suite.has_base_model(task, self.shared.overrides.base_model)
        if reason is None or for_others or setting == plain:
            return
        architecture = self.shared.architecture(task)
        if refusal(choice.method, plain, architecture, chosen=False) is None:
            where = f'the suite "{suite.name}", {choice.method.name} on {architecture.base_model.name}'
            raise UserError(f"{where}: {reason}")

    def refused_precision(self, method: Method[Any], task: Task, precision: BasePrecision) -> str | None:
        """Return why a method does not work on base weights of a precision, see `model_checks.refused_precision`."""
        model = self.shared.base_model(task)

        def find() -> str | None:
            if precision in QUANTISED:
                self.shared.say(f"trying {method.name} on {precision} weights")
            config = model.config("" if model.shape else self.shared.model_revision(task))
            return refused_precision(method, precision, config.model_type, task)

        return self.shared.once(("precision", method.name, precision, model.name, task.head.auto_class), find)

    def asked(self, expression: str, task: Task) -> AskedNames:
        """Return the names that the command uses for a run of a method on a task."""
        return AskedNames(
            method=expression,
            task=next(asked for asked, plain in self.shared.asked_tasks.items() if plain.name == task.name),
            base_model=self.shared.overrides.base_model or self.shared.suite.on(task, "base_model"),
        )
