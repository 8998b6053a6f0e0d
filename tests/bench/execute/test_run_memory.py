"""The memory of a run's process before a run of its configuration was measured."""

import dataclasses

import pytest

from parbench.bench.execute.run_memory import SCORING_BYTES, START_BYTES, MemoryEstimates, from_weights
from parbench.bench.plan.planner import Overrides, make_plan
from parbench.bench.plan.suite import load_suite
from parbench.tasks.data.lock import RevisionLock

OTHER = START_BYTES + SCORING_BYTES


@pytest.fixture
def planned(tiny_model, tiny_data, store):
    def plan(*sets, precision="float32", method="lora"):
        overrides = Overrides(
            methods=(method,),
            tasks=("glue/sst2",),
            base_model=str(tiny_model),
            seeds=(1,),
            sets=("train.max_length=64", *sets),
            data_root=tiny_data,
            base_precisions=(precision,),
        )
        (run,) = make_plan(load_suite("mini"), overrides, RevisionLock(store.lock_file)).runs
        return run

    return plan


def test_activations_count_and_not_only_weights(planned):
    """Twice the batch are twice the activations of a tiny model, whose weights are nothing beside them."""
    estimates = MemoryEstimates()
    sizes = [estimates.of(planned(f"train.batch_size={batch}")) - OTHER for batch in (64, 128, 256)]
    assert sizes[2] - sizes[1] == pytest.approx(2 * (sizes[1] - sizes[0]), rel=0.05)
    assert sizes[2] > 10 * from_weights(planned())


def test_each_workload_is_predicted_once(planned, monkeypatch):
    asked = []
    from parbench.bench.execute import run_memory

    real = run_memory.predicted_or_why
    monkeypatch.setattr(run_memory, "predicted_or_why", lambda *given: (asked.append(given), real(*given))[1])
    estimates = MemoryEstimates()
    run = planned()
    again = dataclasses.replace(run, spec=dataclasses.replace(run.spec, seed=2))
    assert estimates.of(run) == estimates.of(again)
    assert len(asked) == 1


def test_what_cannot_be_predicted_is_bounded_by_the_weights(planned, monkeypatch, tiny_model):
    run = planned()
    weights = sum(file.stat().st_size for file in tiny_model.glob("*.safetensors"))
    assert from_weights(run) == 4 * weights
    monkeypatch.setattr("parbench.bench.execute.run_memory.predicted_or_why", lambda *given: "it is not known")
    assert MemoryEstimates().of(run) == OTHER + 4 * weights
    monkeypatch.setattr("parbench.bench.execute.run_memory.is_predictable", lambda run: False)
    assert MemoryEstimates().of(run) == OTHER + 4 * weights
    monkeypatch.setattr("parbench.bench.execute.run_memory.from_weights", lambda run: None)
    assert MemoryEstimates().of(run) is None
