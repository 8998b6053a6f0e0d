import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    ViTConfig,
    ViTForImageClassification,
)
from transformers import Trainer as PlainTrainer

from parbench.bench.train.checkpoints import COMPLETE, last_checkpoint
from parbench.bench.train.settings import TrainingSettings
from parbench.bench.train.train import Job, train
from parbench.bench.util.errors import DivergedError
from parbench.methods.base import ParameterGroup
from parbench.tasks.glue import SST2, STSB
from parbench.tasks.inference import Predictor
from parbench.tasks.kinds.language_model import LanguageModelTask

ROWS = 16
CPU = torch.device("cpu")


def bert(num_labels=2):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=num_labels,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return BertForSequenceClassification(config)


def gpt2():
    torch.manual_seed(0)
    return GPT2ForSequenceClassification(
        GPT2Config(
            vocab_size=50,
            n_embd=16,
            n_layer=2,
            n_head=2,
            pad_token_id=0,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
        )
    )


def vit():
    torch.manual_seed(0)
    config = ViTConfig(
        image_size=8,
        patch_size=4,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=2,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return ViTForImageClassification(config)


def texts(labels=None):
    draw = np.random.default_rng(0)
    lengths = draw.integers(3, 9, ROWS)
    ids = [draw.integers(1, 50, length).tolist() for length in lengths]
    labels = labels if labels is not None else [number % 2 for number in range(ROWS)]
    return Dataset.from_dict({"input_ids": ids, "labels": labels})


def images():
    draw = np.random.default_rng(0)
    pixels = draw.normal(size=(ROWS, 3, 8, 8)).tolist()
    return Dataset.from_dict({"pixel_values": pixels, "labels": [number % 2 for number in range(ROWS)]})


def collate(rows):
    if "pixel_values" in rows[0]:
        batch = {"pixel_values": torch.tensor([row["pixel_values"] for row in rows])}
    else:
        longest = max(len(row["input_ids"]) for row in rows)
        padded = [row["input_ids"] + [0] * (longest - len(row["input_ids"])) for row in rows]
        batch = {"input_ids": torch.tensor(padded)}
        batch["attention_mask"] = (batch["input_ids"] > 0).long()
    if "labels" in rows[0]:
        batch["labels"] = torch.tensor([row["labels"] for row in rows])
    return batch


def job(tmp_path, model, data, rate=1e-3, task=SST2, **settings):
    names = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    head = [p for name, p in names if "classifier" in name or "score" in name]
    rest = [p for name, p in names if "classifier" not in name and "score" not in name]
    return Job(
        model=model,
        groups=[ParameterGroup("adapter", rest, rate), ParameterGroup("head", head, 10 * rate)],
        callbacks=[],
        task=task,
        data=data,
        collate=collate,
        settings=TrainingSettings(**{"max_steps": 2, "batch_size": 4, "warmup_ratio": 0.0, **settings}),
        seed=1,
        device=CPU,
        workspace=tmp_path,
    )


@pytest.mark.parametrize(("make", "data"), [(bert, texts), (gpt2, texts), (vit, images)])
def test_gradient_accumulation_changes_neither_loss_nor_gradient(tmp_path, make, data):
    """One step over the same 16 examples, whole or in parts: transformers' own loss is off by the number of parts."""
    found = []
    for parts in (1, 2, 4):
        model = make()
        settings = {"max_steps": 1, "batch_size": ROWS // parts, "gradient_accumulation": parts, "max_gradient_norm": 0}
        done = train(job(tmp_path / str(parts), model, data(), rate=1e-12, **settings))
        found.append((done.history[0]["loss"], done.history[0]["grad_norm"]))
    assert found[1] == pytest.approx(found[0], rel=1e-4)
    assert found[2] == pytest.approx(found[0], rel=1e-4)


def llama():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=20,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        pad_token_id=0,
        eos_token_id=1,
    )
    return LlamaForCausalLM(config)


class _Echo(LanguageModelTask):
    """A language-model task of which only the loss and the batches are asked."""

    name = "echo"
    prompt = response = check = predict = score = None


def answers():
    """Rows of which each has one labelled token more than the last."""
    rows = [[2 + (n + k) % 18 for k in range(3 + n)] for n in range(ROWS)]
    labels = [[-100, -100, *row[2:]] for row in rows]
    return Dataset.from_dict({"input_ids": rows, "labels": labels, "prompt": [row[:2] for row in rows]})


def test_accumulation_weighs_every_token_of_a_language_model_alike(tmp_path):
    """However they are spread over the forward passes: a mean of means would weigh short answers more."""
    found = []
    task = _Echo()
    for parts in (1, 2, 8):
        settings = {"max_steps": 1, "batch_size": ROWS // parts, "gradient_accumulation": parts, "max_gradient_norm": 0}
        work = job(tmp_path / str(parts), llama(), answers(), rate=1e-12, task=task, **settings)
        work.collate = task.collate(SimpleNamespace(pad_token_id=0))
        done = train(work)
        found.append((done.history[0]["loss"], done.history[0]["grad_norm"]))
    batch = task.collate(SimpleNamespace(pad_token_id=0))(list(answers()))
    assert found[0][0] == pytest.approx(llama()(**batch).loss.item(), rel=1e-4)
    assert found[1] == pytest.approx(found[0], rel=1e-4)
    assert found[2] == pytest.approx(found[0], rel=1e-4)


def test_label_smoothing_reaches_the_loss(tmp_path):
    done = train(job(tmp_path, bert(), texts(), rate=1e-12, max_steps=1, batch_size=ROWS, label_smoothing=0.3))
    logits = torch.tensor(Predictor(bert(), None, collate, ROWS, CPU).logits(texts()))
    labels = torch.tensor(texts()["labels"])
    plain = torch.nn.functional.cross_entropy(logits, labels)
    spread = -torch.log_softmax(logits, dim=1).mean()
    assert done.history[0]["loss"] == pytest.approx(float(0.7 * plain + 0.3 * spread), rel=1e-4)


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


def test_the_fault_that_the_loss_is_our_own_for_is_still_there(tmp_path):
    """When this fails, transformers has mended it, and `TaskTrainer.compute_loss` may go."""
    from transformers import TrainingArguments

    losses = []
    for parts in (1, 4):
        arguments = TrainingArguments(
            output_dir=str(tmp_path),
            max_steps=1,
            per_device_train_batch_size=ROWS // parts,
            gradient_accumulation_steps=parts,
            learning_rate=1e-12,
            use_cpu=True,
            disable_tqdm=True,
            save_strategy="no",
            logging_steps=1,
            report_to="none",
        )
        trainer = PlainTrainer(bert(), arguments, train_dataset=texts(), data_collator=collate)
        trainer.train()
        losses.append(trainer.state.log_history[0]["loss"])
    assert losses[1] == pytest.approx(4 * losses[0], rel=1e-3)


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


def test_a_regression_has_one_output_and_the_squared_error(tmp_path):
    labels = [0.5 * number for number in range(ROWS)]
    done = train(job(tmp_path, bert(1), texts(labels), task=STSB, max_steps=1, batch_size=ROWS, rate=1e-12))
    logits = Predictor(bert(1), None, collate, 8, CPU).logits(texts(labels))[:, 0]
    assert done.history[0]["loss"] == pytest.approx(float(np.mean((logits - np.array(labels)) ** 2)), rel=1e-3)


def test_a_loss_that_is_no_number_ends_the_run_with_its_step(tmp_path):
    model = bert()
    calls = []

    def poison(module, inputs, output):
        calls.append(1)
        return output * float("nan") if len(calls) == 3 else output

    model.bert.pooler.register_forward_hook(poison)
    with pytest.raises(DivergedError, match="the loss was not finite at step 3"):
        train(job(tmp_path, model, texts(), max_steps=10))


def test_outputs_that_are_no_numbers_are_divergence_too():
    model = bert()
    torch.nn.init.constant_(model.classifier.bias, float("inf"))
    with pytest.raises(DivergedError, match="not finite"):
        Predictor(model, None, collate, 4, CPU).logits(texts())


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_inference_keeps_the_order_and_does_not_depend_on_the_batch(batch_size):
    model = bert().eval()
    rows = texts()
    one_by_one = [model(**{k: v for k, v in collate([row]).items() if k != "labels"}).logits[0] for row in rows]
    expected = torch.stack(one_by_one).detach().numpy()
    assert Predictor(model, None, collate, batch_size, CPU).logits(rows) == pytest.approx(expected, abs=1e-5)


def interrupt_at(step):
    def on_step(done, total, loss):
        if done == step:
            raise KeyboardInterrupt

    return on_step


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
