"""Chooses hyper-parameters: the same number of trials, steps and seeds for every method, on the selection split alone.

A trial is a few runs like any other, of purpose ``selection``: they see neither the reported split nor the seeds that
are reported later. The sampler is seeded and asked one trial at a time, so the sequence of trials follows from the
records alone: an interrupted tuning is asked anew, finds what it has done in the store, and goes on. That needs no
database beside the records, which could contradict them. Methods and tasks are independent of each other: several
processes may tune different ones in one store at once.

All methods start from the same points of the unit cube (same seed, same first dimensions): what one method gains by a
lucky draw the others gain too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from bench.errors import UserError
from bench.overrides import Overrides
from bench.plan import make_plan, refuse_shared_seeds
from bench.planned import PlannedRun
from bench.protocol import Purpose
from bench.record import RunRecord, Status
from bench.store import Store
from bench.suite import Suite, TaskLayer, Tuning
from bench.validation import validated
from methods import find_method
from methods.base import Dimension, Method, Setting
from methods.expression import MethodChoice
from tasks.data.lock import RevisionLock

if TYPE_CHECKING:
    import optuna

Sampler = Literal["tpe", "random"]

SELECTION_SEEDS = (1001, 1002)
SAMPLER_SEED = 0

UPDATE_STEP = "update_step"
# Tuned for every method over the same range. It holds the published values (methods/presets) but for four of C3A's,
# which are below 1e-5: at such rates a new head hardly moves.
HEAD = Dimension("head_learning_rate", 1e-4, 1e-1)

# An optimum in the outer 5 % of a range, on its logarithmic scale, may lie beyond it.
EDGE = 0.05

# Does the runs that are not done, and returns the records of all, in their order.
DoRuns = Callable[[Sequence[PlannedRun]], list[RunRecord]]


@dataclass(frozen=True)
class Effort:
    """What every method gets alike.

    Attributes:
        trials: settings tried per method and task.
        seeds: runs per trial; never those of a report.
        sampler: ``tpe``, optuna's tree-structured Parzen estimator, whose first ten trials are random; or ``random``.
    """

    trials: int
    seeds: tuple[int, ...] = SELECTION_SEEDS
    sampler: Sampler = "tpe"


@dataclass(frozen=True)
class Trial:
    """A setting that was tried.

    Attributes:
        number: from 0.
        point: what was drawn, by dimension.
        changes: the fields of the method's setting that follow from it.
        score: mean over the seeds of the primary metric on the selection split; ``None`` where a run failed.
        reason: why there is no score, in words.
    """

    number: int
    point: Mapping[str, float]
    changes: Mapping[str, float]
    score: float | None
    reason: str = ""


@dataclass(frozen=True)
class Study:
    """The tuning of one method on one task.

    Attributes:
        runs: one run a seed, in the setting that the trials start from.
    """

    runs: tuple[PlannedRun, ...]

    @property
    def method(self) -> Method[Any]:
        """What is tuned."""
        return self.runs[0].method

    @property
    def task(self) -> str:
        """Name of the task it is tuned on."""
        return self.runs[0].spec.task

    @cached_property
    def space(self) -> tuple[Dimension, ...]:
        """The method's own dimensions, and the head's learning rate where that is not one of them."""
        own = self.method.search_space
        if not self.runs[0].task.head.is_new:  # there is nothing that this rate would move
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
        """Return the runs of a trial, one a seed."""
        setting = self.setting(changes).model_dump(mode="json")
        return [replace(run, spec=replace(run.spec, setting=setting)) for run in self.runs]


@dataclass(frozen=True)
class Tuned:
    """What a study came to.

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
    def edges(self) -> list[str]:
        """The dimensions in which the best lies at an end of the range, each a short phrase."""
        if self.best is None:
            return []
        return [text for dimension in self.study.space if (text := _edge(dimension, self.best.point[dimension.field]))]


