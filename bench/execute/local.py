"""One run after the other, in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.plan import PlannedRun
from bench.progress import Progress
from bench.record import RunRecord
from bench.run import Inputs, perform
from bench.store import Store

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class LocalExecutor:
    """Does runs in the order given, on one device; the data it has read is kept for the next call."""

    device: torch.device
    inputs: Inputs = field(default_factory=Inputs)

    def execute(self, runs: Sequence[PlannedRun], store: Store, progress: Progress) -> Iterator[RunRecord]:
        """Yield the record of each run when it is written."""
        # Every task's data is read before anything is trained: a wrong folder is found out in seconds, not after hours.
        for run in runs:
            self.inputs.of(run)
        for run in runs:
            progress.begin(run.spec)
            record = perform(run, store, self.inputs, self.device, progress.step)
            progress.end(record)
            yield record
