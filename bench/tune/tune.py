"""Chooses hyper-parameters: the same number of trials, steps and seeds for every method, on the selection split alone.

A trial is a few runs like any other, of purpose ``selection``: they use neither the reported split nor the seeds that
are reported later. The sampler is seeded and asked for one trial at a time, so the trials of a study follow from the
records alone: an interrupted tuning asks again from the start, finds its earlier trials in the store, and continues.
That needs no database beside the records, which could contradict them. Studies are independent of each other: they run
side by side, in one process or several, and find the same for any number of workers.

All methods start from the same points of the unit cube, which fill it evenly (`bench.tune.design`), so that no method
gains by a lucky draw that the others do not have. What follows is the sampler's choice, which learns from them.
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
from parbench.bench.tune.design import first_points
from parbench.bench.tune.study import Study, StudyResult, Trial, TuningBudget, make_sampler

# Executes runs, and those that their records lead to.
Execute = Callable[[Sequence[PlannedRun], Callable[[RunRecord], Sequence[PlannedRun]]], Iterable[RunRecord]]


class Search:
    """One study in progress: asks for a trial's runs, and learns from their records.

    Args:
        study: what is tuned.
        effort: the number of trials, and how they are drawn.
    """

    def __init__(self, study: Study, effort: TuningBudget) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._study = study
        self._effort = effort
        self._space = {axis.field: FloatDistribution(axis.low, axis.high, log=True) for axis in study.space}
        self._chooser = optuna.create_study(direction="maximize", sampler=make_sampler(effort))
        for point in first_points(study.space, effort.designed):
            self._chooser.enqueue_trial(dict(point))
        self._asked: optuna.Trial | None = None
        self._trials: list[Trial] = []

    @property
    def result(self) -> StudyResult:
        """The trials so far."""
        return StudyResult(self._study, tuple(self._trials))

    def ask(self) -> list[PlannedRun]:
        """Return the runs of the next trial, one per seed; none where all trials are done."""
        if len(self._trials) == self._effort.trials:
            return []
        self._asked = self._chooser.ask(self._space)  # type: ignore[arg-type]  # a dictionary of one distribution
        return self._study.trial_runs(self._study.changes(self._asked.params))

    def tell(self, records: Sequence[RunRecord]) -> None:
        """Learn the records of the trial that was asked for last, in the order of its runs."""
        asked = self._asked
        if asked is None:
            raise RuntimeError("no trial was asked for")
        self._asked = None
        score, reason = _objective(records)
        changes = self._study.changes(asked.params)
        examples = records[0].examples.get("selection", 0)
        self._trials.append(Trial(len(self._trials), dict(asked.params), changes, score, reason, examples))
        # A failed trial counts as pruned: the sampler ranks it below all with a score, and learns from it. As "failed"
        # it would be forgotten, and its neighbourhood tried again.
        self._chooser.tell(asked, score, state=TrialState.PRUNED if score is None else TrialState.COMPLETE)


def tune(
    studies: Sequence[Study],
    effort: TuningBudget,
    store: Store,
    execute: Execute,
    known: Callable[[int], None] = lambda runs: None,
) -> list[StudyResult]:
    """Run all studies side by side, one trial of each at a time.

    Unlike in a report, a diverged run is not repeated: too large a learning rate is a result of a trial.

    Args:
        studies: what to tune.
        effort: the number of trials of each study, and how they are drawn.
        store: its records are reused.
        execute: executes runs and, as `parbench.bench.execute.executor.Executor` does, those that records lead to.
        known: is told how many runs of each trial have a record from an earlier tuning.
    """
    searches = [Search(study, effort) for study in studies]
    waiting: dict[str, _Waiting] = {}

    def advance(search: Search) -> list[PlannedRun]:
        """Ask for trials until one has runs without a record; return those."""
        while runs := search.ask():
            records = {run.spec.run_id: record for run in runs if (record := _recorded(store, run))}
            missing = [run for run in runs if run.spec.run_id not in records]
            known(len(records))
            if missing:
                trial = _Waiting(search, runs, records)
                waiting.update((run.spec.run_id, trial) for run in missing)
                return missing
            search.tell([records[run.spec.run_id] for run in runs])
        return []

    def follow_up(record: RunRecord) -> list[PlannedRun]:
        trial = waiting.pop(record.run_id)
        trial.records[record.run_id] = record
        if not trial.is_complete:
            return []
        trial.search.tell([trial.records[run.spec.run_id] for run in trial.runs])
        return advance(trial.search)

    first = [run for search in searches for run in advance(search)]
    for _ in execute(first, follow_up):
        pass
    return [search.result for search in searches]


class _Waiting:
    """A trial whose runs are not all done."""

    def __init__(self, search: Search, runs: Sequence[PlannedRun], records: dict[str, RunRecord]) -> None:
        self.search = search
        self.runs = runs
        self.records = records

    @property
    def is_complete(self) -> bool:
        return all(run.spec.run_id in self.records for run in self.runs)


def _recorded(store: Store, run: PlannedRun) -> RunRecord | None:
    found = store.load(run.spec.run_id)
    return found if isinstance(found, RunRecord) and found.status in (Status.OK, Status.DIVERGED) else None


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
