"""Runner and workers are killed at random moments, again and again: nothing is lost, doubled or wrong in the end."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from parbench.bench.record.run_record import RunRecord, Status
from parbench.bench.store.garbage import find_garbage, remove
from parbench.bench.store.layout import LOG, RECORD
from parbench.bench.store.leases import Leases
from parbench.bench.store.log import read_log
from parbench.bench.store.store import Store
from tests.support.paths import ROOT, SOURCE

KILLS = int(os.environ.get("PARBENCH_TEST_KILLS", "200"))
# After so many cuts a store is finished in peace and looked at; then the next one begins.
KILLS_PER_STORE = 10


@pytest.fixture
def begin(tiny_data, tiny_model):
    def command(store):
        settings = ("train.max_steps=40", "train.max_length=32", "train.checkpoint_steps=3", "loca.n_frequency=50")
        return subprocess.Popen(
            [
                *(
                    sys.executable,
                    "-m",
                    "parbench.bench",
                    "run",
                    "--suite",
                    "mini",
                    "--tasks",
                    "glue/sst2",
                    "--seeds",
                    "1",
                ),
                *("--methods", "lora,loca,linear_probe", "--model", tiny_model, "--data-root", tiny_data),
                *(f"--set={setting}" for setting in settings),
                *("--out", store, "--workers", "2", "--device", "cpu"),
            ],
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return command


def workers(store):
    """Return the processes that do runs of a store, as its leases name them.

    Only living processes: the ids in a lease of killed processes may belong to others by now.
    """
    leases = Leases(store).living().values()
    return [process.pid for lease in leases for process in lease.processes[1:] if process.lives()]


def cut(process, store, draw):
    """Kill at a random moment of the start, or of the runs; return whether there was anything left to kill."""
    if draw.random() < 0.2:
        time.sleep(draw.uniform(0, 3))
    else:
        while process.poll() is None and not workers(store):
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 2.5))
    if process.poll() is not None:
        return False
    what = draw.choice(["runner", "worker", "both"])
    pids = workers(store) if what != "runner" else []
    if what == "both":
        process.kill()
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if what == "runner":
        process.kill()
    return True


def outcomes(store):
    """Return what each run has found, and where it stands byte by byte."""
    found = {}
    for record in Store(store).scan():
        assert isinstance(record, RunRecord), str(record)
        assert record.status == Status.OK, record.reason
        name = "predictions.parquet"
        found[record.run_id] = (record.metrics, record.selection_metrics, record.files[name], record.cost.train_steps)
    return found


@pytest.mark.slow
@pytest.mark.timeout(30 * KILLS + 600)
def test_nothing_is_lost_doubled_or_wrong(begin, tmp_path):
    whole = tmp_path / "whole"
    process = begin(whole)
    message, _ = process.communicate(timeout=300)
    assert process.returncode == 0, message
    expected = outcomes(whole)
    assert len(expected) == 3
    draw, kills, number = random.Random(0), 0, 0
    while kills < KILLS:
        number += 1
        store = tmp_path / f"store-{number}"
        for _ in range(KILLS_PER_STORE):
            process = begin(store)
            struck = cut(process, store, draw)
            message, _ = process.communicate(timeout=300)
            # Python's own fork server complains where its runner died in the middle of starting a worker.
            assert process.returncode == -signal.SIGKILL or "Traceback" not in message, message
            kills += struck
            if not struck:
                break
        process = begin(store)
        message, _ = process.communicate(timeout=300)
        assert process.returncode == 0, message
        assert outcomes(store) == expected, f"store {number}"
        # What was moved aside are records of killed workers, never one that was good.
        for path in store.glob(f"aside/*/{RECORD}"):
            assert json.loads(path.read_text())["status"] != "ok", path
        # Of a command that was killed between a record and the end of its lease, the lease stays, until `bench gc`.
        assert not Leases(store).living()
        for waste in list(find_garbage(Store(store), unfinished=False)):
            assert remove(waste, Store(store))
        assert not list((store / "leases").glob("*.json"))
        assert outcomes(store) == expected, f"store {number} after gc"
        for path in store.glob(f"runs/*/{LOG}"):
            assert [line["event"] for line in read_log(path)][-1] == "ended"
    print(f"{kills} kills of {number} stores")  # noqa: T201
