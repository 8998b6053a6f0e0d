"""The course of a training: rates, decay and length, going on from checkpoints, and inference with what was trained."""

import json
import math

import pytest
import torch

from parbench.bench.train.checkpoints import COMPLETE, last_checkpoint
from parbench.bench.train.train import StoppedError, train
from parbench.bench.util.errors import DivergedError
from parbench.tasks.inference import Predictor
from tests.support.training import CPU, bert, collate, interrupt_at, job, texts


@pytest.mark.parametrize(
    ("schedule", "middle", "last"),
    [("linear", 0.5, 0.1), ("cosine", 0.5, (1 + math.cos(0.9 * math.pi)) / 2), ("constant", 1.0, 1.0)],
)
def test_the_rate_follows_its_schedule_after_the_warm_up(tmp_path, schedule, middle, last):
    done = train(job(tmp_path, bert(), texts(), max_steps=12, warmup_steps=2, schedule=schedule))
    rates = [entry["learning_rate"] / 1e-3 for entry in done.history]
    assert rates[:3] == pytest.approx([0.0, 0.5, 1.0])
    assert rates[7] == pytest.approx(middle)
    assert rates[11] == pytest.approx(last)


def test_each_group_has_its_learning_rate(tmp_path):
    """Adam's first step has the size of the learning rate, whatever the gradient."""
    model = bert()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    train(job(tmp_path, model, texts(), rate=1e-4, max_steps=1, max_gradient_norm=0))
    moved = {name: (p - before[name]).abs().max().item() for name, p in model.named_parameters()}
    assert moved["classifier.weight"] == pytest.approx(1e-3, rel=1e-2)
    # Adam's epsilon takes a little off where the gradient itself is tiny.
    assert moved["bert.encoder.layer.0.attention.self.query.weight"] == pytest.approx(1e-4, rel=0.1)


def test_the_rate_warms_up_and_falls_to_zero(tmp_path):
    done = train(job(tmp_path, bert(), texts(), max_steps=10, warmup_ratio=0.2))
    # Logged after each step: the rate that it was done with, of the first group.
    rates = [entry["learning_rate"] for entry in done.history]
    assert max(rates) == pytest.approx(1e-3)
    assert rates.index(max(rates)) in (1, 2)
    assert rates[-1] < 2e-4


def test_epochs_are_passes_over_the_data(tmp_path):
    assert train(job(tmp_path, bert(), texts(), max_steps=None, epochs=1.5, batch_size=3)).steps == round(1.5 * 6)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_inference_keeps_the_order_and_does_not_depend_on_the_batch(batch_size):
    model = bert().eval()
    rows = texts()
    one_by_one = [model(**{k: v for k, v in collate([row]).items() if k != "labels"}).logits[0] for row in rows]
    expected = torch.stack(one_by_one).detach().numpy()
    assert Predictor(model, None, collate, batch_size, CPU).logits(rows) == pytest.approx(expected, abs=1e-5)


def test_an_interrupted_training_ends_as_an_uninterrupted_one(tmp_path):
    """Bit for bit: optimiser, schedule, data order and dropout all go on where they stood."""

    def prepared(folder):
        model = bert()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.2
        torch.manual_seed(3)
        return job(folder, model, texts(), max_steps=12, checkpoint_steps=4)

    whole = prepared(tmp_path / "whole")
    train(whole)
    cut = prepared(tmp_path / "cut")
    cut.on_step = interrupt_at(7)
    with pytest.raises(KeyboardInterrupt):
        train(cut)
    resumed = prepared(tmp_path / "cut")
    seconds_before = json.loads((tmp_path / "cut" / "checkpoint-4" / COMPLETE).read_text())["seconds"]
    done = train(resumed)
    assert done.steps == 12
    assert done.seconds > seconds_before > 0
    for (name, first), (_, second) in zip(
        whole.model.named_parameters(), resumed.model.named_parameters(), strict=True
    ):
        assert torch.equal(first, second), name


@pytest.mark.parametrize(
    "asked", [{"checkpoint_steps": 50, "stop": 41}, {"checkpoint_steps": 7, "killed": 24}], ids=["stopped", "killed"]
)
def test_the_history_of_an_interrupted_training_is_that_of_an_uninterrupted_one(tmp_path, asked):
    """Byte for byte: with a loss for two steps each, one of which was done before the interruption."""

    def prepared(folder):
        torch.manual_seed(3)
        return job(folder, bert(), texts(), max_steps=100, checkpoint_steps=asked["checkpoint_steps"])

    whole = train(prepared(tmp_path / "whole")).history
    cut = prepared(tmp_path / "cut")
    done = []
    cut.on_step = interrupt_at(asked.get("killed")) if "killed" in asked else lambda step, *rest: done.append(step)
    cut.stop = lambda: done[-1:] == [asked.get("stop")]
    with pytest.raises(KeyboardInterrupt if "killed" in asked else StoppedError):
        train(cut)
    resumed = train(prepared(tmp_path / "cut")).history
    assert [entry["step"] for entry in whole] == list(range(2, 101, 2))
    assert list(map(json.dumps, resumed)) == list(map(json.dumps, whole))


def test_a_training_that_diverges_and_is_stopped_at_once_has_diverged(tmp_path):
    cut = job(tmp_path, bert(), texts(), max_steps=100)
    cut.task = _Infinite()
    cut.stop = lambda: True
    with pytest.raises(DivergedError, match="not finite at step 1"):
        train(cut)


class _Infinite:
    """A task whose loss is not finite."""

    def loss(self, logits, labels, label_smoothing=0.0):
        return logits.sum() * float("inf")


def test_a_checkpoint_that_was_cut_while_being_saved_is_not_resumed_from(tmp_path):
    cut = job(tmp_path, bert(), texts(), max_steps=12, checkpoint_steps=4)
    cut.on_step = interrupt_at(9)
    with pytest.raises(KeyboardInterrupt):
        train(cut)
    (tmp_path / "checkpoint-8" / COMPLETE).unlink()
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-4"
    assert not (tmp_path / "checkpoint-8").exists()


def test_a_group_may_have_a_weight_decay_of_its_own(tmp_path):
    """With no gradient to speak of, AdamW shrinks a weight by learning rate times decay."""
    from dataclasses import replace

    model = bert()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    training = job(tmp_path, model, texts(), rate=1e-3, max_steps=1, weight_decay=0.5)
    adapter, head = training.groups
    training.groups = [replace(adapter, weight_decay=0.0), head]
    training.task = _Flat()
    train(training)
    after = dict(model.named_parameters())
    assert torch.equal(after["bert.pooler.dense.weight"], before["bert.pooler.dense.weight"])
    shrunk = before["classifier.weight"] * (1 - 1e-2 * 0.5)
    assert torch.allclose(after["classifier.weight"], shrunk, rtol=1e-6)


class _Flat:
    """A task whose loss does not depend on the model's outputs."""

    def loss(self, logits, labels, label_smoothing=0.0):
        return (logits * 0.0).sum()


@pytest.mark.parametrize("steps", [6, 8])
def test_a_training_that_was_cut_after_its_last_step_does_no_more(tmp_path, steps):
    """Whether that step was the last of an epoch, of which there are four in one, or not."""

    def prepared(folder):
        torch.manual_seed(3)
        return job(folder, bert(), texts(), max_steps=steps, checkpoint_steps=2)

    whole = prepared(tmp_path)
    train(whole)
    again = prepared(tmp_path)
    done = train(again)
    assert done.steps == steps
    for (name, first), (_, second) in zip(whole.model.named_parameters(), again.model.named_parameters(), strict=True):
        assert torch.equal(first, second), name
