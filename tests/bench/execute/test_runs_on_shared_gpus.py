"""The executor packs runs onto made-up accelerators by what it has measured."""

import io
import subprocess
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection

import pytest
from rich.console import Console

from parbench.bench.execute import gpu_packing, local
from parbench.bench.execute.executor import RunOptions
from parbench.bench.execute.local import LocalExecutor
from parbench.bench.execute.progress import LineProgress, SilentProgress
from parbench.bench.execute.queue import Queue
from parbench.bench.execute.worker import Worker, WorkerMessage
from parbench.bench.plan.planned_run import PlannedRun
from parbench.bench.record.run_record import Status
from parbench.bench.store.store import Store
from parbench.bench.util.started_process import Started
from tests.support.peaks import GIB, NAME, kept, measured, plan


class FakeProcess(threading.Thread):
    """A worker as its runner sees it: it lives, prints something, ends, and leaves a record."""

    exitcode = 0

    def __init__(self, devices, pid, order, line):
        super().__init__(daemon=True)
        self.pid, self.devices, self.order, self.line = pid, devices, order, line
        self.sentinel, self._end = Pipe(duplex=False)

    def run(self):
        try:
            word = self.devices.work(self.order, self.line)
            self.line.send(WorkerMessage(word, text="no room" if word == "crowded" else ""))
        finally:
            self._end.close()
            self.line.close()

    def kill(self):
        """It ends by itself."""


@dataclass
class FakeDevices:
    """Accelerators of so many bytes; a run takes as many GiB as its rank, and a full device raises an error.

    No run ends before ``at_least`` have begun.
    """

    store: Store
    size: int
    pid: int
    seconds: float = 0.02
    at_least: int = 0

    def __post_init__(self):
        self.lock = threading.Lock()
        self.in_use: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.begun: list[tuple[str, str, bool]] = []
        self.misses: Counter[str] = Counter()

    def start(self, order):
        ours, theirs = Pipe()
        process = FakeProcess(self, self.pid, order, theirs)
        process.start()
        return Worker(Started(process), ours)

    def work(self, order, line: Connection):
        run = PlannedRun.from_json(order.run)
        taken = run.spec.setting["r"] * GIB
        shared = order.shared
        with self.lock:
            self.begun.append((order.device, run.spec.run_id, shared))
            self.in_use[order.device] += taken
            self.most[order.device] = max(self.most[order.device], self.in_use[order.device])
            full = self.in_use[order.device] > self.size or self.misses[run.spec.run_id] > 0
        time.sleep(self.seconds)
        while len(self.begun) < self.at_least:
            time.sleep(0.001)
        while line.poll():
            shared = line.recv() == "share" or shared
        with self.lock:
            self.in_use[order.device] -= taken
        if full and shared:
            self.misses[run.spec.run_id] -= 1
            return "crowded"
        record = measured(taken, **asdict(run.spec))
        kept(self.store, replace(record, cost=replace(record.cost, shared_device=shared)))
        return "recorded"


@pytest.fixture
def devices(store, monkeypatch):
    """Accelerators of 16 GiB."""
    # Leases are of living processes.
    sleeper = subprocess.Popen(["sleep", "600"], start_new_session=True)
    made = FakeDevices(store, 16 * GIB, sleeper.pid)
    monkeypatch.setattr(local, "start", made.start)
    monkeypatch.setattr(gpu_packing, "device_memory", lambda name: made.size)
    monkeypatch.setattr(local, "accelerator_name", lambda name: NAME)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    yield made
    sleeper.kill()
    sleeper.wait()


def do(runs, store, *slots, **options):
    executor = LocalExecutor(slots, RunOptions(**options))
    return list(executor.work_off(Queue(runs, store), store, SilentProgress()))


