"""What one job of Slurm asks for, and what it does on its node."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from parbench.bench.execute.executor import RunOptions
from parbench.bench.execute.local import LocalExecutor
from parbench.bench.execute.progress import LineProgress
from parbench.bench.execute.queue import Queue
from parbench.bench.plan.planned_run import PlannedRun
from parbench.bench.store.store import Store
from parbench.bench.util.errors import UserError


@dataclass(frozen=True)
class JobOptions:
    """What each job asks Slurm for.

    Attributes:
        partition: its name, or the cluster's default.
        account: the account that is charged; default: the user's.
        minutes: time limit, after which the job is requeued.
        cpus: number of CPUs, also the number of torch threads.
        gpus: 1, or 0 for the CPU.
        memory_gib: of the node, or the cluster's default.
    """

    partition: str | None = None
    account: str | None = None
    minutes: int = 240
    cpus: int = 1
    gpus: int = 0
    memory_gib: float | None = None

    def __post_init__(self) -> None:
        if self.gpus not in (0, 1):
            raise UserError(f"a job cannot have {self.gpus} GPUs: a run uses one; give 0 or 1")
        if self.minutes < 1 or self.cpus < 1:
            raise UserError(f"a job cannot have {self.minutes} minutes and {self.cpus} CPUs; give at least 1 of each")

    def parameters(self) -> dict[str, Any]:
        """Return the same as parameters of submitit."""
        given = {
            "slurm_partition": self.partition,
            "slurm_account": self.account,
            "timeout_min": self.minutes,
            "cpus_per_task": self.cpus,
            "gpus_per_node": self.gpus or None,
            "mem_gb": self.memory_gib,
            "name": "parbench",
        }
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class JobRuns:
    """The runs of one job: plain values and this module's code, which submitit keeps in a file.

    Attributes:
        orders: runs as `PlannedRun.to_json` writes them, each with the stamp of its record when it was submitted.
        store: the store's folder.
        device: what to train on.
        options: how each run is executed, and when it is given up.
    """

    orders: tuple[tuple[str, tuple[int, int] | None], ...]
    store: str
    device: str
    options: RunOptions

    def __call__(self) -> None:
        """Execute the runs that have no new record yet; submitit calls it."""
        store = Store(Path(self.store))
        runs = [
            run
            for text, before in self.orders
            # A run with a new record was done by another command, or by this job before it was queued again.
            if store.stamp((run := PlannedRun.from_json(text)).spec.run_id) == before
        ]
        executor = LocalExecutor((self.device,), self.options)
        with _preemption() as preempted:
            try:
                if not preempted:
                    list(executor.work_off(Queue(runs, store), store, LineProgress(Console(width=200), len(runs))))
            except KeyboardInterrupt:
                if not preempted:
                    raise
        if preempted:
            # The step is saved, so submitit may requeue the job; this call does not return.
            signal.raise_signal(_preemption_signal())

    def checkpoint(self) -> Any:
        """Return what the job does when it is queued again; submitit calls it."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


@contextmanager
def _preemption() -> Iterator[list[int]]:
    """Within the block, Slurm's warning is a request to save the present step; the list is then not empty."""
    heard: list[int] = []

    def hear(number: int, frame: FrameType | None) -> None:
        if not heard:
            heard.append(number)
            signal.raise_signal(signal.SIGTERM)

    before = signal.signal(_preemption_signal(), hear)
    try:
        yield heard
    finally:
        signal.signal(_preemption_signal(), before)


def _preemption_signal() -> signal.Signals:
    """Return what submitit has Slurm send before it ends a job."""
    from submitit.core.job_environment import JobEnvironment

    return signal.Signals[f"SIG{JobEnvironment.USR_SIG}"]
