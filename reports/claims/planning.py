"""From claims to the runs that test them, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from parbench.bench.plan.overrides import Overrides
from parbench.bench.plan.planned_run import PlannedRun
from parbench.bench.plan.planner import Plan, make_plan
from parbench.bench.plan.suite import load_suite
from parbench.bench.util.errors import UserError, did_you_mean
from parbench.reports.claims.claim import Claim, ClaimFile, SetUp, Side, sets_of
from parbench.tasks.data.lock import RevisionLock

# What the sides of claims may differ in; two that do not are planned once.
_CHANGED = (
    *("methods", "tasks", "base_model", "seeds", "limit", "evaluation_limit", "sets", "budgets"),
    "train_fractions",
)


@dataclass(frozen=True)
class ClaimPlan:
    """The runs of several claims.

    Attributes:
        plan: every run once, in the order of the claims.
        runs_of: by name of a claim and by its side, the ids of the runs.
    """

    plan: Plan
    runs_of: Mapping[str, Mapping[str, tuple[str, ...]]]


def plan_claims(
    claims: Iterable[ClaimFile],
    lock: RevisionLock,
    data_root: Path | None = None,
    announce: Callable[[str], None] | None = None,
) -> ClaimPlan:
    """Return the runs that judging the claims takes.

    Args:
        claims: each has a set-up.
        lock: the revisions that the store has pinned.
        data_root: read the data from this folder.
        announce: called with a line of text before each step that can take seconds.

    Raises:
        UserError: a claim has no set-up, or one of its runs cannot be planned.
    """
    known: dict[Hashable, Plan] = {}
    plans: dict[str, dict[str, Plan]] = {}
    for one in claims:
        claim = one.claim
        if claim.here is None:
            raise UserError(f'the claim "{claim.name}" cannot be tested here: {claim.not_testable}')
        sides = plans.setdefault(claim.name, {})
        for side in (claim.row, *claim.against):
            overrides = side_overrides(side, claim.here, data_root)
            key = (claim.here.suite, *(getattr(overrides, name) for name in _CHANGED))
            try:
                if key not in known:
                    known[key] = make_plan(load_suite(claim.here.suite), overrides, lock, announce)
            except UserError as error:
                raise UserError(f'the claim "{claim.name}": {error}') from error
            sides[str(side)] = known[key]
        _refuse_skipped(claim, sides.values())
        _check_scores(claim, (run for part in sides.values() for run in part.runs))
    if not plans:
        raise UserError("there are no claims to run; name some, see bench list claims")
    parts = [part for sides in plans.values() for part in sides.values()]
    runs = {run.spec.run_id: run for part in parts for run in part.runs}
    notes = dict.fromkeys(note for part in parts for note in part.notes)
    runs_of = {
        name: {side: tuple(run.spec.run_id for run in part.runs) for side, part in sides.items()}
        for name, sides in plans.items()
    }
    return ClaimPlan(Plan(parts[0].suite, list(runs.values()), list(notes)), runs_of)


def _refuse_skipped(claim: Claim, plans: Iterable[Plan]) -> None:
    """Check that every run can be done: a claim with a side that has no score cannot be judged."""
    skipped = dict.fromkeys(_reason(run) for plan in plans for run in plan.runs if run.skip)
    if skipped:
        raise UserError(f'the claim "{claim.name}" cannot be tested: {"; ".join(skipped)}')


def _check_scores(claim: Claim, runs: Iterable[PlannedRun]) -> None:
    """Check that the runs will have the scores that the claim is judged by."""
    for run in {run.spec.task: run for run in runs}.values():
        task = run.task
        if claim.metric not in (None, task.primary):
            reason = (
                f"a claim is judged by the primary metric of {task.name}, {task.primary}, and not by {claim.metric}"
            )
            raise UserError(f'the claim "{claim.name}": {reason}; leave metric out')
        if claim.subsets:
            known = sorted(set(task.splits(run.source, run.spec.limit).reported["subset"]))
            if lacking := [name for name in claim.subsets if name not in known]:
                reason = f"{task.name} has no subset {lacking[0]}{did_you_mean(lacking[0], known)}"
                raise UserError(f'the claim "{claim.name}": {reason}')


def _reason(run: PlannedRun) -> str:
    return f"{run.spec.method} on {run.spec.task}: {run.skip}"


def side_overrides(side: Side, here: SetUp, data_root: Path | None = None) -> Overrides:
    """Return what a side of a claim changes of the suite."""
    steps = side.steps or here.steps
    sets = (*sets_of(side, here), *([f"train.max_steps={steps}"] if steps else []))
    return Overrides(
        methods=(side.method,),
        tasks=here.tasks,
        base_model=here.base_model,
        seeds=here.seeds,
        limit=here.limit,
        evaluation_limit=here.evaluation_limit,
        sets=sets,
        data_root=data_root,
        budgets=side.budget or here.budget,
        train_fractions=(side.train_fraction or here.train_fraction,),
    )