def make_studies(suite: Suite, overrides: Overrides, effort: Effort, lock: RevisionLock) -> list[Study]:
    """Return what there is to tune, a study for each task and method.

    Raises:
        UserError: selection seeds are also reporting seeds, a tuned value is set by hand, there are several budgets, or
            anything `bench.plan.make_plan` complains of.
    """
    refuse_shared_seeds(effort.seeds, overrides.seeds or suite.seeds)
    if suite.tuning:
        raise UserError(f'the suite "{suite.name}" is tuned already; tune the one that it was made from')
    # What is tuned serves every share of the training split, and what a trial forgets nobody asks.
    trial = replace(overrides, seeds=effort.seeds, purpose=Purpose.SELECTION, train_fractions=(1.0,), retention=False)
    plan = make_plan(suite, trial, lock)
    if len({run.spec.budget["asked"] for run in plan.runs if run.spec.budget}) > 1:
        raise UserError("one budget is tuned at a time, because the best learning rate differs; give one to --budget")
    grouped: dict[tuple[str, str], list[PlannedRun]] = {}
    for run in plan.runs:
        # One that no budget fits has nothing to tune; the report says so.
        if run.skip is None:
            grouped.setdefault((run.spec.task, run.spec.method), []).append(run)
    if not grouped:
        raise UserError(f"there is nothing to tune: {plan.runs[0].skip}")
    studies = [Study(tuple(runs)) for runs in grouped.values()]
    choices = [find_method(expression) for expression in overrides.methods or suite.methods]
    for study in studies:
        if len(study.runs) != len(effort.seeds):
            raise UserError(f"{study.method.name} is named twice with different options; tune one of them at a time")
        _refuse_fixed(study, choices, overrides.sets)
    return studies


def tune(study: Study, effort: Effort, do_runs: DoRuns) -> Tuned:
    """Try settings one after the other, each chosen by what those before it came to."""
    import optuna
    from optuna.distributions import FloatDistribution
    from optuna.trial import TrialState

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = {dimension.field: FloatDistribution(dimension.low, dimension.high, log=True) for dimension in study.space}
    chooser = optuna.create_study(direction="maximize", sampler=_sampler(effort.sampler))
    trials: list[Trial] = []
    for number in range(effort.trials):
        asked = chooser.ask(space)  # type: ignore[arg-type]  # a dictionary of one kind of distribution
        changes = study.changes(asked.params)
        score, reason = _objective(do_runs(study.trial_runs(changes)))
        trials.append(Trial(number, dict(asked.params), changes, score, reason))
        # A failed trial is told as pruned: the sampler then holds it for worse than all with a score, and learns from
        # it. Told as failed it would be forgotten, and its neighbourhood tried again.
        chooser.tell(asked, score, state=TrialState.PRUNED if score is None else TrialState.COMPLETE)
    return Tuned(study, tuple(trials))


def tuned_suite(suite: Suite, overrides: Overrides, effort: Effort, found: Iterable[Tuned]) -> Suite:
    """Return the suite with the best settings laid over its own, task by task, and how they were found."""
    by_task = dict(suite.by_task)
    # What the command line says goes before what the suite says of a task, also when the tuned suite is run later.
    overridden = {
        name: None for name in ("base_model", "seeds", "limit", "evaluation_limit") if getattr(overrides, name)
    }
    by_task = {name: layer.model_copy(update=overridden) for name, layer in by_task.items()}
    notes: dict[str, dict[str, Any]] = {}
    for tuned in found:
        name, task, best = tuned.study.method.name, tuned.study.task, tuned.best
        notes.setdefault(task, {})[name] = _note(tuned)
        if best is not None:
            layer = by_task.get(task, TaskLayer())
            settings = {**layer.settings, name: {**layer.settings.get(name, {}), **best.changes}}
            by_task[task] = layer.model_copy(update={"settings": settings})
    base_model = overrides.base_model or suite.base_model
    changes = {
        "name": f"{suite.name}-tuned",
        "base_model": base_model,
        "methods": overrides.methods or suite.methods,
        "tasks": tuple(notes),
        "seeds": overrides.seeds or suite.seeds,
        "limit": overrides.limit or suite.limit,
        "evaluation_limit": overrides.evaluation_limit or suite.evaluation_limit,
        "protocol": overrides.protocol or suite.protocol,
        "by_task": by_task,
        "tuning": Tuning(
            trials=effort.trials,
            selection_seeds=effort.seeds,
            sampler=effort.sampler,
            sampler_seed=SAMPLER_SEED,
            base_model=base_model,
            budget=overrides.budgets,
            sets=overrides.sets,
            found=notes,
        ),
    }
    return suite.model_copy(update=changes)


