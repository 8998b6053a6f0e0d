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
from collections.abc import Callable, Iterable, Sequence

import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from parbench.bench.plan.planned_run import PlannedRun
from parbench.bench.record.run_record import RunRecord, Status
from parbench.bench.store.store import Store
from parbench.bench.tune.study import Study, StudyResult, Trial, TuningBudget, make_sampler

# Does the runs that are not done, and returns the records of all, in their order.
DoRuns = Callable[[Sequence[PlannedRun]], list[RunRecord]]


def tune(study: Study, effort: TuningBudget, do_runs: DoRuns) -> StudyResult:
    """Try settings one after the other, each chosen by what those before it came to."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = {dimension.field: FloatDistribution(dimension.low, dimension.high, log=True) for dimension in study.space}
    chooser = optuna.create_study(direction="maximize", sampler=make_sampler(effort.sampler))
    trials: list[Trial] = []
    for number in range(effort.trials):
        asked = chooser.ask(space)  # type: ignore[arg-type]  # a dictionary of one kind of distribution
        changes = study.changes(asked.params)
        score, reason = _objective(do_runs(study.trial_runs(changes)))
        trials.append(Trial(number, dict(asked.params), changes, score, reason))
        # A failed trial is told as pruned: the sampler then holds it for worse than all with a score, and learns from
        # it. Told as failed it would be forgotten, and its neighbourhood tried again.
        chooser.tell(asked, score, state=TrialState.PRUNED if score is None else TrialState.COMPLETE)
    return StudyResult(study, tuple(trials))


def cached_trials(store: Store, execute: Callable[[Sequence[PlannedRun]], Iterable[RunRecord]]) -> DoRuns:
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
