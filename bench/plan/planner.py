"""From a suite and the command line to the list of runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from parbench.bench.models.catalogue import find_model
from parbench.bench.plan.asked_budget import on_its_own_models
from parbench.bench.plan.names import refuse_unknown_names
from parbench.bench.plan.overrides import Overrides
from parbench.bench.plan.planned_run import PlannedRun
from parbench.bench.plan.resolve import Resolver
from parbench.bench.plan.run_planner import RunPlanner
from parbench.bench.plan.suite import Suite, SuiteChoice, choose_suite
from parbench.bench.plan.tuning import differences_from_tuning
from parbench.bench.util.errors import UserError
from parbench.tasks.data.hub import obstacle
from parbench.tasks.data.lock import RevisionLock


@dataclass(frozen=True)
class Plan:
    """The runs of one command, in the order of execution.

    Attributes:
        suite: the suite.
        runs: the runs, each once.
        notes: tasks that were left out of a group, with the reason, and differences from the tuning of the suite.
        budget: the budgets as they were asked for; runs of methods of fixed size have none of their own.
    """

    suite: Suite
    runs: list[PlannedRun]
    notes: list[str] = field(default_factory=list)
    budget: str | None = None


def make_plan(
    suite: Suite, overrides: Overrides, lock: RevisionLock, announce: Callable[[str], None] | None = None
) -> Plan:
    """Resolve every name, setting and revision; nothing is trained and no weights are loaded.

    Args:
        announce: called with a line of text before each step that can take seconds.

    Raises:
        UserError: a name, a setting or a value is wrong, the data of a task asked for by name is missing, or no method
            can be put on its base model.
    """
    resolver = Resolver(suite, overrides, lock, announce)
    planner = RunPlanner(resolver)
    tasks, notes = resolver.tasks()
    refuse_unknown_names(suite, [task.name for task in resolver.asked_tasks.values()])
    if suite.tuning:
        refuse_shared_seeds(suite.tuning.selection_seeds, overrides.seeds or suite.seeds)
        own = on_its_own_models(suite, overrides, resolver.asked_tasks.values())
        notes += differences_from_tuning(suite, suite.tuning, overrides, resolver.asked_budget.text, own)
    notes += filter(None, [resolver.asked_budget.note])
    runs = [
        run
        for task in tasks
        for budget in resolver.budgets(task)
        for fraction in overrides.train_fractions
        for precision in overrides.base_precisions or suite.base_precisions
        # Methods innermost, so that an interrupted comparison has all methods for some seeds and not the reverse.
        for seed in overrides.seeds or suite.on(task, "seeds")
        for run in (planner.run(method, task, seed, budget, fraction, precision) for method in resolver.methods)
    ]
    if resolver.asked_budget.text is None:
        _refuse_if_none_can_run(runs)
    # One method under two names is one run, and so is one whose size is the same at every budget.
    distinct = {run.spec.run_id: run for run in runs}
    return Plan(suite, list(distinct.values()), notes, resolver.asked_budget.text)


def _refuse_if_none_can_run(runs: Iterable[PlannedRun]) -> None:
    reasons = {f"{run.spec.method} on {run.spec.base_model}: {run.skip}" if run.skip else "" for run in runs}
    if "" not in reasons:
        raise UserError(f"there is nothing to run: {'; '.join(sorted(reasons))}")


def repeated(plan: Plan, times: int) -> Plan:
    """Return a plan of ``times`` repetitions of the first run, which differ only by what is not deterministic."""
    first = plan.runs[0]
    return replace(plan, runs=[replace(first, spec=replace(first.spec, repeat=number)) for number in range(times)])


def refuse_shared_seeds(selection: Iterable[int], reporting: Iterable[int]) -> None:
    """Check that no seed is used both for selection and for reporting.

    Raises:
        UserError: some are.
    """
    shared = sorted(set(selection) & set(reporting))
    if shared:
        raise UserError(
            f"the seeds {', '.join(map(str, shared))} would both choose the settings and be reported; "
            "give other --seeds, or other --selection-seeds"
        )


def choose_suite_for(name: str, overrides: Overrides) -> SuiteChoice:
    """Return the suite called ``name``; for ``auto`` the full suite if this machine can run it, else the miniature."""

    def unreachable(suite: Suite) -> str | None:
        wanted = find_model(overrides.base_model or suite.base_model).weights
        repositories = [wanted.location()] if wanted.on_hub else []
        return next((reason for name in repositories if (reason := obstacle(name))), None)

    return choose_suite(name, unreachable)
