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
    """How each run is executed and when it is given up, the same for every executor.

    Attributes:
        minutes: that a run may take, or ``None`` for no limit.
        silent_minutes: that a run may go without an optimiser step or a batch of an evaluation.
        memory_bytes: that a run's process may use, or ``None`` for no limit.
        retries: further tries after a failure that may not repeat: a process killed from outside, no progress, a lost
            connection.
        fail_fast: whether the first failed run ends all.
        deterministic: whether torch must use deterministic algorithms only.
        trackers: that trainings report to, see `parbench.bench.run.trackers`.
        threads: of torch in each process; ``None`` leaves torch's own number.
        shared: whether the device also runs work that the executor does not know of.
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
    """Executes runs, whatever becomes of each."""

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
            progress: shows how far they are.
            follow_up: returns the further runs that a record leads to, which are executed too; default: none.

        Raises:
            UserError: the store cannot be written to, or data is missing.
            KeyboardInterrupt: the user has asked to stop; interrupted runs resume from their checkpoints next time.
        """


def no_follow_up(record: RunRecord) -> Sequence[PlannedRun]:
    """Return no further runs."""
    return ()


def failed(record: RunRecord) -> bool:
    """Return whether a run has failed for a reason of its own."""
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
