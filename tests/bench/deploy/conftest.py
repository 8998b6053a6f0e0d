"""A store of a few tiny runs with their adapters."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from parbench.bench.plan.planner import Overrides, make_plan
from parbench.bench.plan.suite import load_suite
from parbench.bench.run.execute_run import execute_run
from parbench.bench.run.inputs import DataCache
from parbench.bench.store.store import Store
from parbench.tasks.data.lock import RevisionLock

METHODS = ("lora", "loca(n_frequency=50)", "dora", "bitfit")


@pytest.fixture(scope="module")
def trained_store(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path, tiny_model: Path) -> Store:
    store = Store(tmp_path_factory.mktemp("trained") / "store")
    store.prepare()
    overrides = Overrides(
        methods=METHODS,
        tasks=("glue/sst2",),
        base_model=str(tiny_model),
        seeds=(1,),
        # So fast that a few steps move the adapter far.
        sets=("train.max_steps=12", "train.max_length=32", "lora.learning_rate=0.05", "loca.learning_rate=0.5"),
        data_root=tiny_data,
    )
    cache = DataCache()
    for run in make_plan(load_suite("mini"), overrides, RevisionLock(store.lock_file)).runs:
        record = execute_run(run, store, cache, torch.device("cpu"))
        assert record.status == "ok", record.reason
    return store


@pytest.fixture
def run_of(trained_store: Store):
    """Return the id of a method's run."""

    def find(method: str) -> str:
        (found,) = (record.run_id for record in trained_store.scan() if record.spec.method == method)
        return found

    return find
