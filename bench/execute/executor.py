"""What executes runs: one after the other in this process, each in a process of its own, or on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from parbench.bench.execute.progress import Progress
from parbench.bench.plan.planned_run import PlannedRun
from parbench.bench.record.run_record import RunRecord, Status
from parbench.bench.store.store import Store

# Returns the further runs that a record leads to.
FollowUp = Callable[[RunRecord], Sequence[PlannedRun]]


@dataclass(frozen=True)
class RunOptions:
    """Options of the execution of each run, the same for every executor.

    Attributes:
        minutes: time limit of a run; ``None`` for no limit.
        silent_minutes: time limit without an optimiser step or a batch of an evaluation.
        memory_bytes: memory limit of a run's process; ``None`` for no limit.
        retries: number of retries after a temporary failure: a killed process, no progress, a lost connection.
        fail_fast: whether to stop at the first failed run.
        deterministic: whether torch must use deterministic algorithms only.
        trackers: names of trackers that trainings report to, see `parbench.bench.run.trackers`.
        threads: torch threads per process; ``None`` is torch's default.
        shared: whether the device may also run work unknown to the executor.
    """

    minutes: float | None = None
    silent_minutes: float = 60.0
    memory_bytes: int | None = None
    retries: int = 0
    fail_fast: bool = False
    deterministic: bool = False
    trackers: tuple[str, ...] = ()
    threads: int | None = None
    shared: bool = False


class Executor(Protocol):
    """Executes runs; the failure of one does not affect the others."""

    @property
    def options(self) -> RunOptions:
        """How each run is executed."""

    def execute(
        self, runs: Sequence[PlannedRun], store: Store, progress: Progress, follow_up: FollowUp = ...
    ) -> Iterator[RunRecord]:
        """Yield the record of each run when it is written, in any order.

        A run that another command is executing on the same store is not done twice: its record is waited for.

        Args:
            runs: to execute, with or without an earlier record.
            store: where records go.
            progress: shows the progress.
            follow_up: returns the further runs that a record leads to, which are executed too; default: none.

        Raises:
            UserError: the store cannot be written to, or data is missing.
            KeyboardInterrupt: the user has asked to stop; interrupted runs resume from their checkpoints next time.
        """


def no_follow_up(record: RunRecord) -> Sequence[PlannedRun]:
    """Return no further runs."""
    return ()


def failed(record: RunRecord) -> bool:
    """Return whether a run has failed, rather than being skipped."""
    return record.status not in (Status.OK, Status.SKIPPED)


def check_data(runs: Sequence[PlannedRun]) -> None:
    """Read every task's data once before any training: a wrong folder is found now, not after hours.

    Raises:
        UserError: data or a base model is missing.
    """
    seen: set[tuple[str, str, int | None]] = set()
    for run in runs:
        key = (run.spec.task, run.spec.data_revision, run.spec.limit)
        if key not in seen:
            seen.add(key)
            run.base_model.check(run.spec.model_revision, run.task.head)
            run.task.splits(run.source, run.spec.limit)
