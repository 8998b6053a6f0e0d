"""A study: the trials of one method on one task and base model."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import optuna
import torch
from peft.tuners.tuners_utils import BaseTunerLayer

from parbench.bench.plan.overrides import Overrides
from parbench.bench.plan.planned_run import PlannedRun
from parbench.bench.plan.planner import make_plan, refuse_shared_seeds
from parbench.bench.plan.suite import Suite
from parbench.bench.train.protocol import Purpose
from parbench.bench.tune import Sampler
from parbench.bench.util.errors import UserError
from parbench.bench.util.validation import validated
from parbench.methods import find_method
from parbench.methods.architecture import module_names
from parbench.methods.base import Dimension, Method, Setting
from parbench.methods.declaration import UPDATE_STEP
from parbench.methods.expression import ResolvedMethod
from parbench.tasks.data.lock import RevisionLock
from parbench.tasks.metrics.units import SHARES_OF_EXAMPLES

SELECTION_SEEDS = (1001, 1002)
SAMPLER_SEED = 0
# A power of two, at which Sobol's points are most even; as many as the random start of optuna's estimator, nearly.
DESIGNED = 8

# Tuned for every method over the same range. It holds the published values (methods/presets) but for four of C3A's,
# which are below 1e-5: at such rates a new head hardly moves. VL-BART on videos, trained in full, has one rate for all.
HEAD = Dimension("head_learning_rate", 1e-4, 1e-1)

# An optimum in the outer eighth of a range, on its logarithmic scale, may lie beyond it: a design of eight trials has
# one point there, and none is farther out. Where the best known setting of a method lay there, in a suite or a study
# that comes with parbench, its search space was extended at that end by a factor of about three.
EDGE = 1 / DESIGNED


@dataclass(frozen=True)
class TuningBudget:
    """The tuning effort, the same for every method.

    Attributes:
        trials: settings tried per method and task.
        seeds: runs per trial; never those of a report.
        sampler: ``tpe``, optuna's tree-structured Parzen estimator, which begins with a space-filling design; or
            ``random``.
    """

    trials: int
    seeds: tuple[int, ...] = SELECTION_SEEDS
    sampler: Sampler = "tpe"

    @property
    def runs(self) -> int:
        """The number of runs per method and task."""
        return self.trials * len(self.seeds)

    @property
    def designed(self) -> int:
        """The number of first trials that the design gives; all of a short search."""
        return 0 if self.sampler == "random" else min(self.trials, DESIGNED)


@dataclass(frozen=True)
class Trial:
    """A setting that was tried.

    Attributes:
        number: from 0.
        point: what was drawn, by dimension.
        changes: the fields of the method's setting that follow from it.
        score: mean over the seeds of the primary metric on the selection split; ``None`` where a run failed.
        reason: why there is no score, in words.
        examples: number of examples of the selection split.
    """

    number: int
    point: Mapping[str, float]
    changes: Mapping[str, float]
    score: float | None
    reason: str = ""
    examples: int = 0


@dataclass(frozen=True)
class Study:
    """The tuning of one method on one task.

    Attributes:
        runs: one run per seed, in the setting that the trials start from.
        budget: as it was asked for, also where the size of the method is fixed.
    """

    runs: tuple[PlannedRun, ...]
    budget: str | None = None

    @property
    def method(self) -> Method[Any]:
        """The method that is tuned."""
        return self.runs[0].method

    @property
    def task(self) -> str:
        """Name of the task it is tuned on."""
        return self.runs[0].spec.task

    @cached_property
    def space(self) -> tuple[Dimension, ...]:
        """The method's own dimensions, and the head's learning rate where that is not one of them."""
        own = self.method.search_space
        if self.runs[0].task.kind == "language_model":  # no parameter has this learning rate
            return tuple(dimension for dimension in own if dimension.field != HEAD.field)
        return own if any(dimension.field == HEAD.field for dimension in own) else (*own, HEAD)

    @cached_property
    def shapes(self) -> list[tuple[int, int]]:
        """The shapes (out, in) of the adapted weights on the real architecture; nothing is loaded."""
        return adapted_shapes(self.runs[0])

    def changes(self, point: Mapping[str, float]) -> dict[str, float]:
        """Return the setting's fields at a point of the space.

        Raises:
            UserError: the method is searched by update step and has no constant atom norm.
        """
        fields = {name: value for name, value in point.items() if name != UPDATE_STEP}
        if UPDATE_STEP in point:
            setting = self.setting(fields)
            fields["learning_rate"] = point[UPDATE_STEP] / mean_atom_norm(self.method, setting, self.shapes)
        return fields

    def setting(self, changes: Mapping[str, float]) -> Setting:
        """Return the setting of a trial."""
        values = {**self.runs[0].setting.model_dump(), **changes}
        return validated(self.method.setting_type, values, f"the setting of {self.method.name} on {self.task}")

    def trial_runs(self, changes: Mapping[str, float]) -> list[PlannedRun]:
        """Return the runs of a trial, one per seed."""
        setting = self.setting(changes).model_dump(mode="json")
        return [replace(run, spec=replace(run.spec, setting=setting)) for run in self.runs]


@dataclass(frozen=True)
class StudyResult:
    """The result of a study.

    Attributes:
        study: what was tuned.
        trials: all of them, in order.
    """

    study: Study
    trials: tuple[Trial, ...]

    @property
    def best(self) -> Trial | None:
        """The trial with the highest score, the first of equals; ``None`` where all failed."""
        scored = [trial for trial in self.trials if trial.score is not None]
        return max(scored, key=lambda trial: trial.score or 0.0, default=None)

    @property
    def tied(self) -> list[Trial]:
        """The other trials that the best is ahead of by one example or less: which of them is best is chance.

        Known of shares of right answers; of other metrics an example has no fixed weight.
        """
        best = self.best
        if best is None or best.score is None or self.metric not in SHARES_OF_EXAMPLES or not best.examples:
            return []
        # Scores are means of shares: rounding must not part what differs by one example exactly.
        least = best.score - 1.001 / best.examples
        return [one for one in self.trials if one is not best and one.score is not None and one.score >= least]

    @property
    def metric(self) -> str:
        """The metric of the selection split."""
        return self.study.runs[0].task.selected_by.primary

    @property
    def at_bounds(self) -> list[str]:
        """The dimensions in which the best lies at an end of the range: phrases that begin with their names."""
        if self.best is None:
            return []
        return [text for dimension in self.study.space if (text := _edge(dimension, self.best.point[dimension.field]))]


def make_studies(suite: Suite, overrides: Overrides, effort: TuningBudget, lock: RevisionLock) -> list[Study]:
    """Return the studies of a suite, one for each task and method.

    Raises:
        UserError: selection seeds are also reporting seeds, a tuned value is set by hand, there are several budgets, or
            a reason for which `parbench.bench.plan.planner.make_plan` raises.
    """
    refuse_shared_seeds(effort.seeds, overrides.seeds or suite.seeds)
    if suite.tuning and not suite.is_shipped:
        raise UserError(f'the suite "{suite.name}" is tuned already; tune the one that it was made from')
    # Tune once, on the full training split, and without measuring forgetting.
    trial = replace(overrides, seeds=effort.seeds, purpose=Purpose.SELECTION, train_fractions=(1.0,), retention=False)
    # The settings that a suite was tuned to do not matter: each trial replaces them.
    plan = make_plan(suite.model_copy(update={"tuning": None}), trial, lock)
    budgets = {run.spec.budget["asked"] for run in plan.runs if run.spec.budget} or {plan.budget}
    if len(budgets) > 1:
        raise UserError("one budget is tuned at a time, because the best learning rate differs; give one to --budget")
    if len({run.spec.base_precision for run in plan.runs}) > 1:
        raise UserError("one precision of the base weights is tuned at a time; give one to --base-precision")
    grouped: dict[tuple[str, str], list[PlannedRun]] = {}
    for run in plan.runs:
        # One that no budget fits has nothing to tune; the report says so.
        if run.skip is None:
            grouped.setdefault((run.spec.task, run.spec.method), []).append(run)
    if not grouped:
        raise UserError(f"there is nothing to tune: {plan.runs[0].skip}")
    studies = [Study(tuple(runs), *budgets) for runs in grouped.values()]
    choices = [find_method(expression) for expression in overrides.methods or suite.methods]
    for study in studies:
        if len(study.runs) != len(effort.seeds):
            raise UserError(f"{study.method.name} is named twice with different options; tune one of them at a time")
        _refuse_fixed(study, choices, overrides.sets)
    return studies


def mean_atom_norm(method: Method[Any], setting: Setting, shapes: Sequence[tuple[int, int]]) -> float:
    """Return the atom norm of a method; where adapted weights differ in shape, the geometric mean over the weights.

    One learning rate then stands for update steps that differ by weight; on the logarithmic scale of the search it is
    in their middle.

    Raises:
        UserError: the method has none, or adapts no weight.
    """
    norms = [method.atom_norm(setting, shape) for shape in shapes]
    known = [norm for norm in norms if norm is not None]
    if not known or len(known) < len(norms):
        raise UserError(
            f'the method "{method.name}" is searched by {UPDATE_STEP}, which needs the constant norm of its atoms '
            "(Method.atom_norm) on the weights that it adapts; search its learning_rate instead"
        )
    return math.exp(sum(map(math.log, known)) / len(known))


def adapted_shapes(run: PlannedRun) -> list[tuple[int, int]]:
    """Return the shapes (out, in) of the weights that a run's method adapts, counted on an empty architecture."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # peft's warnings are repeated in the run itself.
        warnings.simplefilter("ignore")
        base = run.base_model.skeleton(run.task.head)
        model = run.method.adapt(base, module_names(base), run.setting)
    layers = (module for module in model.modules() if isinstance(module, BaseTunerLayer))
    return [(int(layer.out_features), int(layer.in_features)) for layer in layers]  # type: ignore[arg-type]


