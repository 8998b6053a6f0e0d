"""Runs to forecast, and a made-up calibration in place of a measured one."""

import pytest

from parbench.bench.forecast import calibration as module
from parbench.bench.plan.overrides import Overrides
from parbench.bench.plan.planner import make_plan
from parbench.bench.plan.suite import load_suite
from parbench.bench.store.store import Store
from parbench.tasks.data.lock import RevisionLock
from tests.support.forecasts import COST


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PARBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "forecast"


@pytest.fixture
def planned(tiny_model, tiny_data, tmp_path):
    """Return the runs of a comparison on the tiny model and data."""

    def call(*sets, methods=("lora",), seeds=(1,), **changes):
        sets = ("train.max_length=32", *sets)
        overrides = Overrides(
            methods=methods,
            tasks=("glue/sst2",),
            base_model=str(tiny_model),
            seeds=seeds,
            sets=sets,
            data_root=tiny_data,
            **changes,
        )
        return make_plan(load_suite("mini"), overrides, RevisionLock(tmp_path / "lock.json")).runs

    return call


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def calibrated(monkeypatch):
    """Put a made-up calibration in place of the real one; it holds the runs that were asked for."""
    asked = []

    def calibrate(run, machine):
        asked.append(run)
        return COST

    monkeypatch.setattr(module, "calibrate", calibrate)
    return asked
