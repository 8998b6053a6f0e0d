import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from parbench.bench.plan.planner import Overrides, make_plan
from parbench.bench.plan.suite import load_suite
from parbench.bench.run.execute_run import execute_run
from parbench.bench.run.inputs import DataCache
from parbench.bench.store.store import Store
from parbench.bench.train.best_epoch import BestEpoch
from parbench.bench.train.protocol import Protocol, Purpose, ReportedSplit, SealedError, SplitData
from parbench.bench.train.train import Trained, train
from parbench.tasks.data.folder import FolderSource
from parbench.tasks.data.lock import RevisionLock
from parbench.tasks.glue import SST2
from parbench.tasks.inference import Predictor
from parbench.tasks.kinds.text_classification import TextClassification
from tests.support.training import bert, interrupt_at, job, texts

CPU = torch.device("cpu")
TRAINED = Trained(steps=1, seconds=1.0, trainable=1, history=[])


@pytest.fixture
def locked():
    """Return a locked split, and the list of the times that it was read."""

    def make(protocol=Protocol.STRICT, purpose=Purpose.REPORT):
        read = []

        def load():
            read.append(1)
            return SplitData(texts(), texts())

        return ReportedSplit(load, protocol, purpose), read

    return make


def test_strict_gives_the_reported_split_once_and_only_after_training(locked):
    split, read = locked()
    with pytest.raises(SealedError, match="after training only"):
        split.every_epoch()
    assert read == []
    assert len(split.after(TRAINED).rows) == 16
    with pytest.raises(SealedError, match="scored already"):
        split.after(TRAINED)
    with pytest.raises(SealedError, match="after training only"):
        split.every_epoch()
    assert read == [1]


def test_best_epoch_sees_it_during_training(locked):
    split, _ = locked(Protocol.PAPER_BEST_EPOCH)
    assert len(split.every_epoch().rows) == 16
    assert len(split.after(TRAINED).rows) == 16


@pytest.mark.parametrize("protocol", list(Protocol))
def test_a_run_that_chooses_never_sees_it(locked, protocol):
    split, read = locked(protocol, Purpose.SELECTION)
    for look in (split.every_epoch, lambda: split.after(TRAINED)):
        with pytest.raises(SealedError, match="never sees the reported split"):
            look()
    assert read == []


def with_scores(job, scores):
    """Make a job score its epochs as planned, by epoch."""
    model = job.model
    best = BestEpoch(
        split="selection",
        primary="accuracy",
        score=lambda: {"accuracy": scores[len(best.curve)]},
        model=model,
        parameters=list(model.parameters()),
        folder=job.workspace / "epochs",
    )
    job.best_epoch = best
    return job


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize(
    ("scores", "chosen"),
    [([0.5, 0.9, 0.7], 2), ([0.9, 0.9, 0.5], 1), ([0.1, 0.2, 0.3], 3), ([np.nan, 0.2, np.nan], 2), ([np.nan] * 3, 1)],
)
def test_the_first_of_the_best_epochs_is_kept(tmp_path, scores, chosen):
    states = []
    training = with_scores(job(tmp_path, bert(), texts(), max_steps=12), scores)
    inner = training.best_epoch.score
    training.best_epoch.score = lambda: states.append(weights(training.model)) or inner()
    done = train(training)
    assert [(at.step, at.epoch) for at in training.best_epoch.curve] == [(4, 1), (8, 2), (12, 3)]
    assert [entry["step"] for entry in done.history if "selection/accuracy" in entry] == [4, 8, 12]
    training.best_epoch.restore()
    assert training.best_epoch.best.epoch == chosen
    for name, value in weights(training.model).items():
        assert torch.equal(value, states[chosen - 1][name]), name


def test_no_epoch_is_chosen_before_the_methods_schedule_has_ended(tmp_path):
    training = with_scores(job(tmp_path, bert(), texts(), max_steps=16), [0.9, 0.8, 0.5, 0.6])
    training.best_epoch.schedule_share = 0.55  # nine steps: the third epoch is the first that ends later
    training.best_epoch.patience = 1
    train(training)
    assert [at.metrics["accuracy"] for at in training.best_epoch.curve] == [0.9, 0.8, 0.5, 0.6]
    assert training.best_epoch.best.epoch == 4


@pytest.mark.parametrize(
    ("scores", "patience", "epochs"),
    [
        ([0.5, 0.4, 0.3, 0.9, 0.9], 1, 2),
        ([0.5, 0.4, 0.6, 0.6, 0.6], 2, 5),
        ([0.5, 0.4, 0.6, 0.6, 0.6], 1, 2),
        ([0.1, 0.2, 0.3, 0.4, 0.5], 1, 5),
        ([np.nan, np.nan, np.nan, 0.1, 0.1], 2, 3),
    ],
)
def test_training_stops_when_patience_is_over(tmp_path, scores, patience, epochs):
    training = with_scores(job(tmp_path, bert(), texts(), max_steps=20), scores)
    training.best_epoch.patience = patience
    done = train(training)
    assert [at.epoch for at in training.best_epoch.curve] == list(range(1, epochs + 1))
    assert done.steps == 4 * epochs