def merged(earlier: Suite, new: Suite) -> Suite | None:
    """Return what two tunings found, the new one's going before; ``None`` where they were not done alike."""

    def conditions(suite: Suite) -> dict[str, Any]:
        what = {"methods", "tasks", "seeds", "protocol", "by_task"}
        return suite.model_dump(mode="json", exclude={**dict.fromkeys(what, True), "tuning": {"found"}})

    if earlier.tuning is None or new.tuning is None or conditions(earlier) != conditions(new):
        return None
    by_task, found = dict(earlier.by_task), dict(earlier.tuning.found)
    for task, notes in new.tuning.found.items():
        old, layer = by_task.get(task, TaskLayer()), new.by_task.get(task, TaskLayer())
        by_task[task] = layer.model_copy(update={"settings": {**old.settings, **layer.settings}})
        found[task] = {**found.get(task, {}), **notes}
    return new.model_copy(
        update={
            "methods": tuple(dict.fromkeys((*earlier.methods, *new.methods))),
            "tasks": tuple(dict.fromkeys((*earlier.tasks, *new.tasks))),
            "by_task": by_task,
            "tuning": new.tuning.model_copy(update={"found": found}),
        }
    )


def runs_from(store: Store, execute: Callable[[Sequence[PlannedRun]], Iterable[RunRecord]]) -> DoRuns:
    """Return a function that takes the records of runs from the store, and has those made that are not there.

    A run that diverged is not done again, unlike in a report: a learning rate too large is what a trial finds out.
    """

    def recorded(run: PlannedRun) -> RunRecord | None:
        found = store.load(run.spec.run_id)
        return found if isinstance(found, RunRecord) and found.status in (Status.OK, Status.DIVERGED) else None

    def do_runs(runs: Sequence[PlannedRun]) -> list[RunRecord]:
        known = {run.spec.run_id: record for run in runs if (record := recorded(run))}
        waiting = [run for run in runs if run.spec.run_id not in known]
        known.update((record.run_id, record) for record in execute(waiting))
        return [known[run.spec.run_id] for run in runs]

    return do_runs


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
    import warnings

    import torch
    from peft.tuners.tuners_utils import BaseTunerLayer

    from methods.architecture import module_names

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # What peft warns of here it warns of again in the run itself.
        warnings.simplefilter("ignore")
        base = run.base_model.skeleton(run.task.head)
        model = run.method.adapt(base, module_names(base), run.setting)
    layers = (module for module in model.modules() if isinstance(module, BaseTunerLayer))
    return [(int(layer.out_features), int(layer.in_features)) for layer in layers]  # type: ignore[arg-type]


def _sampler(kind: Sampler) -> optuna.samplers.BaseSampler:
    import optuna

    if kind == "random":
        return optuna.samplers.RandomSampler(seed=SAMPLER_SEED)
    return optuna.samplers.TPESampler(seed=SAMPLER_SEED)


def _objective(records: Sequence[RunRecord]) -> tuple[float | None, str]:
    """Return the mean score of a trial's runs, or why there is none."""
    for record in records:
        if record.status is not Status.OK:
            return None, f"{record.status.replace('_', ' ')}, {record.reason}"
    scores = [record.selection_score for record in records]
    finite = [score for score in scores if score is not None and math.isfinite(score)]
    if len(finite) < len(scores):
        metric = records[0].selection_primary or records[0].primary
        return None, f"{metric} of the selection split is not defined"
    return math.fsum(finite) / len(finite), ""


def _edge(dimension: Dimension, value: float) -> str:
    place = math.log(value / dimension.low) / math.log(dimension.high / dimension.low)
    if EDGE <= place <= 1 - EDGE:
        return ""
    end = "low" if place < EDGE else "high"
    return f"{dimension.field} {value:.3g} is at the {end} end of {dimension.low:g} to {dimension.high:g}"


def _note(tuned: Tuned) -> dict[str, Any]:
    """Return a study as what YAML can hold."""
    best = tuned.best
    return {
        "best": best.number if best else None,
        "score": best.score if best else None,
        "metric": tuned.study.runs[0].task.selected_by.primary,
        "edges": tuned.edges,
        "trials": [
            {**trial.point, "score": trial.score, **({"reason": trial.reason} if trial.reason else {})}
            for trial in tuned.trials
        ],
    }


def _refuse_fixed(study: Study, choices: Iterable[MethodChoice], sets: Iterable[str]) -> None:
    tuned = {"learning_rate" if dimension.field == UPDATE_STEP else dimension.field for dimension in study.space}
    choice = next(choice for choice in choices if choice.method.name == study.method.name)
    fixed = [f"{choice.registered}({field}=...)" for field in choice.values if field in tuned]
    for text in sets:
        owner, _, field = text.partition("=")[0].rpartition(".")
        if field in tuned and owner in (choice.method.name, choice.registered):
            fixed.append(f"--set {text}")
    if fixed:
        raise UserError(f'"{fixed[0]}" fixes what is tuned; leave it out')