def make_sampler(effort: TuningBudget) -> optuna.samplers.BaseSampler:
    """Return a seeded sampler of optuna for what follows the design."""
    if effort.sampler == "random":
        return optuna.samplers.RandomSampler(seed=SAMPLER_SEED)
    return optuna.samplers.TPESampler(seed=SAMPLER_SEED, n_startup_trials=effort.designed)


def _edge(dimension: Dimension, value: float) -> str:
    place = math.log(value / dimension.low) / math.log(dimension.high / dimension.low)
    if EDGE <= place <= 1 - EDGE:
        return ""
    end = "low" if place < EDGE else "high"
    return f"{dimension.field} {value:.3g} is at the {end} end of {dimension.low:g} to {dimension.high:g}"


def _refuse_fixed(study: Study, choices: Iterable[ResolvedMethod], sets: Iterable[str]) -> None:
    tuned = {"learning_rate" if dimension.field == UPDATE_STEP else dimension.field for dimension in study.space}
    choice = next(choice for choice in choices if choice.method.name == study.method.name)
    fixed = [f"{choice.registered}({field}=...)" for field in choice.values if field in tuned]
    for text in sets:
        owner, _, field = text.partition("=")[0].rpartition(".")
        if field in tuned and owner in (choice.method.name, choice.registered):
            fixed.append(f"--set {text}")
    if fixed:
        raise UserError(f'"{fixed[0]}" fixes what is tuned; leave it out')
