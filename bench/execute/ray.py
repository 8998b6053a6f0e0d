"""Runs on a Ray cluster: this machine, or any number of them.

A Ray task is a `parbench.bench.execute.local.LocalExecutor` of one run: on its node the run has a process of its own,
with all limits and retries. This module starts as many runs as the cluster has room for, holds their leases, and
retries the runs of a lost node. All nodes must share the store's file system.
"""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from parbench.bench.execute.executor import FollowUp, RunOptions, check_data, no_follow_up
from parbench.bench.execute.failed_run import record_failure
from parbench.bench.execute.interrupt import until_interrupted
from parbench.bench.execute.local import LocalExecutor
from parbench.bench.execute.progress import Progress, SilentProgress
from parbench.bench.execute.queue import Queue
from parbench.bench.execute.session import ExecutorSession
from parbench.bench.plan.planned_run import PlannedRun
from parbench.bench.record.run_record import RunRecord, Status
from parbench.bench.record.run_spec import RunSpec
from parbench.bench.store.leases import DelegatedLease
from parbench.bench.store.store import Store
from parbench.bench.util import environment
from parbench.bench.util.errors import UserError
from parbench.bench.util.socket_folder import short_temporary_folder

_TICK_SECONDS = 0.5
# Only jobs and messages go through Ray's object store; this is about the least that Ray accepts.
_OBJECT_STORE_BYTES = 100 * 2**20
# What Ray appends to its temporary folder for a socket:
# "/ray/session_2026-01-31_12-30-00_123456_1234567/sockets/plasma_store", and some to spare.
_SOCKET_BYTES = 75
# A network file system shows what other machines have written after a while, commonly within a minute.
_SHARING_SECONDS = 90.0
_ANSWER_SECONDS = 15.0
# A message for each step of a tiny model would drown the driver.
_SECONDS_BETWEEN_NEWS = 0.5


@dataclass(frozen=True)
class RayExecutor:
    """Executes runs as tasks of Ray.

    Attributes:
        address: of the cluster, as ``ray.init`` takes it; ``None`` starts one on this machine, reachable from this
            machine only, which ends with the command.
        cpus: of each run, which are also torch's threads.
        gpus: of each run: 1, a share of one so that several runs are on one GPU, or 0 for the CPU; ``None`` is 1 where
            the cluster has any.
        workers: at most so many runs at a time; as many as the cluster has room for if ``None``.
        options: how each run is executed, and when it is given up.
    """

    address: str | None = None
    cpus: int = 1
    gpus: float | None = None
    workers: int | None = None
    options: RunOptions = field(default_factory=RunOptions)

    def __post_init__(self) -> None:
        if self.gpus is not None and not 0 <= self.gpus <= 1:
            raise UserError(f"a run cannot have {self.gpus:g} GPUs: it uses one, or a share of one; give 0 to 1")
        if self.cpus < 1:
            raise UserError(f"a run cannot have {self.cpus} CPUs; give at least 1")

    def execute(
        self, runs: Sequence[PlannedRun], store: Store, progress: Progress, follow_up: FollowUp = no_follow_up
    ) -> Iterator[RunRecord]:
        """Yield the record of each run when it is written."""
        check_data(runs)
        with _connected(self):
            session = _RaySession(self, _gpus(self), Queue(runs, store), store, progress, follow_up)
            yield from until_interrupted(progress.note, session.has_begun, session.records, session.cancel_all)


@dataclass
class _Job:
    """A run that was handed to Ray."""

    run: PlannedRun
    # What the store knew of the run before.
    before: tuple[int, int] | None
    started: str = field(default_factory=environment.now)


