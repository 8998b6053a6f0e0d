"""A store planted with known runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import numpy as np
import pandas as pd

from parbench.bench.record.run_record import Cost, ParameterCounts, Provenance, RunRecord, Status
from parbench.bench.record.run_spec import Json, RunSpec
from parbench.bench.store.layout import PREDICTIONS
from parbench.bench.store.store import Store
from parbench.tasks import TASKS

SPEC = RunSpec(
    suite="planted",
    small=False,
    protocol="strict",
    task="glue/cola",
    base_model="roberta-base",
    method="lora",
    setting={"rank": 8, "learning_rate": 0.001},
    training={"epochs": 3, "batch_size": 32},
    budget=None,
    seed=0,
    limit=None,
    data_source="a planted source",
    data_revision="data-1",
    model_revision="model-1",
    method_code="method-1",
    task_code="task-1",
    harness_code="harness-1",
)
LEDGER = ParameterCounts(
    reported=294_912,
    trainable=294_912,
    optimised=294_912,
    stored_bytes=1_181_696,
    head=592_130,
    frozen=0,
    frozen_stored=0,
)
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


def rows_of(score: float, metric: str, turn: int = 0) -> pd.DataFrame:
    """Return per-example rows on which a metric is exactly ``score``, which has at most 4 decimals.

    Classes are two, of the same size, and equally often mistaken; ``turn`` says where the mistakes are.
    """
    if metric in ("pearson", "spearman"):
        return _numbers(score, metric)
    size = 200 if float(100 * score).is_integer() or abs(100 * score - round(100 * score)) < 1e-9 else 20_000
    wrong = size * (1 - score) / (2 if metric == "matthews_correlation" else 1)
    assert abs(wrong - round(wrong)) < 1e-6, f"{score} has more than 4 decimals: give the rows themselves"
    labels = np.repeat([0, 1], size)
    mistaken = np.tile(np.roll(np.arange(size) < round(wrong), 7 * turn), 2)
    return rows_with(labels, np.where(mistaken, 1 - labels, labels))


def _numbers(score: float, metric: str) -> pd.DataFrame:
    labels = np.arange(100.0)
    along = (labels - labels.mean()) / labels.std()
    across = np.where(np.arange(100) % 3 == 0, 1.0, -1.0)
    across -= across.mean() + along * (across @ along) / 100  # uncorrelated with the labels
    assert metric == "pearson", "only Pearson's is known in a closed form"
    across = (across - across.mean()) / across.std()
    return rows_with(labels, score * along + np.sqrt(1 - score**2) * across)


def rows_with(labels: np.ndarray, predicted: np.ndarray) -> pd.DataFrame:
    """Return per-example rows of one subset."""
    examples = [f"validation:{row}" for row in range(len(labels))]
    return pd.DataFrame({"example": examples, "subset": "", "label": labels, "prediction": predicted})


ANY_ROWS = (np.array([0, 1]), np.array([0, 1]))


@dataclass(frozen=True)
class Planter:
    """Puts records into a store the way a run does."""

    store: Store
    ledger: ParameterCounts = LEDGER
    cost: Cost = COST
    provenance: Provenance = PROVENANCE

    def run(
        self,
        score: float | None = None,
        metric: str = "matthews_correlation",
        status: Status = Status.OK,
        reason: str | None = None,
        ledger: ParameterCounts | None = LEDGER,
        cost: Cost | None = COST,
        provenance: Provenance = PROVENANCE,
        selection_metrics: dict[str, float] | None = None,
        rows: pd.DataFrame | None = None,
        others: dict[str, float] | None = None,
        measured: dict[str, float] | None = None,
        **spec: Any,
    ) -> RunRecord:
        """Commit the record of one run; ``spec`` is what differs from `SPEC`.

        ``others`` are metrics beside the primary one, ``measured`` is what was measured of general text.

        A run that is ok leaves per-example rows that bear its score out, made up unless given; where its task or
        metric is not known, any rows will do.
        """
        record = RunRecord(
            spec=replace(SPEC, **spec),
            status=status,
            reason=reason,
            primary=metric,
            metrics={} if score is None else {metric: score, **(others or {})},
            selection_metrics=selection_metrics or {},
            examples={"train": 64, "validation": 16},
            ledger=ledger,
            cost=cost,
            provenance=provenance,
            retention=measured or {},
        )
        folder = self.store.workspace(record.run_id)
        if status is Status.OK:
            if rows is None:
                known = score is not None and isfinite(score) and record.spec.task in TASKS
                rows = rows_of(score, metric, record.spec.seed) if known and score is not None else rows_with(*ANY_ROWS)
            rows.to_parquet(folder / PREDICTIONS, index=False)
        return self.store.commit(record, folder)

    def seeds(self, scores: list[float], **rest: Any) -> None:
        """Commit a run a score, with the seeds 0, 1, 2, ..."""
        for seed, score in enumerate(scores):
            self.run(score, seed=seed, **rest)


def plant(planter: Planter) -> None:
    """Plant the runs of `planted`."""
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
