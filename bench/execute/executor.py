"""What does runs: one after the other in this process, each in a process of its own, or on a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from parbench.bench.execute.progress import Progress
    from parbench.bench.plan.planned_run import PlannedRun
    from parbench.bench.record.run_record import RunRecord
    from parbench.bench.store.store import Store


@dataclass(frozen=True)
class Limits:
    """When a run is given up, and when not.

    Attributes:
        minutes: a run may take, or ``None``.
        silent_minutes: a run may go without an optimiser step or a batch of an evaluation.
        memory_bytes: a run's process may use, or ``None``.
        retries: further tries after what may pass: a process killed from outside, a silence, a lost connection.
        fail_fast: whether the first failed run ends all.
    """

    minutes: float | None = None
    silent_minutes: float = 60.0
    memory_bytes: int | None = None
    retries: int = 0
    fail_fast: bool = False


def failed(record: RunRecord) -> bool:
    """Tell whether a run came to nothing, for a reason that lies in the run."""
    from parbench.bench.record.run_record import Status

    return record.status not in (Status.OK, Status.SKIPPED)


class Executor(Protocol):
    """Does runs, whatever becomes of each."""

    def execute(self, runs: Sequence[PlannedRun], store: Store, progress: Progress) -> Iterator[RunRecord]:
        """Yield the record of each run when it is written, in any order.

        A run that another command is at on the same store is not done twice: its record is waited for.

        Raises:
            UserError: the store cannot be written to, or data is not there.
            KeyboardInterrupt: the user has asked to stop; what was begun goes on from its checkpoint next time.
        """
