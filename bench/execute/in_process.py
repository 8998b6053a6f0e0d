"""One run after the other, in this process: without isolation, and without loading data twice."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch

from parbench.bench.execute.executor import FollowUp, RunOptions, failed, no_follow_up
from parbench.bench.execute.interrupt import Interrupt
from parbench.bench.execute.progress import Progress
from parbench.bench.execute.queue import Queue
from parbench.bench.plan.planned_run import PlannedRun
from parbench.bench.record.failures import TransientError
from parbench.bench.record.run_record import RunRecord
from parbench.bench.run.execute_run import RunHooks, execute_run
from parbench.bench.run.inputs import DataCache
from parbench.bench.store.log import event, run_log
from parbench.bench.store.store import Store
from parbench.bench.train.train import StoppedError


@dataclass(frozen=True)
class InProcessExecutor:
    """Executes runs in the order given, on one device; the data it has read is kept for the next call.

    Of the options it follows ``retries``, ``fail_fast`` and ``trackers`` only: a process cannot end itself for taking
    too long, and what holds for the whole process is left to its owner.
    """

    device: torch.device
    options: RunOptions = field(default_factory=RunOptions)
    inputs: DataCache = field(default_factory=DataCache)

    def execute(
        self, runs: Sequence[PlannedRun], store: Store, progress: Progress, follow_up: FollowUp = no_follow_up
    ) -> Iterator[RunRecord]:
        """Yield the record of each run when it is written."""
        # Every task's data is read before any training: a wrong folder is found in seconds, not after hours.
        for planned in runs:
            self.inputs.of(planned)
        queue = Queue(runs, store)
        in_progress: list[PlannedRun] = []
        with Interrupt(progress.note, lambda: bool(in_progress)) as interrupt:
            while queue:
                if interrupt.asked:
                    raise KeyboardInterrupt
                run = queue.take()
                for found in queue.completed_elsewhere():
                    progress.end(found)
                    queue.add(follow_up(found))
                    yield found
                if run is None:
                    if queue:
                        queue.wait(progress.note)
                    continue
                in_progress.append(run)
                try:
                    record = self._one(run, store, progress, queue, interrupt)
                except StoppedError:
                    raise KeyboardInterrupt from None
                finally:
                    in_progress.clear()
                    queue.leases.release(run.spec.run_id)
                queue.add(follow_up(record))
                yield record
                if self.options.fail_fast and failed(record):
                    return
            if interrupt.asked:
                raise KeyboardInterrupt

    def _one(self, run: PlannedRun, store: Store, progress: Progress, queue: Queue, interrupt: Interrupt) -> RunRecord:
        progress.begin(run.spec)

        def on_step(done: int, total: int, loss: float | None) -> None:
            queue.leases.renew()
            progress.step(run.spec, done, total, loss)

        hooks = RunHooks(
            on_step,
            on_batch=lambda rows: queue.leases.renew(),
            stop=lambda: interrupt.asked,
            trackers=self.options.trackers,
        )
        with run_log(store.workspace(run.spec.run_id), run.spec, self.device):
            for _ in range(self.options.retries):
                try:
                    record = execute_run(run, store, self.inputs, self.device, replace(hooks, may_retry=True))
                    break
                except TransientError as failure:
                    event("again", str(failure), logging.WARNING)
            else:
                record = execute_run(run, store, self.inputs, self.device, hooks)
        progress.end(record)
        return record
