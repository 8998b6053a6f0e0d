"""Stores planted with known runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from bench.record import Cost, Json, ParameterLedger, Provenance, RunRecord, RunSpec, Status
from bench.store import Store

SPEC = RunSpec(
    suite="planted",
    small=False,
    protocol="strict",
    task="glue/cola",
    base_model="roberta-base",
    method="lora",
    setting={"rank": 8, "learning_rate": 0.001},
    training={"epochs": 3, "batch_size": 32},
    seed=0,
    limit=None,
    data_source="a planted source",
    data_revision="data-1",
    model_revision="model-1",
    method_code="method-1",
    task_code="task-1",
    harness_code="harness-1",
)
LEDGER = ParameterLedger(reported=294_912, trainable=294_912, optimised=294_912, stored_bytes=1_181_696, head=592_130)
COST = Cost(
    load_seconds=2.0,
    train_seconds=50.0,
    train_steps=100,
    evaluation_seconds=3.0,
    peak_process_bytes=2**30,
    peak_device_bytes=None,
)
PROVENANCE = Provenance(
    started="2025-01-01T00:00:00+00:00",
    finished="2025-01-01T00:01:00+00:00",
    command="bench run",
    versions={"torch": "2.6.0", "transformers": "5.0.0", "peft": "0.21.0", "numpy": "2.0.0"},
    hardware={"processor": "abacus"},
    git_commit=None,
    git_dirty=None,
)


@dataclass(frozen=True)
class Planter:
    """Puts records into a store the way a run does."""

    store: Store
    ledger: ParameterLedger = LEDGER
    cost: Cost = COST
    provenance: Provenance = PROVENANCE

    def run(
        self,
        score: float | None = None,
        metric: str = "matthews_correlation",
        status: Status = Status.OK,
        reason: str | None = None,
        ledger: ParameterLedger | None = LEDGER,
        cost: Cost | None = COST,
        provenance: Provenance = PROVENANCE,
        **spec: Any,
    ) -> RunRecord:
        """Commit the record of one run; ``spec`` is what differs from `SPEC`."""
        record = RunRecord(
            spec=replace(SPEC, **spec),
            status=status,
            reason=reason,
            primary=metric,
            metrics={} if score is None else {metric: score},
            selection_metrics={},
            examples={"train": 64, "validation": 16},
            ledger=ledger,
            cost=cost,
            provenance=provenance,
        )
        return self.store.commit(record, self.store.workspace(record.run_id))

    def seeds(self, scores: list[float], **rest: Any) -> None:
        """Commit a run a score, with the seeds 0, 1, 2, ..."""
        for seed, score in enumerate(scores):
            self.run(score, seed=seed, **rest)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    store.prepare()
    return store


@pytest.fixture
def planter(store: Store) -> Planter:
    return Planter(store)


@pytest.fixture
def planted(planter: Planter) -> Planter:
    """Two methods on three tasks with three seeds, whose means and deviations are known by hand.

    =====  ====================  =========================  ================
    \\      glue/cola             glue/rte                   glue/stsb
    =====  ====================  =========================  ================
    lora   0.5, 0.6, 0.7         0.7, 0.8, diverged         0.9, 0.9, 0.9
    vera   0.4, 0.5, 0.9         out of memory              not run
    =====  ====================  =========================  ================
    """
    vera = {"method": "vera", "setting": {"rank": 256, "learning_rate": 0.01}, "method_code": "vera-1"}
    vera_ledger = replace(LEDGER, reported=18_432, trainable=18_432, optimised=18_432)
    cola: Json = {"task": "glue/cola", "task_code": "cola-1"}
    rte: Json = {"task": "glue/rte", "task_code": "rte-1", "metric": "accuracy"}
    stsb: Json = {"task": "glue/stsb", "task_code": "stsb-1", "metric": "pearson"}
    planter.seeds([0.5, 0.6, 0.7], **cola)
    planter.seeds([0.7, 0.8], **rte)
    planter.run(status=Status.DIVERGED, reason="The loss was not finite at step 12.", seed=2, **rte)
    planter.seeds([0.9, 0.9, 0.9], **stsb)
    planter.seeds([0.4, 0.5, 0.9], ledger=vera_ledger, **vera, **cola)
    memory = {"status": Status.OUT_OF_MEMORY, "reason": "The device has 1 GiB.", "cost": None}
    planter.run(ledger=vera_ledger, **memory, **vera, **rte)
    return planter


@pytest.fixture
def damage(store: Store) -> Callable[[str, str], None]:
    """Return a function that spoils the record of a run: ``half`` written, ``edited`` by hand, or ``missing``."""

    def spoil(run_id: str, how: str) -> None:
        path = store.runs / run_id / "record.json"
        text = path.read_text(encoding="utf-8")
        if how == "half":
            path.write_text(text[: len(text) // 2], encoding="utf-8")
        elif how == "edited":
            assert "0.5" in text
            path.write_text(text.replace("0.5", "0.95"), encoding="utf-8")
        else:
            path.unlink()

    return spoil


@pytest.fixture
def copied(store: Store, tmp_path: Path) -> Callable[[], Store]:
    """Return a function that copies the store to another place."""

    def copy() -> Store:
        shutil.copytree(store.runs, tmp_path / "elsewhere" / "deeper" / "runs")
        return Store(tmp_path / "elsewhere" / "deeper")

    return copy
