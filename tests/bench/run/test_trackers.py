"""What a training reports to TensorBoard, read back; the other trackers are not installed here."""

import json
import re

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from parbench.bench.plan.planner import Overrides, make_plan
from parbench.bench.plan.suite import load_suite
from parbench.bench.record.run_record import RunRecord
from parbench.bench.run.execute_run import RunHooks, execute_run
from parbench.bench.run.inputs import DataCache
from parbench.bench.run.trackers import check_trackers, run_name
from parbench.bench.store.archive import export
from parbench.bench.store.garbage import find_garbage
from parbench.bench.store.store import Store
from parbench.bench.train.train import StoppedError
from parbench.bench.util.errors import UserError
from parbench.tasks.data.lock import RevisionLock
from tests.support.records import SPEC, with_spec

CPU = torch.device("cpu")
TRACKERS = ("tensorboard",)


@pytest.fixture
def planned(tiny_data, tiny_model, tmp_path):
    def make(**training):
        values = {"max_steps": 6, "max_length": 32, "checkpoint_steps": 2, **training}
        overrides = Overrides(
            methods=("lora",),
            tasks=("glue/sst2",),
            base_model=str(tiny_model),
            seeds=(1,),
            sets=tuple(f"train.{key}={value}" for key, value in values.items()),
            data_root=tiny_data,
        )
        (run,) = make_plan(load_suite("mini"), overrides, RevisionLock(tmp_path / "lock.json")).runs
        return run

    return make


def store_in(folder):
    store = Store(folder)
    store.prepare()
    return store


def events(store):
    """Return what TensorBoard shows of the store's only run: its name, its scalars and all that there is of it."""
    (folder,) = (store.root / "tensorboard").iterdir()
    found = EventAccumulator(str(folder)).Reload()
    scalars = {tag: {event.step: event.value for event in found.Scalars(tag)} for tag in found.Tags()["scalars"]}
    counts = {tag: len(found.Scalars(tag)) for tag in scalars}
    return folder.name, scalars, counts


def test_the_history_of_a_run_is_in_tensorboard_and_the_run_is_the_same(planned, tmp_path):
    run, store, plain = planned(), store_in(tmp_path / "store"), store_in(tmp_path / "plain")
    record = execute_run(run, store, DataCache(), CPU, RunHooks(trackers=TRACKERS))
    without = execute_run(run, plain, DataCache(), CPU)
    assert record.status == "ok"
    name, scalars, _ = events(store)
    assert name == f"lora-glue-sst2-seed1-{record.run_id}"
    lines = (store.runs / record.run_id / "history.jsonl").read_text().splitlines()
    history = {entry["step"]: entry for entry in map(json.loads, lines)}
    assert list(history) == [1, 2, 3, 4, 5, 6]
    for field in ("loss", "learning_rate"):
        assert scalars[f"train/{field}"] == pytest.approx({step: history[step][field] for step in history}, rel=1e-6)
    # Not a number differs from what it is without.
    assert (record.run_id, record.metrics, record.files["predictions.parquet"]) == (
        without.run_id,
        without.metrics,
        without.files["predictions.parquet"],
    )
    assert not (plain.root / "tensorboard").exists()


def test_its_files_are_beside_the_records_and_are_not_garbage(planned, tmp_path):
    store = store_in(tmp_path / "store")
    record = execute_run(planned(), store, DataCache(), CPU, RunHooks(trackers=TRACKERS))
    assert list(store.scan()) == [record]
    assert isinstance(store.load(record.run_id), RunRecord)
    assert not [name for name in record.files if "tensorboard" in name or "tfevents" in name]
    assert list(find_garbage(store, unfinished=True)) == []
    done = export(store, tmp_path / "all.tar.gz")
    assert (done.runs, done.left_out) == (1, [])


def test_a_training_that_was_cut_goes_on_in_the_same_folder_and_shows_no_step_twice(planned, tmp_path):
    run, store, steps = planned(), store_in(tmp_path / "store"), []
    watch = RunHooks(lambda done, total, loss: steps.append(done), stop=lambda: steps[-1] == 4, trackers=TRACKERS)
    with pytest.raises(StoppedError):
        execute_run(run, store, DataCache(), CPU, watch)
    assert list(events(store)[1]["train/loss"]) == [1, 2, 3, 4]
    # As if it had been killed while it saved that step: the one before is gone on from.
    (store.work / run.spec.run_id / "checkpoint-4" / "complete.json").unlink()
    steps.clear()
    watch = RunHooks(lambda done, total, loss: steps.append(done), trackers=TRACKERS)
    assert execute_run(run, store, DataCache(), CPU, watch).status == "ok"
    assert steps == [3, 4, 5, 6]
    _, scalars, counts = events(store)
    assert list(scalars["train/loss"]) == [1, 2, 3, 4, 5, 6]
    assert counts["train/loss"] == 6


