import json
import os
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from parbench.bench.plan.planner import Overrides, make_plan
from parbench.bench.plan.suite import load_suite
from parbench.bench.run.execute_run import RunHooks, execute_run
from parbench.bench.run.inputs import DataCache
from parbench.bench.store.store import Store
from parbench.methods.lora import Lora
from parbench.tasks.data.lock import RevisionLock
from parbench.tasks.kinds.text_classification import TextClassification

CPU = torch.device("cpu")


@pytest.fixture
def planned(store, tiny_data, tiny_model):
    def make(method="lora", seed=1, **training):
        values = {"max_steps": 6, "max_length": 32, **training}
        overrides = Overrides(
            methods=(method,),
            tasks=("glue/sst2",),
            base_model=str(tiny_model),
            seeds=(seed,),
            sets=tuple(f"train.{key}={value}" for key, value in values.items()),
            data_root=tiny_data,
        )
        (run,) = make_plan(load_suite("mini"), overrides, RevisionLock(store.lock_file)).runs
        return run

    return make


def do(run, store, on_step=lambda done, total, loss: None):
    return execute_run(run, store, DataCache(), CPU, RunHooks(on_step))


def test_a_run_leaves_all_that_a_table_needs(planned, store):
    run = planned()
    record = do(run, store)
    folder = store.runs / record.run_id
    rows = pd.read_parquet(folder / "predictions.parquet")
    assert list(rows.columns) == ["example", "subset", "label", "prediction"]
    assert rows["example"].is_unique
    assert len(rows) == record.examples["reported"] == 60
    # Every number of the record can be made again from the rows.
    assert dict(run.task.score(rows)) == record.metrics
    logits = pd.read_parquet(folder / "logits.parquet")["logits"]
    assert (logits.map(lambda values: values.argmax()) == rows["prediction"]).all()
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in history] == [1, 2, 3, 4, 5, 6]
    assert set(record.files) >= {"predictions.parquet", "history.jsonl", "adapter/adapter_model.safetensors"}
    assert not (store.work / record.run_id).exists()


def test_the_ledger_of_lora(planned, store):
    ledger = do(planned(), store).ledger
    # Rank 8 on two 32 x 32 projections of two layers; a head of 32 x 2 weights and 2 biases.
    assert (ledger.reported, ledger.trainable, ledger.optimised, ledger.head) == (2048, 2048, 2048, 66)
    assert 2048 * 4 < ledger.stored_bytes < 2048 * 4 + 2048


def test_the_ledger_of_loca_counts_its_locations_as_optimised(planned, store):
    ledger = do(planned("loca"), store).ledger
    assert (ledger.reported, ledger.trainable, ledger.optimised, ledger.head) == (4000, 4000, 12000, 66)


def test_a_warning_is_kept_in_the_record(planned, store):
    notes = do(planned("loca"), store).provenance.notes
    assert [note for note in notes if "the locations never move" in note]


def test_warnings_of_any_class_are_kept_but_for_those_of_versions(planned, store, monkeypatch):
    inner = Lora.adapt

    def adapt(self, *arguments):
        for category in (RuntimeWarning, UserWarning, DeprecationWarning, FutureWarning):
            warnings.warn(f"a {category.__name__}", category, stacklevel=1)
        return inner(self, *arguments)

    monkeypatch.setattr(Lora, "adapt", adapt)
    notes = do(planned("lora"), store).provenance.notes
    assert {"a RuntimeWarning", "a UserWarning"} <= set(notes)
    assert not any(note in ("a DeprecationWarning", "a FutureWarning") for note in notes)


def test_the_adapter_on_disk_gives_the_predictions_on_disk(planned, store, tiny_model):
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    from parbench.tasks.inference import Predictor

    run = planned("loca")
    record = do(run, store)
    folder = store.runs / record.run_id
    base = AutoModelForSequenceClassification.from_pretrained(tiny_model)
    model = PeftModel.from_pretrained(base, folder / "adapter")
    data = DataCache().of(run)
    reported = run.task.prepare(run.task.splits(run.source).reported, data.processor, run.training.max_length)
    logits = Predictor(model, data.processor, run.task.collate(data.processor), 64, CPU).logits(reported)
    stored = pd.read_parquet(folder / "logits.parquet")["logits"].tolist()
    assert logits == pytest.approx(np.stack(stored), abs=1e-6)


def test_the_same_run_twice_gives_the_same_numbers(planned, tmp_path):
    found = []
    for name in ("first", "second"):
        store = Store(tmp_path / name)
        store.prepare()
        record = do(planned("loca"), store)
        found.append((record.metrics, record.files["predictions.parquet"], record.files["history.jsonl"]))
    assert found[0][0] == found[1][0]
    assert found[0][1] == found[1][1]


