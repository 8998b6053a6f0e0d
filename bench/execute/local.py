"""Each run in a process of its own on this machine, several at a time if asked."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from typing import Any

import psutil

from parbench.bench.execute.cpu_slots import DEVICE, CpuSlots, own_cores
from parbench.bench.execute.executor import FollowUp, RunOptions, check_data, no_follow_up
from parbench.bench.execute.failed_run import record_failure
from parbench.bench.execute.gpu_packing import Packing, accelerator_name, packed_memory, visible_outside
from parbench.bench.execute.interrupt import suspending, until_interrupted
from parbench.bench.execute.local_limits import KernelKills, cause_of_death, over_limit, was_killed_from_outside
from parbench.bench.execute.memory_history import PeakMemoryHistory
from parbench.bench.execute.progress import Progress
from parbench.bench.execute.queue import Queue
from parbench.bench.execute.run_memory import MemoryEstimates
from parbench.bench.execute.session import ExecutorSession
from parbench.bench.execute.worker import Worker, WorkerJob, WorkerMessage, start
from parbench.bench.plan.planned_run import PlannedRun
from parbench.bench.record.run_record import RunRecord, Status
from parbench.bench.store.layout import PRINTED
from parbench.bench.store.store import Store
from parbench.bench.util import environment
from parbench.bench.util.errors import UserError
from parbench.bench.util.memory_limits import available_memory
from parbench.bench.util.secrets import redact_file

# Interval at which limits are checked and leases renewed.
_TICK_SECONDS = 0.5
_LONGEST_TICK_SECONDS = 2.0
# Kept of a worker's output, from its beginning and from its end: pages of module names follow the trace of a crash.
_KEPT_CHARACTERS = 8000


@dataclass(frozen=True)
class LocalExecutor:
    """Executes runs on this machine; a run may crash its process without harm to the others.

    Attributes:
        devices: one entry per simultaneous run; a device may be listed several times. Runs share an accelerator as far
            as its memory is known to be enough, see `parbench.bench.execute.gpu_packing`.
        options: how each run is executed, and when it is given up.
    """

    devices: tuple[str, ...]
    options: RunOptions = field(default_factory=RunOptions)

    def execute(
        self, runs: Sequence[PlannedRun], store: Store, progress: Progress, follow_up: FollowUp = no_follow_up
    ) -> Iterator[RunRecord]:
        """Yield the record of each run when it is written."""
        check_data(runs)
        yield from self.work_off(Queue(runs, store), store, progress, follow_up)

    def work_off(
        self, queue: Queue, store: Store, progress: Progress, follow_up: FollowUp = no_follow_up
    ) -> Iterator[RunRecord]:
        """Execute the runs of a queue, whose data was checked before."""
        session = _LocalSession(self, queue, store, progress, follow_up)
        with suspending(session.process_groups):
            yield from until_interrupted(progress.note, session.has_begun, session.records, session.kill_all)


@dataclass
class _Job:
    """A run in progress."""

    run: PlannedRun
    worker: Worker
    device: str
    # The stamp of the run's record before it began.
    before: tuple[int, int] | None
    # Watched, and since the last sign of progress. The time in which either process was stopped does not count.
    seconds: float = 0.0
    silent_seconds: float = 0.0
    started: str = field(default_factory=environment.now)
    hardware: dict[str, str] = field(default_factory=dict)
    last: WorkerMessage | None = None
    # Set where the runner itself ends the worker: status and reason for the record.
    verdict: tuple[Status, str] | None = None

    @property
    def run_id(self) -> str:
        return self.run.spec.run_id


@dataclass
class _LocalSession(ExecutorSession):
    """One call of the executor."""

    executor: LocalExecutor
    queue: Queue
    store: Store
    progress: Progress
    follow_up: FollowUp = no_follow_up
    jobs: list[_Job] = field(default_factory=list)
    tries: Counter[str] = field(default_factory=Counter)
    # Runs that had no room beside others, and now get a device for themselves.
    alone: set[str] = field(default_factory=set)
    estimates: MemoryEstimates = field(default_factory=MemoryEstimates)
    kernel_kills: KernelKills = field(default_factory=KernelKills)
    watched: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.options = self.executor.options
        devices = self.executor.devices
        self.packing: Packing | CpuSlots
        self.peaks: PeakMemoryHistory | None
        if set(devices) == {DEVICE}:
            # A run that is alone gets all cores.
            workers = min(len(devices), len(self.queue))
            self.packing = CpuSlots(own_cores(), workers, available_memory())
            self.peaks = PeakMemoryHistory(self.store, accelerators=None)
            return
        self.packing = Packing(packed_memory(devices), len(devices))
        accelerators = {accelerator_name(name) for name, size in self.packing.memory.items() if size is not None}
        self.peaks = PeakMemoryHistory(self.store, accelerators) if accelerators else None

    def is_busy(self) -> bool:
        """See `ExecutorSession`."""
        return bool(self.jobs)

    def stop_all(self) -> None:
        """See `ExecutorSession`."""
        for job in self.jobs:
            job.worker.stop()

    def start_runs(self) -> None:
        """See `ExecutorSession`."""
        while len(self.jobs) < self.packing.workers and (run := self.queue.take(self._has_place)) is not None:
            self.begin(run)

    def note_completed(self, found: RunRecord) -> None:
        """See `ExecutorSession`."""
        self._learn(found)

    def ended(self) -> Iterator[RunRecord]:
        """See `ExecutorSession`."""
        self._listen()
        self.queue.leases.renew()
        for job in [job for job in self.jobs if not job.worker.started.is_alive()]:
            self._read(job)
            self.jobs.remove(job)
            self.packing.leave(job.run_id)
            record = self._end(job)
            if record is not None:
                self._learn(record)
                yield record

    def process_groups(self) -> list[int]:
        """Return the process groups of the workers."""
        return [job.worker.pid for job in self.jobs]

    def kill_all(self) -> None:
        """End the runs in progress without waiting for them."""
        for job in self.jobs:
            job.worker.kill()
        self.jobs.clear()
        # Also the lease of a run that could not begin.
        self.queue.leases.release_all()

    def _peak(self, run: PlannedRun) -> int | None:
        if self.peaks is None or run.spec.run_id in self.alone:
            return None
        measured = self.peaks.of(run.spec)
        if measured is not None or not isinstance(self.packing, CpuSlots) or self.packing.workers == 1:
            return measured
        return self.estimates.of(run)

    def _learn(self, record: RunRecord) -> None:
        if self.peaks is not None:
            self.peaks.learn(record)

    def _has_place(self, run: PlannedRun) -> bool:
        return self.packing.place(self._peak(run)) is not None

    def _begin(self, run: PlannedRun) -> None:
        """See `ExecutorSession`."""
        run_id, peak = run.spec.run_id, self._peak(run)
        device = self.packing.place(peak)
        if device is None:
            raise RuntimeError(f"there is no place for {run.spec}")
        others = self.packing.enter(run_id, device, peak)
        for job in self.jobs:
            if job.run_id in others:
                job.worker.share()
        self.tries[run_id] += 1
        if self.tries[run_id] == 1:
            self.progress.begin(run.spec)
        order = WorkerJob(
            run=run.to_json(),
            store=str(self.store.root.absolute()),
            device=visible_outside(device),
            may_retry=self._may_retry(run_id),
            shared=bool(others) or self.options.shared,
            options=self.options,
            cores=self.packing.cores_of(run_id) if isinstance(self.packing, CpuSlots) else (),
            workers=self.packing.workers,
        )
        before = self.store.stamp(run_id)
        worker = start(order)
        self.jobs.append(_Job(run, worker, device, before))
        with suppress(psutil.NoSuchProcess):  # it has died already; its exit code shows why
            self.queue.leases.add_process(run_id, worker.pid)

    def _may_retry(self, run_id: str) -> bool:
        # Running out of memory beside others does not count as a try.
        return self.tries[run_id] - (run_id in self.alone) <= self.options.retries

    def _listen(self) -> None:
        """Read the workers' messages until one of them ends, for a tick at most; end those that are over a limit."""
        until = time.monotonic() + _TICK_SECONDS
        ends = {sentinel for job in self.jobs if (sentinel := job.worker.sentinel) is not None}
        ready: set[Any] = set()
        # All their messages in between: the rest of a tick should not be repeated at every step of theirs.
        while ends.isdisjoint(ready) and (left := until - time.monotonic()) > 0:
            ready = set(wait([*ends, *(job.worker.connection for job in self.jobs)], left))
            for job in self.jobs:
                self._read(job)
        now = time.monotonic()
        # After a long time between two checks, this process must have been stopped, as by Ctrl-Z.
        passed, self.watched = min(now - self.watched, _LONGEST_TICK_SECONDS), now
        for job in self.jobs:
            if not job.worker.started.is_suspended():
                job.seconds += passed
                job.silent_seconds += passed
            verdict = over_limit(self.options, job.seconds, job.silent_seconds, job.worker.pid)
            if verdict is not None and job.worker.started.is_alive():
                job.verdict = verdict
                job.worker.kill()

    def _read(self, job: _Job) -> None:
        try:
            while job.worker.connection.poll():
                message: WorkerMessage = job.worker.connection.recv()
                job.silent_seconds, job.last = 0.0, message
                if message.kind == "began":
                    job.hardware = dict(line.split("=", 1) for line in message.text.splitlines())
                elif message.step is not None:
                    self.progress.step(job.run.spec, *message.step)
        except (EOFError, OSError):  # it has died; its exit code and record decide
            return

    def _end(self, job: _Job) -> RunRecord | None:
        """Return the record of a run whose worker has ended, or ``None`` where it was stopped or is tried again."""
        job.worker.started.process.join()
        redact_file(self.store.work / job.run_id / PRINTED)
        kind = job.last.kind if job.last else None
        record = self.store.load(job.run_id)
        # Not by its last message: it may have been killed between its record and that.
        if isinstance(record, RunRecord) and self.store.stamp(job.run_id) != job.before:
            self.store.discard_workspace(job.run_id)
            self.queue.leases.release(job.run_id)
            return record
        if kind == "stopped":
            self.queue.leases.release(job.run_id)
            return None
        if kind == "crowded" and job.run_id not in self.alone:
            self.alone.add(job.run_id)
            self.queue.requeue(job.run)
            return None
        verdict = job.verdict or self._cause_of_death(job)
        from_outside = job.verdict is None and was_killed_from_outside(job.worker.started.exit_code)
        if (kind == "retry" or verdict[0] is Status.TIMEOUT or from_outside) and self._may_retry(job.run_id):
            self.queue.requeue(job.run)
            return None
        hardware = job.hardware or {"device": job.device}
        record = record_failure(job.run, self.store, *verdict, job.started, hardware, self._output(job))
        self.queue.leases.release(job.run_id)
        return record

    def _cause_of_death(self, job: _Job) -> tuple[Status, str]:
        if job.last and job.last.kind == "crowded":
            return Status.OUT_OF_MEMORY, job.last.text
        return cause_of_death(job.worker.started.exit_code, self._output(job), self.kernel_kills)

    def _output(self, job: _Job) -> str:
        path = self.store.work / job.run_id / PRINTED
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        if len(text) <= 2 * _KEPT_CHARACTERS:
            return text
        return f"{text[:_KEPT_CHARACTERS]}\n[...]\n{text[-_KEPT_CHARACTERS:]}"


def workers_on(devices: Sequence[str], workers: int) -> tuple[str, ...]:
    """Return the devices of so many simultaneous runs, spread evenly.

    Raises:
        UserError: there are fewer workers than devices.
    """
    if workers < len(devices):
        raise UserError(f"--workers is {workers}, less than the {len(devices)} devices; give at least one for each")
    return tuple(devices[number % len(devices)] for number in range(workers))