def test_a_repeated_run_shows_only_its_last_execution(planned, tmp_path):
    run, store = planned(), store_in(tmp_path / "store")
    for _ in range(2):
        assert execute_run(run, store, DataCache(), CPU, RunHooks(trackers=TRACKERS)).status == "ok"
    assert events(store)[2]["train/loss"] == 6


def test_no_training_logs_more_than_some_fifty_points(planned, tmp_path):
    store = store_in(tmp_path / "store")
    assert execute_run(planned(max_steps=100), store, DataCache(), CPU, RunHooks(trackers=TRACKERS)).status == "ok"
    assert events(store)[2]["train/loss"] == 50


def test_a_failure_closes_the_tracker_too(planned, tmp_path):
    def on_step(done, total, loss):
        if done == 4:
            raise RuntimeError("a fault")

    store = store_in(tmp_path / "store")
    record = execute_run(planned(), store, DataCache(), CPU, RunHooks(on_step, trackers=TRACKERS))
    assert record.status == "error"
    assert list(events(store)[1]["train/loss"]) == [1, 2, 3]


def test_names_are_telling_and_good_for_a_folder():
    assert run_name(SPEC) == f"lora-glue-sst2-seed1-{SPEC.run_id}"
    odd = with_spec(method='lora(r=4,target_modules=["a b"])+x/é').spec
    assert re.fullmatch(r"lora\(r=4,target_modules=[\w.,=+()-]+", run_name(odd), re.ASCII)
    assert len(run_name(with_spec(method="m" * 500).spec)) < 255


def test_secrets_get_into_neither_record_nor_tracker(planned, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "planted-secret-0123")
    monkeypatch.setenv("HF_TOKEN", "planted-secret-4567")
    store = store_in(tmp_path / "store")
    execute_run(planned(), store, DataCache(), CPU, RunHooks(trackers=TRACKERS))
    files = [path for path in store.root.rglob("*") if path.is_file()]
    assert any("tfevents" in path.name for path in files)
    assert not [path for path in files if b"planted-secret" in path.read_bytes()]


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (("tensorbord",), '--report-to knows no tracker called "tensorbord"; did you mean "tensorboard"?'),
        (("neptune",), "there is: mlflow, tensorboard, wandb"),
        (("tensorboard", "wandb"), "--report-to wandb needs the package wandb; install it with: pip install wandb"),
        (("mlflow",), "--report-to mlflow needs the package mlflow; install it with: pip install mlflow"),
    ],
)
def test_what_cannot_be_reported_to_is_a_sentence(names, complaint, monkeypatch):
    there = {"wandb": "is_wandb_available", "mlflow": "is_mlflow_available"}
    for function in there.values():
        monkeypatch.setattr(f"transformers.integrations.{function}", lambda: False)
    with pytest.raises(UserError, match=re.escape(complaint)):
        check_trackers(names)


def test_the_command_line_reports_in_workers_and_checks_before_anything_runs(bench, tiny_data, tiny_model, tmp_path):
    arguments = [
        *("run", "--suite", "mini", "--tasks", "glue/sst2", "--methods", "lora", "--seeds", "1", "--model", tiny_model),
        *("--data-root", tiny_data, "--set", "train.max_steps=3", "--set", "train.max_length=32"),
        *("--out", tmp_path / "store"),
    ]
    wrong = bench(*arguments, "--report-to", "tensorbord")
    assert wrong.code == 2
    assert 'bench: --report-to knows no tracker called "tensorbord"' in " ".join(wrong.err.split())
    assert not (tmp_path / "store").exists()
    done = bench(*arguments, "--report-to", "tensorboard")
    assert done.code == 0, done.err
    store = Store(tmp_path / "store")
    (record,) = store.scan()
    name, scalars, _ = events(store)
    assert name.endswith(record.run_id)
    assert list(scalars["train/loss"]) == [1, 2, 3]