@pytest.mark.parametrize("cut_at", [5, 9, 11, 12])
@pytest.mark.parametrize("checkpoint_steps", [2, 4, 5])
def test_a_resumed_training_stops_where_one_in_one_go_does(tmp_path, checkpoint_steps, cut_at):
    def prepared(folder):
        torch.manual_seed(3)
        training = job(folder, bert(), texts(), max_steps=40, checkpoint_steps=checkpoint_steps)
        training = with_scores(training, [0.5, 0.4, 0.3, 0.9, 0.9])
        training.best_epoch.patience = 2
        return training

    whole, cut, resumed = prepared(tmp_path / "whole"), prepared(tmp_path / "cut"), prepared(tmp_path / "cut")
    done = train(whole)
    cut.on_step = interrupt_at(cut_at)
    with pytest.raises(KeyboardInterrupt):
        train(cut)
    again = train(resumed)
    assert done.steps == again.steps == 12
    assert resumed.best_epoch.curve == whole.best_epoch.curve
    for (name, first), (_, second) in zip(
        whole.model.named_parameters(), resumed.model.named_parameters(), strict=True
    ):
        assert torch.equal(first, second), name


def test_patience_without_an_epoch_to_choose_is_refused(bench_run):
    result = bench_run("--set", "train.patience=1", methods="lora")
    assert (result.code, "give select_epoch as well" in result.err) == (2, True)


def test_an_epoch_cut_short_by_the_last_step_is_scored_too(tmp_path):
    training = with_scores(job(tmp_path, bert(), texts(), max_steps=6), [0.1, 0.2])
    train(training)
    assert [(at.step, at.epoch) for at in training.best_epoch.curve] == [(4, 1.0), (6, 1.5)]


@pytest.mark.parametrize(("checkpoint_steps", "cut_at"), [(4, 7), (5, 9), (8, 11)])
def test_a_resumed_training_chooses_among_the_same_epochs(tmp_path, checkpoint_steps, cut_at):
    """Whether the checkpoint was made at the end of an epoch or not."""

    def prepared(folder):
        torch.manual_seed(3)
        training = job(folder, bert(), texts(), max_steps=12, checkpoint_steps=checkpoint_steps)
        return with_scores(training, [0.9, 0.5, 0.7])

    whole, cut, resumed = prepared(tmp_path / "whole"), prepared(tmp_path / "cut"), prepared(tmp_path / "cut")
    train(whole)
    cut.on_step = interrupt_at(cut_at)
    with pytest.raises(KeyboardInterrupt):
        train(cut)
    train(resumed)
    assert resumed.best_epoch.curve == whole.best_epoch.curve
    for training in (whole, resumed):
        training.best_epoch.restore()
    first, second = weights(whole.model), weights(resumed.model)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def do(tmp_path, tiny_data, tiny_model):
    def call(folder="store", method="lora", seed=1, purpose=Purpose.REPORT, protocol=None, **training):
        store = Store(tmp_path / folder)
        store.prepare()
        values = {"max_steps": 10, "batch_size": 36, "max_length": 32, **training}
        overrides = Overrides(
            methods=(method,),
            tasks=("glue/sst2",),
            base_model=str(tiny_model),
            seeds=(seed,),
            sets=tuple(f"train.{key}={value}" for key, value in values.items()),
            data_root=tiny_data,
            purpose=purpose,
            protocol=protocol,
        )
        (run,) = make_plan(load_suite("mini"), overrides, RevisionLock(store.lock_file)).runs
        record = execute_run(run, store, DataCache(), CPU)
        assert record.status == "ok", record.reason
        history = [json.loads(line) for line in (store.runs / record.run_id / "history.jsonl").read_text().splitlines()]
        return record, store.runs / record.run_id, history

    return call


def curve(history, name):
    return [entry[name] for entry in history if name in entry]


def test_under_strict_the_reported_inputs_are_made_after_the_last_step(do, monkeypatch):
    events = []
    prepare, loss = TextClassification.prepare, TextClassification.loss

    def spy(self, dataset, tokenizer, max_length):
        events.append(len(dataset))
        return prepare(self, dataset, tokenizer, max_length)

    def step(self, logits, labels, label_smoothing=0.0):
        events.append("step")
        return loss(self, logits, labels, label_smoothing)

    monkeypatch.setattr(TextClassification, "prepare", spy)
    monkeypatch.setattr(TextClassification, "loss", step)
    do(select_epoch=True, length_groups=1)
    # 144 of the training split and 16 of the selection split; 60 are reported.
    assert events == [144, 16, *["step"] * 10, 60]