@dataclass
class _RaySession(ExecutorSession):
    """One call of the executor."""

    executor: RayExecutor
    gpus: float
    queue: Queue
    store: Store
    progress: Progress
    follow_up: FollowUp
    jobs: dict[Any, _Job] = field(default_factory=dict)
    lost: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        from ray.util.queue import Queue as Mailbox

        self.options = self.executor.options
        self.mailbox = Mailbox(actor_options={"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1})

    def is_busy(self) -> bool:
        """See `ExecutorSession`."""
        return bool(self.jobs)

    def stop_all(self) -> None:
        """See `ExecutorSession`."""
        import ray

        for reference in self.jobs:
            # In its task this is a Ctrl-C, which saves the present step.
            ray.cancel(reference)

    def start_runs(self) -> None:
        """See `ExecutorSession`."""
        while len(self.jobs) < self._room() and (run := self.queue.take()) is not None:
            self.begin(run)

    def note_completed(self, found: RunRecord) -> None:
        """See `ExecutorSession`: nothing is learned from it."""

    def ended(self) -> Iterator[RunRecord]:
        """See `ExecutorSession`."""
        import ray

        ended, _ = ray.wait(list(self.jobs), timeout=_TICK_SECONDS)
        self._hear()
        self.queue.leases.renew()
        for reference in ended:
            record = self._end(reference, self.jobs.pop(reference))
            if record is not None:
                yield record

    def cancel_all(self) -> None:
        """End the runs in progress, and their messages, without waiting for them."""
        import ray

        for reference in self.jobs:
            ray.cancel(reference, force=True)
        self.jobs.clear()
        self.queue.leases.release_all()
        self.mailbox.shutdown(force=True)

    def _room(self) -> int:
        """Return how many runs the cluster holds at a time; nodes come and go."""
        import ray

        have, executor = ray.cluster_resources(), self.executor
        room = int(have.get("CPU", 0)) // executor.cpus
        if self.gpus:
            # A run needs one GPU: the free shares of two GPUs cannot be combined.
            room = min(room, int(have.get("GPU", 0)) * int(1 / self.gpus + 1e-9))
        if executor.workers is not None:
            room = min(room, executor.workers)
        # At least one is started: a cluster that grows on demand grows for it.
        return max(1, room)

    def _begin(self, run: PlannedRun) -> None:
        """See `ExecutorSession`."""
        import ray

        run_id, executor = run.spec.run_id, self.executor
        if not self.lost[run_id]:
            self.progress.begin(run.spec)
        task = ray.remote(num_cpus=executor.cpus, num_gpus=self.gpus, max_retries=0)(_work)
        order = _Order(
            run=run.to_json(),
            store=str(self.store.root.absolute()),
            token=self.queue.leases.token(run_id),
            device="cuda:0" if self.gpus else "cpu",
            options=replace(
                executor.options,
                retries=max(0, executor.options.retries - self.lost[run_id]),
                threads=executor.cpus,
                shared=0 < self.gpus < 1,
            ),
        )
        before = self.store.stamp(run_id)
        self.jobs[task.options(name=str(run.spec)).remote(order, self.mailbox)] = _Job(run, before)

    def _hear(self) -> None:
        """Show how far the runs are."""
        runs = {job.run.spec.run_id: job.run.spec for job in self.jobs.values()}
        for run_id, *step in self.mailbox.get_nowait_batch(self.mailbox.qsize()):
            if run_id in runs:
                self.progress.step(runs[run_id], *step)

    def _end(self, reference: Any, job: _Job) -> RunRecord | None:
        """Return the record of a run whose task has ended, or ``None`` where it was stopped or is tried again."""
        import ray

        run_id, stopping = job.run.spec.run_id, self.stopping
        reason = "its task has ended without a record"
        try:
            if ray.get(reference):
                self._wait_for_record(job)
        except ray.exceptions.TaskCancelledError:
            stopping = True
        except ray.exceptions.RayTaskError as error:
            # An error of the node, such as that the store cannot be written to.
            reason = f"{type(error.cause).__name__}: {' '.join(str(error.cause).split())}"
        except ray.exceptions.RayError as error:
            reason = f"its worker or node was lost ({type(error).__name__})"
            self.lost[run_id] += 1
            if not stopping and not self._has_record(job) and self.lost[run_id] <= self.options.retries:
                self.queue.requeue(job.run)
                return None
        record = self.store.load(run_id) if self._has_record(job) else None
        if not isinstance(record, RunRecord):
            if stopping:
                self.queue.leases.release(run_id)
                return None
            hardware = {"cluster": "ray", "device": "cuda" if self.gpus else "cpu"}
            record = record_failure(job.run, self.store, Status.ERROR, reason, job.started, hardware)
        self.queue.leases.release(run_id)
        return record

    def _wait_for_record(self, job: _Job) -> None:
        """Wait for a record that another machine has written to be seen on this one."""
        patience = time.monotonic() + _SHARING_SECONDS
        while not self._has_record(job) and time.monotonic() < patience:
            time.sleep(_TICK_SECONDS)

    def _has_record(self, job: _Job) -> bool:
        return self.store.stamp(job.run.spec.run_id) not in (None, job.before)


@dataclass(frozen=True)
class _Order:
    """What a task is to do; plain values, so that it is understood on another machine.

    Attributes:
        device: by its number among those that Ray lets the task see: the server that forks workers may be older.
    """

    run: str
    store: str
    token: str
    device: str
    options: RunOptions


def _work(order: _Order, mailbox: Any) -> bool:
    """Execute one run on the node that this is called on; return whether it has left a record."""
    run, store = PlannedRun.from_json(order.run), Store(Path(order.store))
    if not store.runs.is_dir():
        raise UserError(f'a node does not see the store "{store.root}"; put it on a file system that all nodes share')
    executor = LocalExecutor((order.device,), order.options)
    queue = Queue([run], store, DelegatedLease(store.root, order.token))
    return bool(list(executor.work_off(queue, store, _News(mailbox))))


class _News(SilentProgress):
    """Sends steps to the driver, which knows of the beginning and finds the record itself."""

    def __init__(self, mailbox: Any) -> None:
        self._mailbox = mailbox
        self._last = 0.0

    def step(self, spec: RunSpec, done: int, total: int, loss: float | None) -> None:
        """Send it, now and then."""
        if done == total or time.monotonic() - self._last > _SECONDS_BETWEEN_NEWS:
            self._last = time.monotonic()
            # Without waiting for an answer: the driver may be gone.
            self._mailbox.actor.put_nowait.remote((spec.run_id, done, total, loss))


def _gpus(executor: RayExecutor) -> float:
    import ray

    if executor.gpus is not None:
        return executor.gpus
    return 1.0 if ray.cluster_resources().get("GPU", 0) else 0.0


def _check_reachable(address: str) -> None:
    """Check in seconds whether a Ray cluster can be reached, for which Ray takes minutes.

    Raises:
        UserError: the address does not answer.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():  # "auto", or what Ray knows and we do not
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UserError(f'there is no Ray cluster at "{address}": {error}') from error


def _folder_for_sockets() -> str | None:
    """Return where Ray makes its sockets, in place of a temporary folder with too long a name for them."""
    # As Ray itself looks for it.
    short = short_temporary_folder(_SOCKET_BYTES, os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp")  # noqa: S108
    return None if short is None else str(short / "ray")


@contextmanager
def _connected(executor: RayExecutor) -> Iterator[None]:
    # Ray reports usage to its makers unless this is set before it is imported.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
    except ImportError as error:
        raise UserError("--executor ray needs Ray; install it with: pip install 'parbench[ray]'") from error

    if executor.address is not None:
        _check_reachable(executor.address)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if executor.address is not None:
            ray.init(address=executor.address, **quiet)
        else:
            workers = executor.workers or max(1, (os.cpu_count() or 1) // executor.cpus)
            ray.init(
                # Always a new cluster; a running one is only used if its address was given.
                address="local",
                num_cpus=workers * executor.cpus,
                object_store_memory=_OBJECT_STORE_BYTES,
                include_dashboard=False,
                _node_ip_address="127.0.0.1",
                _temp_dir=_folder_for_sockets(),
                **quiet,
            )
    except Exception as error:  # of a node that does not start in time, Ray raises a plain one
        where = f'at "{executor.address}"' if executor.address else "on this machine"
        raise UserError(f"there is no Ray cluster {where}: {' '.join(str(error).split())}") from error
    try:
        yield
    finally:
        ray.shutdown()
