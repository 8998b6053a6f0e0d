"""A run that trains nothing, or whose adapter could not be saved, is an error and never a result."""

import pytest
import torch

from parbench.bench.plan.overrides import Overrides
from parbench.bench.plan.planner import make_plan
from parbench.bench.plan.suite import load_suite
from parbench.bench.record.run_record import Status
from parbench.bench.run.execute_run import execute_run
from parbench.bench.run.inputs import DataCache
from parbench.bench.util.errors import UserError
from parbench.methods.lora import Lora
from parbench.tasks.data.lock import RevisionLock
from tests.support.data import sentences, write_jsonl


@pytest.fixture
def planned(store, tiny_data, tiny_model):
    def make(method="lora", seed=1, data=tiny_data, **training):
        values = {"max_steps": 3, "max_length": 32, **training}
        overrides = Overrides(
            methods=(method,),
            tasks=("glue/sst2",),
            base_model=str(tiny_model),
            seeds=(seed,),
            sets=tuple(f"train.{key}={value}" for key, value in values.items()),
            data_root=data,
        )
        (run,) = make_plan(load_suite("mini"), overrides, RevisionLock(store.lock_file)).runs
        return run

    return make


def do(run, store):
    return execute_run(run, store, DataCache(), torch.device("cpu"))


def test_an_adapter_that_gets_no_gradient_is_an_error(planned, store, monkeypatch):
    adapt = Lora.adapt

    def cut_off(self, model, names, setting):
        adapted = adapt(self, model, names, setting)
        for name, module in adapted.named_modules():
            if name.endswith("lora_B.default"):
                module.register_forward_hook(lambda module, inputs, output: output.detach())
        return adapted

    monkeypatch.setattr(Lora, "adapt", cut_off)
    record = do(planned(), store)
    assert record.status is Status.ERROR
    assert "training has moved none of the adapter's 8 parameters" in record.reason


def test_an_adapter_that_cannot_be_saved_is_an_error_before_training(planned, store, monkeypatch):
    def shared(self, model, names):
        tensor = torch.zeros(2)
        return {"a": tensor, "b": tensor[:1]}

    run = planned()
    monkeypatch.setattr(Lora, "adapter_state", shared)
    monkeypatch.setattr("parbench.bench.train.train.train", lambda job: pytest.fail("it was trained"))
    record = do(run, store)
    assert record.status is Status.ERROR
    assert "the adapter of lora cannot be saved" in record.reason
    with pytest.raises(UserError, match="its adapter cannot be saved: a and b share memory"):
        planned()


def test_a_prefix_is_not_planned_with_gradient_checkpointing(planned):
    with pytest.raises(UserError, match=r"gradient.checkpointing"):
        planned("prefix_tuning", gradient_checkpointing="true")
    assert planned("prompt_tuning", gradient_checkpointing="true")


def test_many_unknown_words_are_in_the_record_of_every_run(planned, store, tmp_path):
    rows = [{**row, "sentence": f"{row['sentence']} zzz"} for row in sentences(40, seed=0)]
    for split in ("train", "validation"):
        write_jsonl(tmp_path / "other" / "glue-sst2" / f"{split}.jsonl", rows)
    data = DataCache()
    for seed in (1, 2):
        record = execute_run(planned(seed=seed, data=tmp_path / "other"), store, data, torch.device("cpu"))
        assert record.status is Status.OK
        assert any("of the training tokens are unknown" in note for note in record.provenance.notes)
