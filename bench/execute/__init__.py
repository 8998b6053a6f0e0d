"""Ways to work through a plan: on this machine, and others later, behind one interface."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from bench.plan import PlannedRun
    from bench.progress import Progress
    from bench.record import RunRecord
    from bench.store import Store


class Executor(Protocol):
    """Does runs and writes their records."""

    def execute(self, runs: Sequence[PlannedRun], store: Store, progress: Progress) -> Iterator[RunRecord]:
        """Yield the record of each run when it is written.

        Raises:
            UserError: the store cannot be written to, or the data of a run is not what its task needs.
        """