def test_another_seed_gives_other_numbers(planned, store):
    first, second = do(planned(seed=1), store), do(planned(seed=2), store)
    assert first.files["predictions.parquet"] != second.files["predictions.parquet"]


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (RuntimeError("something broke\nbadly"), "error", "RuntimeError: something broke badly"),
        (torch.OutOfMemoryError("no memory left"), "out_of_memory", "no memory left"),
        (MemoryError(), "out_of_memory", "MemoryError"),
    ],
)
def test_a_run_that_fails_is_a_record_with_its_reason(planned, store, monkeypatch, error, status, reason):
    def fail(self, model, names, setting):
        raise error

    run = planned()
    monkeypatch.setattr(Lora, "adapt", fail)
    record = do(run, store)
    assert (record.status, record.reason, record.metrics, record.score) == (status, reason, {}, None)
    assert "Traceback" in (store.runs / record.run_id / "error.txt").read_text()
    assert not store.is_done(record.run_id)


def test_a_run_that_diverges_states_at_which_step(planned, store, monkeypatch):
    calls = []

    def loss(self, logits, labels, label_smoothing=0.0):
        calls.append(1)
        return logits.mean() * (float("inf") if len(calls) == 4 else 1.0)

    monkeypatch.setattr(TextClassification, "loss", loss)
    record = do(planned(), store)
    assert (record.status, record.reason) == ("diverged", "the loss was not finite at step 4")


def test_one_failing_run_does_not_end_the_others(bench, bench_run, tmp_path, monkeypatch):
    whole = Lora.callbacks

    def fail_once(self, setting):
        monkeypatch.setattr(Lora, "callbacks", whole)
        raise RuntimeError("only this once")

    monkeypatch.setattr(Lora, "callbacks", fail_once)
    result = bench_run(methods="lora", seeds="1,2")
    assert result.code == 1
    assert "1 run done, 1 failed" in result.out
    assert sorted(record.status for record in Store(tmp_path / "store").scan()) == ["error", "ok"]
    report = bench("report", "--out", tmp_path / "store")
    assert report.code == 0
    assert "RuntimeError: only this once" in (tmp_path / "store" / "report" / "leaderboard.md").read_text()
    # The failed one is done again, the other is not.
    assert "1 of 2 runs are done already" in bench_run(methods="lora", seeds="1,2").out


def test_an_interruption_reports_that_the_same_command_resumes(bench_run, tmp_path, monkeypatch):
    whole = Lora.callbacks

    def interrupt(self, setting):
        raise KeyboardInterrupt

    monkeypatch.setattr(Lora, "callbacks", interrupt)
    result = bench_run(methods="lora")
    assert result.code == 130
    assert "bench: interrupted; the same command resumes" in result.err
    assert not list(Store(tmp_path / "store").scan())
    monkeypatch.setattr(Lora, "callbacks", whole)
    assert bench_run(methods="lora").code == 0


def test_the_trainer_never_gets_the_selection_or_reported_split(planned, store, monkeypatch):
    import parbench.bench.run.execute_run

    seen = []
    inner = parbench.bench.run.execute_run.train

    def spy(job):
        seen.append(job)
        return inner(job)

    monkeypatch.setattr(parbench.bench.run.execute_run, "train", spy)
    do(planned(), store)
    (job,) = seen
    assert len(job.data) == 144
    run = planned()
    splits = run.task.splits(run.source)
    examples = {name: set(getattr(splits, name)["example"]) for name in splits.sizes}
    assert not examples["train"] & (examples["selection"] | examples["reported"])
    assert not examples["selection"] & examples["reported"]


@pytest.mark.slow
def test_a_killed_comparison_goes_on_and_ends_as_an_uninterrupted_one(tmp_path, tiny_data, tiny_model, bench):
    """kill -9 after the first checkpoint of the second run; the same command then ends with the same numbers."""
    arguments = ["run", "--suite", "mini", "--methods", "lora,loca", "--tasks", "glue/sst2", "--seeds", "1"]
    arguments += ["--model", tiny_model, "--data-root", tiny_data, "--set", "train.max_length=32"]
    arguments += ["--set", "train.max_steps=150", "--set", "train.checkpoint_steps=5", "--set", "train.batch_size=4"]
    arguments += ["--workers", "1"]
    store = Store(tmp_path / "store")
    command = [sys.executable, "-m", "parbench.bench", *map(str, arguments), "--out", str(store.root)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
    try:
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if list(store.runs.glob("*/record.json")) and list(store.work.glob("*/checkpoint-*/complete.json")):
                break
            time.sleep(0.01)
        assert process.poll() is None, "the runs were over before they could be cut"
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    assert len(list(store.scan())) == 1

    resumed = bench(*arguments, "--out", store.root)
    assert resumed.code == 0, resumed.err
    assert "1 of 2 runs are done already" in resumed.out
    whole = Store(tmp_path / "whole")
    assert bench(*arguments, "--out", whole.root).code == 0
    for first, second in zip(store.scan(), whole.scan(), strict=True):
        assert first.run_id == second.run_id
        assert first.metrics == second.metrics
        assert first.files["predictions.parquet"] == second.files["predictions.parquet"]
        assert first.cost.train_steps == 150
