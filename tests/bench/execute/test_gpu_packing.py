"""Runs share made-up accelerators: no device is ever over-committed, and all runs get done."""

import io
import random
import subprocess
import threading
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection

import pytest
from rich.console import Console

from parbench.bench.execute import gpu_packing, local
from parbench.bench.execute.executor import RunOptions
from parbench.bench.execute.gpu_packing import MARGIN, SLACK, Packing, needed, visible_outside
from parbench.bench.execute.local import LocalExecutor
from parbench.bench.execute.memory_history import PeakMemoryHistory
from parbench.bench.execute.progress import LineProgress, SilentProgress
from parbench.bench.execute.queue import Queue
from parbench.bench.execute.worker import Worker, WorkerMessage
from parbench.bench.plan.names import AskedNames
from parbench.bench.plan.planned_run import PlannedRun
from parbench.bench.record.run_record import Status
from parbench.bench.store.store import Store
from parbench.bench.util.started_process import Started
from parbench.tasks.data.location import DataLocation
from tests.support.records import RECORD, with_spec

GIB = 2**30
NAME = "Made-up 80 (80 GiB)"


def test_an_idle_device_takes_whatever_comes():
    packing = Packing({"a": 10 * GIB, "b": 10 * GIB}, workers=4)
    assert packing.place(None) == "a"
    packing.enter("unknown", "a", None)
    assert packing.place(500 * GIB) == "b"
    packing.enter("too large", "b", 500 * GIB)
    assert packing.place(1) is None
    packing.leave("unknown")
    assert packing.place(1) == "a"


def test_a_run_joins_others_only_where_all_are_known_to_fit():
    packing = Packing({"a": 20 * GIB}, workers=4)
    assert packing.enter("first", "a", 5 * GIB) == []
    assert packing.place(None) is None
    # 19 GiB without the margin; the first keeps 6.5 of them.
    assert packing.place(11 * GIB) is None
    assert packing.place(10 * GIB) == "a"
    assert packing.enter("second", "a", 10 * GIB) == ["first"]
    assert packing.place(1) is None


def test_the_least_busy_device_is_taken_and_workers_are_never_exceeded():
    packing = Packing({"a": 80 * GIB, "b": 80 * GIB}, workers=3)
    assert [packing.enter(run, str(packing.place(GIB)), GIB) for run in ("1", "2", "3")] == [[], [], ["1"]]
    assert packing.place(GIB) is None


def test_on_a_cpu_workers_mean_what_they_say_and_share_nothing():
    packing = Packing({"cpu": None}, workers=2)
    assert [packing.place(None), packing.enter("1", "cpu", None)] == ["cpu", []]
    assert [packing.place(None), packing.enter("2", "cpu", None)] == ["cpu", []]
    assert packing.place(None) is None


def simulate(draw):
    sizes = [draw.randint(4, 100) for _ in range(draw.randint(1, 3))]
    kinds = [draw.randint(0, 120) for _ in range(draw.randint(1, 4))]
    waiting = deque((str(number), draw.randrange(len(kinds))) for number in range(draw.randint(0, 30)))
    memory = {f"cuda:{number}": size * GIB for number, size in enumerate(sizes)}
    packing = Packing(memory, workers=len(sizes) + draw.randint(0, 6))
    known: dict[int, int] = {}
    at_work: dict[str, tuple[str, int, int]] = {}
    shared = 0
    while waiting or at_work:
        for run, kind in list(waiting):
            peak = known.get(kind)
            if (device := packing.place(peak)) is None:
                continue
            waiting.remove((run, kind))
            others = packing.enter(run, device, peak)
            assert sorted(others) == sorted(name for name, (where, _, _) in at_work.items() if where == device)
            shared += bool(others)
            # Another seed of a kind may take somewhat more than the largest so far.
            at_work[run] = (device, kind, round(kinds[kind] * GIB * draw.uniform(1 / SLACK, 1)))
        assert at_work, "nothing is at work and nothing begins"
        assert len(at_work) <= packing.workers
        for device, size in memory.items():
            here = [taken for where, _, taken in at_work.values() if where == device]
            assert len(here) < 2 or sum(here) + len(here) * GIB <= (1 - MARGIN) * size
        ended = draw.choice(sorted(at_work))
        _, kind, taken = at_work.pop(ended)
        packing.leave(ended)
        known[kind] = max(taken, known.get(kind, 0))
    return shared


def test_no_device_is_ever_over_committed_and_all_get_done():
    draw = random.Random(1)
    assert sum(simulate(draw) for _ in range(300)) > 300  # or nothing would be shown


