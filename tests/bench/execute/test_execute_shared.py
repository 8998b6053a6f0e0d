"""Runs that share an accelerator say so, and are not blamed for what the others take of it."""

import json
import re
import threading
from dataclasses import replace
from multiprocessing import Pipe

import pytest
import torch

from parbench.bench.execute import gpu_packing, local, worker
from parbench.bench.execute.executor import RunOptions
from parbench.bench.execute.local import LocalExecutor
from parbench.bench.execute.memory_history import PeakMemoryHistory
from parbench.bench.execute.progress import SilentProgress
from parbench.bench.execute.worker import Worker
from parbench.bench.plan.overrides import Overrides
from parbench.bench.plan.planner import make_plan
from parbench.bench.plan.suite import load_suite
from parbench.bench.record.run_record import RunRecord, Status
from parbench.bench.record.run_spec import digest
from parbench.bench.record.serialization import from_json, to_json
from parbench.bench.run.execute_run import RunHooks, SharedDeviceOutOfMemoryError, execute_run
from parbench.bench.run.inputs import DataCache
from parbench.bench.store.layout import LOG
from parbench.bench.store.log import read_log, run_log
from parbench.bench.util.started_process import Started
from parbench.reports.caveats import warnings
from parbench.reports.frame import read_frame
from parbench.tasks.data.lock import RevisionLock
from tests.support.records import RECORD

GIB = 2**30


@pytest.fixture
def planned(tiny_data, tiny_model, store):
    overrides = Overrides(
        methods=("lora",),
        tasks=("glue/sst2",),
        base_model=str(tiny_model),
        seeds=(1,),
        sets=("train.max_steps=4", "train.max_length=32"),
        data_root=tiny_data,
    )
    (run,) = make_plan(load_suite("mini"), overrides, RevisionLock(store.lock_file)).runs
    return run


def test_a_run_records_that_it_was_not_alone(planned, store):
    record = perform_logged(planned, store, shares=True)
    assert (record.cost.shared_device, record.cost.reserved_device_bytes) == (True, None)
    events = [entry["event"] for entry in read_log(store.runs / record.run_id / LOG)]
    assert "shared" in events
    (caution,) = [text for text in warnings(read_frame(store).runs) if text.startswith("shared")]
    assert caution.endswith("beside lora (1 run); their times are no measurement of speed, and are left out.")
    alone = perform_logged(planned, store, shares=False)
    assert alone.cost.shared_device is False
    assert "shared" not in [entry["event"] for entry in read_log(store.runs / alone.run_id / LOG)]
    assert not [text for text in warnings(read_frame(store).runs) if text.startswith("shared")]


def perform_logged(run, store, shares):
    cpu = torch.device("cpu")
    with run_log(store.workspace(run.spec.run_id), run.spec, cpu):
        return execute_run(run, store, DataCache(), cpu, RunHooks(shares=lambda: shares))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("no more"),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
    ids=["host", "torch", "cuda", "cublas"],
)
def test_out_of_memory_is_a_record_only_of_a_run_that_was_alone(planned, store, error):
    def on_step(done, total, loss):
        raise error

    with pytest.raises(SharedDeviceOutOfMemoryError, match=re.escape(str(error))):
        execute_run(planned, store, DataCache(), torch.device("cpu"), RunHooks(on_step, shares=lambda: True))
    assert list(store.scan()) == []
    record = execute_run(planned, store, DataCache(), torch.device("cpu"), RunHooks(on_step))
    assert record.status in (Status.OUT_OF_MEMORY, Status.ERROR)
    assert record.reason.endswith(str(error))


def test_another_failure_beside_others_is_the_runs_own(planned, store):
    def on_step(done, total, loss):
        raise RuntimeError("a fault")

    record = execute_run(planned, store, DataCache(), torch.device("cpu"), RunHooks(on_step, shares=lambda: True))
    assert (record.status, record.reason) == (Status.ERROR, "RuntimeError: a fault")


def test_a_worker_hears_that_it_is_joined_and_that_it_is_to_stop(monkeypatch):
    over = threading.Event()
    monkeypatch.setattr(worker.os, "_exit", lambda code: over.set())
    ours, theirs = Pipe()
    line = worker._RunnerLink(theirs, may_retry=False)
    threading.Thread(target=line.listen, daemon=True).start()
    at_work = Worker(Started(None), ours)
    at_work.share()
    assert line.shared.wait(10)
    assert not line.stop.is_set()
    at_work.stop()
    assert line.stop.wait(10)
    # Its runner is gone.
    ours.close()
    assert over.wait(10)
    at_work.share()


def test_the_mark_gets_into_the_records_of_real_processes(planned, store, monkeypatch):
    monkeypatch.setattr(gpu_packing, "device_memory", lambda name: 16 * GIB)
    monkeypatch.setattr(local, "accelerator_name", lambda name: "Made-up")
    monkeypatch.setattr(PeakMemoryHistory, "of", lambda peaks, spec: GIB)
    runs = [replace(planned, spec=replace(planned.spec, seed=seed)) for seed in (1, 2)]
    # By this name it is not taken for the CPU, whose workers get cores and share no device.
    records = list(LocalExecutor(("cpu:0", "cpu:0"), RunOptions(threads=1)).execute(runs, store, SilentProgress()))
    # The first was alone when it began.
    assert [(record.status, record.cost.shared_device) for record in records] == [(Status.OK, True)] * 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_first_measures_and_the_others_share(planned, store):
    runs = [replace(planned, spec=replace(planned.spec, seed=seed)) for seed in (1, 2, 3)]
    records = list(LocalExecutor(("cuda", "cuda"), RunOptions(threads=1)).execute(runs, store, SilentProgress()))
    assert [(record.status, record.cost.shared_device) for record in records] == [
        (Status.OK, False),
        (Status.OK, True),
        (Status.OK, True),
    ]
    # Each process counts its own: with the others' it would be twice as much.
    first, *others = [record.cost.peak_device_bytes for record in records]
    assert all(0.8 * first < peak < 1.2 * first for peak in others)
    assert all(record.cost.reserved_device_bytes >= record.cost.peak_device_bytes for record in records)


def test_records_from_before_this_was_measured_are_read():
    old = json.loads(to_json(RECORD))
    for name in ("reserved_device_bytes", "shared_device"):
        assert old["cost"].pop(name) is None
    old.pop("sha256")
    record = from_json(json.dumps({**old, "sha256": digest(old)}))
    assert isinstance(record, RunRecord)
    assert (record.cost.shared_device, record.cost.reserved_device_bytes) == (None, None)
