"""Each run in a process of its own on this machine, several at a time if asked."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import psutil

from parbench.bench.execute.executor import Limits
from parbench.bench.execute.failed_run import record_failure
from parbench.bench.execute.gpu_packing import Packing
from parbench.bench.execute.interrupt import until_interrupted
from parbench.bench.execute.memory_history import PeakMemoryHistory
from parbench.bench.execute.progress import Progress
from parbench.bench.execute.queue import Queue
from parbench.bench.execute.session import Session
from parbench.bench.execute.worker import OUTPUT, Worker, WorkerJob, WorkerMessage, start
from parbench.bench.plan.planned_run import PlannedRun
from parbench.bench.record.run_record import RunRecord, Status
from parbench.bench.store.store import Store
from parbench.bench.util import environment
from parbench.bench.util.errors import UserError
from parbench.bench.util.secrets import redact_file

# How often limits are looked at and claims renewed.
_TICK_SECONDS = 0.5
# Of a worker's output, kept from its beginning and its end: a trace of a crash is followed by pages of module names.
_KEPT_CHARACTERS = 8000


@dataclass(frozen=True)
class LocalExecutor:
    """Does runs on this machine, whatever a run does to its process.

    Attributes:
        devices: as many as runs at a time; a device may be there several times. Where that is an accelerator, runs
            share it as far as its memory is known to be enough, see `parbench.bench.execute.gpu_packing`.
        limits: when a run is given up.
        threads: of torch in each process; ``None`` leaves torch's own number.
        deterministic: whether torch must use deterministic algorithms only.
        trackers: that trainings report to, see `parbench.bench.run.trackers`.
        shared: whether others give the devices more runs that this executor knows nothing of.
    """

    devices: tuple[str, ...]
    limits: Limits = field(default_factory=Limits)
    threads: int | None = None
    deterministic: bool = False
    trackers: tuple[str, ...] = ()
    shared: bool = False

    def execute(self, runs: Sequence[PlannedRun], store: Store, progress: Progress) -> Iterator[RunRecord]:
        """Yield the record of each run when it is written."""
        check_data(runs)
        yield from self.work_off(Queue(runs, store), store, progress)

    def work_off(self, queue: Queue, store: Store, progress: Progress) -> Iterator[RunRecord]:
        """Do what a queue gives out, its data known to be there."""
        session = _Session(self, queue, store, progress)
        yield from until_interrupted(progress.note, session.records, session.kill_all)


@dataclass
class _Job:
    """A run at work."""

    run: PlannedRun
    worker: Worker
    device: str
    # What the store knew of the run before.
    before: tuple[int, int] | None
    began: float = field(default_factory=time.monotonic)
    heard: float = field(default_factory=time.monotonic)
    started: str = field(default_factory=environment.now)
    hardware: dict[str, str] = field(default_factory=dict)
    last: WorkerMessage | None = None
    # Set where the runner itself ends the worker: what the record is to say of it.
    verdict: tuple[Status, str] | None = None

    @property
    def run_id(self) -> str:
        return self.run.spec.run_id


@dataclass
class _Session(Session):
    """One call of the executor."""

    executor: LocalExecutor
    queue: Queue
    store: Store
    progress: Progress
    jobs: list[_Job] = field(default_factory=list)
    tries: Counter[str] = field(default_factory=Counter)
    # Runs that had no room beside others, and now get a device for themselves.
    alone: set[str] = field(default_factory=set)
    kernel_kills: int = field(default_factory=lambda: _kernel_kills())

    def __post_init__(self) -> None:
        self.limits = self.executor.limits
        devices = self.executor.devices
        self.packing = Packing(_memories(devices), len(devices))
        accelerators = {_accelerator(name) for name, size in self.packing.memory.items() if size is not None}
        self.peaks = PeakMemoryHistory(self.store, accelerators) if accelerators else None

    def is_busy(self) -> bool:
        """See `Session`."""
        return bool(self.jobs)

    def stop_all(self) -> None:
        """See `Session`."""
        for job in self.jobs:
            job.worker.stop()

    def start_runs(self) -> None:
        """See `Session`."""
        while len(self.jobs) < self.packing.workers and (run := self.queue.take(self._has_place)) is not None:
            self._begin(run)

    def note_completed(self, found: RunRecord) -> bool:
        """See `Session`."""
        self._learn(found)
        return found.run_id in self.tries

    def ended(self) -> Iterator[RunRecord]:
        """See `Session`."""
        self._listen()
        self.queue.claims.renew()
        for job in [job for job in self.jobs if not job.worker.process.is_alive()]:
            self._hear(job)
            self.jobs.remove(job)
            self.packing.leave(job.run_id)
            record = self._end(job)
            if record is not None:
                self._learn(record)
                yield record

    def kill_all(self) -> None:
        """End the runs at work without waiting for them."""
        for job in self.jobs:
            job.worker.kill()
        self.jobs.clear()
        # Also that of a run which could not begin.
        self.queue.claims.release_all()

    def _peak(self, run: PlannedRun) -> int | None:
        return None if self.peaks is None or run.spec.run_id in self.alone else self.peaks.of(run.spec)

    def _learn(self, record: RunRecord) -> None:
        if self.peaks is not None:
            self.peaks.learn(record)

    def _has_place(self, run: PlannedRun) -> bool:
        return self.packing.place(self._peak(run)) is not None

    def _begin(self, run: PlannedRun) -> None:
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
            device=_as_seen_outside(device),
            threads=self.executor.threads,
            may_retry=self._may_retry(run_id),
            deterministic=self.executor.deterministic,
            trackers=self.executor.trackers,
            shared=bool(others) or self.executor.shared,
        )
        before = self.store.stamp(run_id)
        worker = start(order)
        self.jobs.append(_Job(run, worker, device, before))
        with suppress(psutil.NoSuchProcess):  # it has died already, and its exit code says of what
            self.queue.claims.add_process(run_id, worker.pid)

    def _may_retry(self, run_id: str) -> bool:
        # That it did not fit beside others was no try.
        return self.tries[run_id] - (run_id in self.alone) <= self.executor.limits.retries

    def _listen(self) -> None:
        """Hear the workers until one of them has ended, for a tick at most, and end those that are over a limit."""
        until = time.monotonic() + _TICK_SECONDS
        ends = {job.worker.process.sentinel for job in self.jobs}
        ready: set[Any] = set()
        # Whatever they say in between: what else is to be done at each tick should not be done at every step of theirs.
        while ends.isdisjoint(ready) and (left := until - time.monotonic()) > 0:
            ready = set(wait([*ends, *(job.worker.line for job in self.jobs)], left))
            for job in self.jobs:
                self._hear(job)
        for job in self.jobs:
            verdict = self._over_limit(job)
            if verdict is not None and job.worker.process.is_alive():
                job.verdict = verdict
                job.worker.kill()

    def _hear(self, job: _Job) -> None:
        try:
            while job.worker.line.poll():
                news: WorkerMessage = job.worker.line.recv()
                job.heard, job.last = time.monotonic(), news
                if news.kind == "began":
                    job.hardware = dict(line.split("=", 1) for line in news.text.splitlines())
                elif news.step is not None:
                    self.progress.step(job.run.spec, *news.step)
        except (EOFError, OSError):  # it has died; what it left is judged by its exit code
            return

    def _over_limit(self, job: _Job) -> tuple[Status, str] | None:
        limits, now = self.executor.limits, time.monotonic()
        if limits.minutes is not None and now - job.began > 60 * limits.minutes:
            return Status.TIMEOUT, f"not done after {limits.minutes:g} minutes"
        if now - job.heard > 60 * limits.silent_minutes:
            return Status.TIMEOUT, f"no step for {limits.silent_minutes:g} minutes"
        if limits.memory_bytes is not None and (used := _memory(job)) > limits.memory_bytes:
            gib = limits.memory_bytes / 2**30
            return Status.OUT_OF_MEMORY, f"the process used {used / 2**30:.2f} GiB, more than the {gib:.2f} allowed"
        return None

    def _end(self, job: _Job) -> RunRecord | None:
        """Return the record of a run whose worker has ended, or ``None`` where it was stopped or is tried again."""
        job.worker.process.join()
        redact_file(self.store.work / job.run_id / OUTPUT)
        kind = job.last.kind if job.last else None
        record = self.store.load(job.run_id)
        # Not by its last word: it may have been killed between its record and that.
        if isinstance(record, RunRecord) and self.store.stamp(job.run_id) != job.before:
            self.store.discard_workspace(job.run_id)
            self.queue.claims.release(job.run_id)
            return record
        if kind == "stopped":
            self.queue.claims.release(job.run_id)
            return None
        if kind == "crowded" and job.run_id not in self.alone:
            self.alone.add(job.run_id)
            self.queue.requeue(job.run)
            return None
        verdict = job.verdict or self._cause_of_death(job)
        passes = kind == "retry" or verdict[0] is Status.TIMEOUT or (job.verdict is None and _from_outside(job))
        if passes and self._may_retry(job.run_id):
            self.queue.requeue(job.run)
            return None
        record = self._write_failure(job, *verdict)
        self.queue.claims.release(job.run_id)
        return record

    def _cause_of_death(self, job: _Job) -> tuple[Status, str]:
        if job.last and job.last.kind == "crowded":
            return Status.OUT_OF_MEMORY, job.last.text
        code = job.worker.process.exitcode or 0
        if code == -signal.SIGKILL and _kernel_kills() > self.kernel_kills:
            self.kernel_kills = _kernel_kills()
            return Status.OUT_OF_MEMORY, "the kernel ended the process, because the machine was out of memory"
        if code < 0:
            return Status.ERROR, f"the process was ended by {signal.Signals(-code).name}"
        said = (self._output(job).strip().splitlines() or [""])[-1]
        return Status.ERROR, f"the process ended with code {code}{f': {said}' if said else ''}"

    def _write_failure(self, job: _Job, status: Status, reason: str) -> RunRecord:
        hardware = job.hardware or {"device": job.device}
        return record_failure(job.run, self.store, status, reason, job.started, hardware, self._output(job))

    def _output(self, job: _Job) -> str:
        path = self.store.work / job.run_id / OUTPUT
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        if len(text) <= 2 * _KEPT_CHARACTERS:
            return text
        return f"{text[:_KEPT_CHARACTERS]}\n[...]\n{text[-_KEPT_CHARACTERS:]}"


def check_data(runs: Sequence[PlannedRun]) -> None:
    """Read every task's data once before anything is trained: a wrong folder is found out now, not after hours.

    Raises:
        UserError: data or a base model is not there.
    """
    seen: set[tuple[str, str, int | None]] = set()
    for run in runs:
        key = (run.spec.task, run.spec.data_revision, run.spec.limit)
        if key not in seen:
            seen.add(key)
            run.base_model.check(run.spec.model_revision, run.task.head)
            run.task.splits(run.source, run.spec.limit)


def _memories(devices: Sequence[str]) -> dict[str, int | None]:
    """Return the bytes of each accelerator that is to have several runs at a time, ``None`` for what is not packed."""
    names = dict.fromkeys(devices)
    return {name: _device_memory(name) if len(devices) > len(names) else None for name in names}


def _device_memory(name: str) -> int | None:
    import torch

    device = torch.device(name)
    return int(torch.cuda.get_device_properties(device).total_memory) if device.type == "cuda" else None


def _accelerator(name: str) -> str:
    """Return what records call an accelerator."""
    import torch

    return environment.hardware(torch.device(name))["accelerator"]


def _as_seen_outside(device: str) -> str:
    """Return a device by the name that it has for a process that sees all of them."""
    kind, colon, number = device.partition(":")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if kind != "cuda" or not colon or not visible:
        return device
    return f"cuda:{visible.split(',')[int(number)].strip()}"


def _memory(job: _Job) -> int:
    try:
        return int(psutil.Process(job.worker.process.pid).memory_info().rss)
    except psutil.Error:
        return 0


def _from_outside(job: _Job) -> bool:
    """Tell whether a worker was killed by something other than its own fault."""
    return job.worker.process.exitcode in (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGHUP)


def _kernel_kills() -> int:
    """Return how many processes of this control group the kernel has ended for want of memory, if it says so."""
    path = Path("/sys/fs/cgroup/memory.events")
    if not path.is_file():
        return 0
    counts = dict(line.split() for line in path.read_text().splitlines())
    return int(counts.get("oom_kill", 0))


def workers_on(devices: Sequence[str], workers: int) -> tuple[str, ...]:
    """Return the devices of so many runs at a time, spread evenly.

    Raises:
        UserError: there are fewer workers than devices.
    """
    if workers < len(devices):
        raise UserError(f"--workers is {workers}, less than the {len(devices)} devices; give at least one for each")
    return tuple(devices[number % len(devices)] for number in range(workers))