def test_more_is_kept_for_a_run_than_one_alike_has_taken():
    assert needed(0) == GIB
    assert needed(10 * GIB) == 12 * GIB


def measured(peak, accelerator=NAME, **changes):
    record = with_spec(**changes)
    made = replace(record.provenance, hardware={"device": "cuda", "accelerator": accelerator})
    return replace(record, cost=replace(record.cost, reserved_device_bytes=peak), provenance=made)


def kept(store, record):
    output = store.workspace(record.run_id) / "output"
    output.mkdir()
    store.commit(record, output)
    store.discard_workspace(record.run_id)


def test_a_peak_is_the_largest_of_runs_that_cost_alike_on_the_same_kind_of_device(store):
    kept(store, measured(3 * GIB, seed=1))
    kept(store, measured(5 * GIB, seed=2, protocol="paper:best_epoch"))
    kept(store, measured(50 * GIB, seed=3, accelerator="Another (16 GiB)"))
    kept(store, with_spec(seed=4))  # of a CPU, or from before this was measured
    peaks = PeakMemoryHistory(store, {NAME})
    assert peaks.of(with_spec(seed=9).spec) == 5 * GIB
    larger = with_spec(setting={**RECORD.spec.setting, "r": 64})
    assert peaks.of(larger.spec) is None
    peaks.learn(measured(9 * GIB, setting=larger.spec.setting))
    assert peaks.of(larger.spec) == 9 * GIB
    assert peaks.of(replace(larger.spec, setting={**larger.spec.setting, "learning_rate": 1.0})) == 9 * GIB


ASKED = AskedNames("lora", "glue/sst2", "minilm-l6")
LOCATION = DataLocation("hub", "lock.json")


class FakeProcess(threading.Thread):
    """A worker as its runner sees it: it lives, says something, ends, and leaves a record."""

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
    """Accelerators of so many bytes; a run takes what its rank says, in GiB, and a device that is full has no more.

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


def plan(ranks, seeds):
    specs = [with_spec(setting={"r": rank}, seed=seed).spec for rank in ranks for seed in range(seeds)]
    return [PlannedRun(spec, ASKED, LOCATION) for spec in specs]


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


def test_out_of_memory_beside_others_is_tried_again_alone_and_is_no_try(store, devices):
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


def test_a_run_that_has_no_place_keeps_its_turn(store):
    runs = plan([1, 2, 3], seeds=1)
    queue = Queue(runs, store)
    assert queue.take(lambda run: False) is None
    assert queue.take(lambda run: run.spec.setting["r"] == 2) == runs[1]
    assert [queue.take(), queue.take(), queue.take()] == [runs[0], runs[2], None]
    queue.requeue(runs[0])
    assert queue.take() == runs[0]
    # The user has asked to stop: what is put back now is not begun again.
    queue.give_up()
    queue.requeue(runs[0])
    assert not queue
    assert queue.take() is None
    queue.claims.release_all()


def test_however_many_wait_a_look_takes_no_longer_and_nobody_is_forgotten(store, monkeypatch):
    monkeypatch.setattr("parbench.bench.execute.queue.LOOK_AHEAD", 3)
    runs = plan([1, 2, 3, 4, 5], seeds=1)
    queue, seen = Queue(runs, store), []

    def fits(run):
        seen.append(run.spec.setting["r"])
        return run.spec.setting["r"] > 3

    assert queue.take(fits) is None
    assert seen == [1, 2, 3]
    assert queue.take() == runs[0]
    # Now that one has gone, the next is near enough.
    assert queue.take(fits) == runs[3]
    assert [queue.take(), queue.take(), queue.take(), queue.take()] == [runs[1], runs[2], runs[4], None]
    queue.claims.release_all()


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
    said = io.StringIO()
    executor = LocalExecutor(("cuda:0",), RunOptions(shared=True))
    (record,) = executor.work_off(Queue([run], store), store, LineProgress(Console(file=said), 1))
    assert record.cost.reserved_device_bytes == GIB
    assert said.getvalue().startswith(f"[1/1] {run.spec.run_id} ")


@pytest.mark.parametrize(
    ("device", "visible", "outside"),
    [
        ("cuda:1", None, "cuda:1"),
        ("cuda:1", "4,7", "cuda:7"),
        ("cuda:0", "GPU-0a1b", "cuda:GPU-0a1b"),
        ("cuda", "4,7", "cuda"),
        ("cpu", "4,7", "cpu"),
    ],
)
def test_a_worker_gets_the_device_that_the_user_means(monkeypatch, device, visible, outside):
    """Which numbers devices among those that are visible, as torch does."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert visible_outside(device) == outside