def test_the_executor_packs_what_it_has_measured_and_nothing_else(store, devices):
    # Longer than it takes to begin the next one, also on a busy machine.
    devices.seconds = 0.3
    records = do(plan([2, 40, 5], seeds=6), store, "cuda:0", "cuda:1", "cuda:0", "cuda:1", "cuda:0", "cuda:1")
    assert Counter(record.status for record in records) == {Status.OK: 18}
    assert len(list(store.scan())) == 18
    # 40 GiB fit nowhere, and run all the same, alone.
    largest = [record for record in records if record.spec.setting["r"] == 40]
    assert not any(record.cost.shared_device for record in largest)
    assert sum(record.cost.shared_device for record in records) > 6
    # More than a device has was asked of it by those of 40 GiB only, and by them alone.
    assert all(most == 40 * GIB or most <= devices.size for most in devices.most.values())
    # The first of each kind was not known, and began alone.
    first = {run_id: shared for _, run_id, shared in reversed(devices.begun)}
    assert [first[run.spec.run_id] for run in plan([2, 40, 5], 1)] == [False] * 3


def test_a_second_command_knows_from_the_records_what_fits(store, devices):
    do(plan([2], seeds=1), store, "cuda:0")
    devices.begun.clear()
    devices.at_least = 4
    records = do(plan([2], seeds=5)[1:], store, *["cuda:0"] * 4)
    assert [shared for _, _, shared in devices.begun[:4]] == [False, True, True, True]
    assert all(record.cost.shared_device for record in records)


def test_one_run_for_each_device_shares_nothing_and_looks_at_no_memory(store, devices, monkeypatch):
    monkeypatch.setattr(gpu_packing, "device_memory", lambda name: pytest.fail("nobody needs to know"))
    records = do(plan([2], seeds=4), store, "cuda:0", "cuda:1")
    assert [record.cost.shared_device for record in records] == [False] * 4


def test_out_of_memory_beside_others_is_tried_again_alone_and_is_not_a_try(store, devices):
    runs = plan([2], seeds=4)
    do(runs[:1], store, "cuda:0")
    unlucky = runs[2].spec.run_id
    devices.misses[unlucky] = 1
    devices.begun.clear()
    devices.at_least = 3
    records = do(runs[1:], store, *["cuda:0"] * 4, retries=0)
    assert Counter(record.status for record in records) == {Status.OK: 3}
    tries = [shared for _, run_id, shared in devices.begun if run_id == unlucky]
    assert len(tries) == 2
    (record,) = [record for record in records if record.run_id == unlucky]
    assert not record.cost.shared_device
    assert not (store.root / "aside").exists()


def test_where_others_share_the_device_anyway_the_second_time_counts(store, devices):
    """As a Ray cluster that gives each run a part of a GPU does."""
    (run,) = plan([2], seeds=1)
    devices.misses[run.spec.run_id] = 2
    (record,) = do([run], store, "cuda:0", shared=True)
    assert (record.status, record.reason) == (Status.OUT_OF_MEMORY, "no room")
    (again,) = do([run], store, "cuda:0", shared=True)
    assert (again.status, again.cost.shared_device) == (Status.OK, True)


def test_a_worker_that_is_dead_before_its_claim_names_it_is_a_run_like_any_other(store, devices):
    gone = subprocess.Popen(["true"])
    gone.wait()
    devices.pid = gone.pid
    (record,) = do(plan([2], seeds=1), store, "cuda:0")
    assert record.status is Status.OK


def test_what_was_put_back_and_is_then_done_elsewhere_has_ended_for_the_user_too(store, devices, monkeypatch):
    (run,) = plan([2], seeds=1)
    devices.misses[run.spec.run_id] = 1
    requeue = Queue.requeue

    def overtaken(queue, run):
        requeue(queue, run)
        kept(store, measured(GIB, **asdict(run.spec)))

    monkeypatch.setattr(Queue, "requeue", overtaken)
    message = io.StringIO()
    executor = LocalExecutor(("cuda:0",), RunOptions(shared=True))
    (record,) = executor.work_off(Queue([run], store), store, LineProgress(Console(file=message), 1))
    assert record.cost.reserved_device_bytes == GIB
    assert message.getvalue().startswith(f"[1/1] {run.spec.run_id} ")
