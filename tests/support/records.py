"""Made-up records for tests of what is done with records."""

from __future__ import annotations

from dataclasses import replace

from parbench.bench.record.run_record import Cost, ParameterCounts, Provenance, RunRecord, Status
from parbench.bench.record.run_spec import RunSpec

SPEC = RunSpec(
    suite="mini",
    small=True,
    protocol="strict",
    task="glue/sst2",
    base_model="minilm-l6",
    method="lora",
    setting={"r": 8, "learning_rate": 2e-3, "target_modules": None},
    training={"max_steps": 100, "batch_size": 16},
    budget=None,
    seed=1,
    limit=None,
    data_source="package somewhere 1.0",
    data_revision="sha256:" + "1" * 64,
    model_revision="sha256:" + "2" * 64,
    method_code="a" * 16,
    task_code="b" * 16,
    harness_code="c" * 16,
)

RECORD = RunRecord(
    spec=SPEC,
    status=Status.OK,
    reason=None,
    primary="accuracy",
    metrics={"accuracy": 0.8125},
    selection_metrics={"accuracy": 0.75},
    examples={"train": 100, "selection": 20, "reported": 32},
    ledger=ParameterCounts(73728, 73728, 73728, stored_bytes=298216, head=770, frozen=0, frozen_stored=0),
    cost=Cost(0.5, 12.25, 100, 1.5, 1 << 30, None),
    provenance=Provenance(
        started="2026-01-01T00:00:00+00:00",
        finished="2026-01-01T00:01:00+00:00",
        command="bench run",
        versions={"torch": "2.13.0"},
        hardware={"device": "cpu"},
        git_commit=None,
        git_dirty=None,
        notes=("a warning",),
    ),
)


def with_spec(record: RunRecord = RECORD, **changes: object) -> RunRecord:
    """Return the record of another run."""
    return replace(record, spec=replace(record.spec, **changes))
