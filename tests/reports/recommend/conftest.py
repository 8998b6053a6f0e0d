"""Stores with known methods."""

from __future__ import annotations

import pytest

from parbench.bench.store.store import Store
from tests.support.planter import Planter
from tests.support.shares import plant_shares

# Seconds of training, bytes of memory and number of parameters.
COSTS = {"lora": (50.0, 2.0**30, 300_000), "loca": (150.0, 2.0**30, 300_000), "vera": (50.0, 2.0**30, 300_000)}


@pytest.fixture
def planted(tmp_path):
    """Return a function that plants shares of mistakes into a store of its own, and the means that come of them."""

    def plant(name, methods, tasks, **spec):
        store = Store(tmp_path / name)
        store.prepare()
        means = plant_shares(Planter(store), methods, tasks, costs=COSTS, **spec)
        return store, means

    return plant
