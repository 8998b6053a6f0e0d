"""Runs as a job array of Slurm.

A job executes a few runs, one after the other, with a `LocalExecutor` on its node. It takes their leases itself, so
that jobs continue, and stay known to other commands, when this command has ended. A job that is preempted or out of
time saves the present step, is queued again, and resumes. All nodes must share the store's file system.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from parbench.bench.execute.executor import FollowUp, RunOptions, check_data, failed, no_follow_up
from parbench.bench.execute.failed_run import record_failure
from parbench.bench.execute.interrupt import Interrupt, until_interrupted
from parbench.bench.execute.progress import Progress
from parbench.bench.execute.slurm_job import JobOptions, JobRuns
from parbench.bench.plan.planned_run import PlannedRun
from parbench.bench.record.run_record import RunRecord, Status
from parbench.bench.store.layout import SLURM
from parbench.bench.store.leases import Leases
from parbench.bench.store.store import Store
from parbench.bench.util import environment
from parbench.bench.util.errors import UserError

_TICK_SECONDS = 2.0
# How long a cancelled job is waited for: it saves the present step.
_PATIENCE_SECONDS = 60.0
_PRINTED_CHARACTERS = 8000


@dataclass(frozen=True)
class SlurmExecutor:
    """Executes runs as jobs of Slurm.

    Attributes:
        job: what each job asks for.
        runs_per_job: runs of one job, one after the other; more where the array would have more than ``array`` jobs.
        workers: at most so many jobs at a time; as many as Slurm lets if ``None``.
        array: the most jobs of one array, which clusters limit.
        requeues: how often a job may run out of time.
        cluster: ``slurm``; ``local`` and ``debug`` are submitit's stand-ins for it, without a cluster.
        options: how each run is executed, and when it is given up.
    """

    job: JobOptions = field(default_factory=JobOptions)
    runs_per_job: int = 1
    workers: int | None = None
    array: int = 1000
    requeues: int = 20
    cluster: Literal["slurm", "local", "debug"] = "slurm"
    options: RunOptions = field(default_factory=RunOptions)

    def execute(
        self, runs: Sequence[PlannedRun], store: Store, progress: Progress, follow_up: FollowUp = no_follow_up
    ) -> Iterator[RunRecord]:
        """Yield the record of each run when it is written."""
        if self.cluster == "slurm" and shutil.which("sbatch") is None:
            raise UserError("there is no Slurm here (no command sbatch); call bench on a node that submits jobs")
        check_data(runs)
        session = _SlurmSession(self, store, progress, follow_up)

        def records(interrupt: Interrupt) -> Iterator[RunRecord]:
            session.submit(runs)
            yield from session.records(interrupt)

        yield from until_interrupted(progress.note, session.has_begun, records, session.cancel_all)


@dataclass
class _Submitted:
    """A job, and those of its runs that have no new record yet."""

    job: Any
    waiting: deque[PlannedRun]


@dataclass
class _SlurmSession:
    """One call of the executor."""

    executor: SlurmExecutor
    store: Store
    progress: Progress
    follow_up: FollowUp
    jobs: list[_Submitted] = field(default_factory=list)
    # Runs whose job has ended without a record of theirs, with what the job has printed.
    orphans: list[tuple[PlannedRun, str]] = field(default_factory=list)
    tries: Counter[str] = field(default_factory=Counter)
    before: dict[str, tuple[int, int] | None] = field(default_factory=dict)
    begun: set[str] = field(default_factory=set)
    # Whether runs are being handed to Slurm, which takes seconds.
    submitting: bool = False
    started: str = field(default_factory=environment.now)

    def submit(self, runs: Sequence[PlannedRun]) -> None:
        """Hand runs to Slurm."""
        if not runs:
            return
        executor = self.executor
        for run in runs:
            self.before.setdefault(run.spec.run_id, self.store.stamp(run.spec.run_id))
            self.tries[run.spec.run_id] += 1
        size = max(executor.runs_per_job, -(-len(runs) // executor.array))
        parts = [runs[start : start + size] for start in range(0, len(runs), size)]
        self.submitting = True
        try:
            submitted = self._submitit().submit_array([self._chunk(part) for part in parts])
            self.jobs += [_Submitted(job, deque(part)) for part, job in zip(parts, submitted, strict=True)]
        finally:
            self.submitting = False

    def has_begun(self) -> bool:
        """Return whether runs are at Slurm or are being handed to it: what a request to stop would save."""
        return self.submitting or bool(self.jobs)

    def records(self, interrupt: Interrupt) -> Iterator[RunRecord]:
        patience: float | None = None
        while self.jobs or self.orphans:
            if interrupt.asked and patience is None:
                patience = time.monotonic() + _PATIENCE_SECONDS
                for submitted in self.jobs:
                    submitted.job.cancel(check=False)
            if patience is not None and time.monotonic() > patience:
                return
            for record in [*self._look(), *self._adopt(interrupt.asked)]:
                self.progress.end(record)
                if not interrupt.asked:
                    self.submit(self.follow_up(record))
                yield record
                if self.executor.options.fail_fast and failed(record):
                    return
            if self.jobs or self.orphans:
                time.sleep(_TICK_SECONDS)

    def cancel_all(self) -> None:
        for submitted in self.jobs:
            submitted.job.cancel(check=False)
        self.jobs.clear()

    def _submitit(self) -> Any:
        try:
            import submitit
        except ImportError as error:
            raise UserError(
                "--executor slurm needs submitit; install it with: pip install 'parbench[slurm]'"
            ) from error
        executor = self.executor
        made = submitit.AutoExecutor(
            folder=self.store.root.absolute() / SLURM,
            cluster=executor.cluster,
            slurm_max_num_timeout=executor.requeues,
        )
        parallel = {} if executor.workers is None else {"slurm_array_parallelism": executor.workers}
        made.update_parameters(**executor.job.parameters(), **parallel)
        return made

    def _chunk(self, runs: Sequence[PlannedRun]) -> JobRuns:
        executor = self.executor
        return JobRuns(
            orders=tuple((run.to_json(), self.before[run.spec.run_id]) for run in runs),
            store=str(self.store.root.absolute()),
            device="cuda" if executor.job.gpus else "cpu",
            options=replace(executor.options, threads=executor.job.cpus),
        )

    def _look(self) -> Iterator[RunRecord]:
        """Yield the records that jobs have written since the last call."""
        for submitted in list(self.jobs):
            over = submitted.job.done()
            left: list[PlannedRun] = []
            while submitted.waiting:
                run = submitted.waiting.popleft()
                self._show(run, over)
                record = self._new_record(run)
                if record is not None:
                    self._show(run, over=True)
                    yield record
                else:
                    left.append(run)
                    if not over:  # a job does its runs in their order: those behind have not begun
                        break
            submitted.waiting.extendleft(reversed(left))
            if over:
                self.jobs.remove(submitted)
                printed = _printed(submitted.job)
                self.orphans += [(run, printed) for run in submitted.waiting]

    def _adopt(self, stopping: bool) -> Iterator[RunRecord]:
        """Handle the runs that were left without a record: another command executes them, or they are tried again."""
        leases, again = Leases(self.store.root), []
        orphans, self.orphans = self.orphans, []
        for run, printed in orphans:
            run_id = run.spec.run_id
            if (record := self._new_record(run)) is not None:
                yield record
            elif stopping:
                continue
            elif not leases.take(run_id):
                self.orphans.append((run, printed))
            else:
                try:
                    if self.tries[run_id] <= self.executor.options.retries:
                        again.append(run)
                    else:
                        yield self._given_up(run, printed)
                finally:
                    leases.release(run_id)
        self.submit(again)

    def _show(self, run: PlannedRun, over: bool) -> None:
        """Show once that a run has begun, when its workspace exists."""
        run_id = run.spec.run_id
        if run_id not in self.begun and (over or (self.store.work / run_id).is_dir()):
            self.begun.add(run_id)
            self.progress.begin(run.spec)

    def _new_record(self, run: PlannedRun) -> RunRecord | None:
        run_id = run.spec.run_id
        if self.store.stamp(run_id) in (None, self.before[run_id]):
            return None
        record = self.store.load(run_id)
        return record if isinstance(record, RunRecord) else None

    def _given_up(self, run: PlannedRun, printed: str) -> RunRecord:
        last = (printed.strip().splitlines() or [""])[-1]
        reason = f"its job has ended without a record{f': {last}' if last else ''}"
        hardware = {"cluster": self.executor.cluster, "device": "cuda" if self.executor.job.gpus else "cpu"}
        return record_failure(run, self.store, Status.ERROR, reason, self.started, hardware, printed)


def _printed(job: Any) -> str:
    """Return the end of what a job has printed."""
    text = "\n".join(filter(None, (job.stdout(), job.stderr())))
    return text[-_PRINTED_CHARACTERS:]