def test_a_run_that_chooses_leaves_no_reported_number(do, monkeypatch):
    inner, seen = TextClassification.prepare, []

    def spy(self, dataset, tokenizer, max_length):
        seen.append(len(dataset))
        return inner(self, dataset, tokenizer, max_length)

    monkeypatch.setattr(TextClassification, "prepare", spy)
    record, folder, _ = do(purpose=Purpose.SELECTION, protocol=Protocol.PAPER_BEST_EPOCH)
    assert seen == [144, 16]
    assert (record.spec.purpose, record.spec.protocol, record.metrics, record.score) == (
        "selection",
        "strict",
        {},
        None,
    )
    assert record.examples == {"train": 144, "selection": 16}
    rows = pd.read_parquet(folder / "selection.parquet")
    assert len(rows) == 16
    assert (rows["label"] == rows["prediction"]).mean() == record.selection_score
    assert set(record.files) == {"selection.parquet", "history.jsonl"}


def test_best_epoch_reports_the_best_and_keeps_the_last(do):
    strict, _, plain = do()
    record, folder, history = do(protocol=Protocol.PAPER_BEST_EPOCH)
    scores = curve(history, "reported/accuracy")
    assert [entry["step"] for entry in history if "reported/accuracy" in entry] == [4, 8, 10]
    assert record.metrics["accuracy"] == max(scores)
    assert record.last_metrics["accuracy"] == scores[-1]
    assert record.best_epoch == [1.0, 2.0, 2.5][scores.index(max(scores))]
    # Looking changes nothing of the training itself.
    assert curve(history, "loss") == curve(plain, "loss")
    assert record.last_metrics == strict.metrics
    assert (strict.best_epoch, strict.last_metrics) == (None, {})
    rows = pd.read_parquet(folder / "predictions.parquet")
    assert (rows["label"] == rows["prediction"]).mean() == record.metrics["accuracy"]
    assert record.run_id != strict.run_id


@pytest.mark.parametrize("method", ["lora", "adalora"])
def test_the_chosen_epoch_is_scored_and_its_adapter_kept(do, method, monkeypatch, tiny_data, tiny_model):
    """The first epoch that may be chosen is made the best one: the record is of that epoch, not of the last.

    Of 12 steps, AdaLoRA's ranks are final after 6, and its first epoch ends after 4.
    """
    from peft import PeftModel
    from safetensors.torch import load_file
    from transformers import AutoModelForSequenceClassification

    inner = BestEpoch._rank
    monkeypatch.setattr(BestEpoch, "_rank", lambda self, epoch: -epoch.step)
    record, folder, history = do(method=method, select_epoch=True, max_steps=12)
    monkeypatch.setattr(BestEpoch, "_rank", inner)
    *epochs, last = (entry for entry in history if "selection/accuracy" in entry)
    first = epochs[1 if method == "adalora" else 0]
    assert (record.best_epoch, last["epoch"]) == (first["epoch"], 3.0)
    assert record.selection_metrics == {"accuracy": first["selection/accuracy"]}
    assert record.last_metrics == {"accuracy": last["selection/accuracy"]}
    assert not curve(history, "reported/accuracy")
    base = AutoModelForSequenceClassification.from_pretrained(tiny_model)
    model = PeftModel.from_pretrained(base, folder / "adapter").eval()
    stored = np.stack(pd.read_parquet(folder / "logits.parquet")["logits"].tolist())
    assert logits_of(model, SST2, tiny_data, tiny_model) == pytest.approx(stored, abs=1e-5)
    tensors = load_file(folder / "adapter" / "adapter_model.safetensors")
    assert record.ledger.reported == sum(t.numel() for name, t in tensors.items() if "classifier" not in name)


def logits_of(model, task, data, tiny_model):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    reported = task.prepare(task.splits(FolderSource(data)).reported, tokenizer, 32)
    return Predictor(model, tokenizer, task.collate(tokenizer), 64, CPU).logits(reported)


def test_two_rules_that_choose_an_epoch_are_refused(bench_run):
    result = bench_run("--protocol", "paper:best_epoch", "--set", "train.select_epoch=true", methods="lora")
    assert result.code == 2
    assert "chooses the epoch on the reported split and select_epoch on the selection split" in result.err


def test_a_method_that_cannot_be_trained_with_recomputed_activations_is_refused(bench_run):
    result = bench_run("--set", "train.gradient_checkpointing=true", methods="prefix_tuning")
    assert result.code == 2
    assert '"prefix_tuning" cannot be trained with recomputed activations' in result.err


def test_the_command_line_names_the_protocol(bench_run, tmp_path):
    assert bench_run("--protocol", "best", methods="lora").code == 2
    result = bench_run("--protocol", "paper:best_epoch", methods="lora")
    assert result.code == 0, result.err
    (record,) = Store(tmp_path / "store").scan()
    assert record.spec.protocol == "paper:best_epoch"
    assert record.last_metrics.keys() == record.metrics.keys()
    assert replace(record.spec, protocol="strict").run_id != record.run_id
