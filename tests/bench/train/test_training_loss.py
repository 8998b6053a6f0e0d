"""The loss of a training: how it is averaged, smoothed and accumulated, and that it is a number."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import Trainer as PlainTrainer
from transformers import ViTConfig, ViTForImageClassification

from parbench.bench.train.train import train
from parbench.bench.util.errors import DivergedError
from parbench.tasks.glue import STSB
from parbench.tasks.inference import Predictor
from parbench.tasks.kinds.language_model import LanguageModelTask
from tests.support.training import CPU, ROWS, bert, collate, gpt2, job, llama, texts


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


def images():
    draw = np.random.default_rng(0)
    pixels = draw.normal(size=(ROWS, 3, 8, 8)).tolist()
    return Dataset.from_dict({"pixel_values": pixels, "labels": [number % 2 for number in range(ROWS)]})


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


@pytest.mark.parametrize("labels", [[-100.0] * 4 + [1.5] * (ROWS - 4), [-100.0] * ROWS], ids=["some", "all"])
def test_a_number_to_be_predicted_is_never_an_ignored_label(tmp_path, labels):
    """However a batch is accumulated, -100 counts as any other number: a part of such rows alone has its share."""
    found = []
    for parts in (1, 2, ROWS):
        settings = {"max_steps": 1, "batch_size": ROWS // parts, "gradient_accumulation": parts, "max_gradient_norm": 0}
        work = job(tmp_path / str(parts), bert(1), texts(labels), rate=1e-12, task=STSB, **settings)
        done = train(work)
        found.append((done.history[0]["loss"], done.history[0]["grad_norm"]))
    logits = Predictor(bert(1), None, collate, 8, CPU).logits(texts(labels))[:, 0]
    assert found[0][0] == pytest.approx(float(np.mean((logits - np.array(labels)) ** 2)), rel=1e-3)
    assert found[1] == pytest.approx(found[0], rel=1e-4)
    assert found[2] == pytest.approx(found[0], rel=1e-4)


class _Echo(LanguageModelTask):
    """A language-model task of which only the loss and the batches are asked."""

    name = "echo"
    prompt = response = check = predict = score = None


def answers():
    """Rows of which each has one labelled token more than the last."""
    rows = [[2 + (n + k) % 18 for k in range(3 + n)] for n in range(ROWS)]
    labels = [[-100, -100, *row[2:]] for row in rows]
    return Dataset.from_dict({"input_ids": rows, "labels": labels, "prompt": [row[:2] for row in rows]})


def test_accumulation_weighs_every_token_of_a_language_model_equally(tmp_path):
    """However they are spread over the forward passes: a mean of means would weigh short answers more."""
    found = []
    task = _Echo()
    for parts in (1, 2, 8):
        settings = {"max_steps": 1, "batch_size": ROWS // parts, "gradient_accumulation": parts, "max_gradient_norm": 0}
        work = job(tmp_path / str(parts), llama(20), answers(), rate=1e-12, task=task, **settings)
        work.collate = task.collate(SimpleNamespace(pad_token_id=0))
        done = train(work)
        found.append((done.history[0]["loss"], done.history[0]["grad_norm"]))
    batch = task.collate(SimpleNamespace(pad_token_id=0))(list(answers()))
    assert found[0][0] == pytest.approx(llama(20)(**batch).loss.item(), rel=1e-4)
    assert found[1] == pytest.approx(found[0], rel=1e-4)
    assert found[2] == pytest.approx(found[0], rel=1e-4)


def test_a_part_of_an_accumulated_batch_without_labels_has_no_share(tmp_path):
    """One row has no label that counts: by itself its mean would be no number."""
    found = []
    task = _Echo()
    data = answers().to_list()
    data[3]["labels"] = [-100] * len(data[3]["labels"])
    for parts in (1, ROWS):
        settings = {"max_steps": 1, "batch_size": ROWS // parts, "gradient_accumulation": parts, "max_gradient_norm": 0}
        work = job(tmp_path / str(parts), llama(20), Dataset.from_list(data), rate=1e-12, task=task, **settings)
        work.collate = task.collate(SimpleNamespace(pad_token_id=0))
        done = train(work)
        found.append((done.history[0]["loss"], done.history[0]["grad_norm"]))
    assert found[1] == pytest.approx(found[0], rel=1e-4)


def test_a_step_without_any_label_is_no_training(tmp_path):
    data = [{**row, "labels": [-100] * len(row["labels"])} for row in answers()]
    work = job(tmp_path, llama(20), Dataset.from_list(data), task=_Echo(), max_steps=1, batch_size=ROWS)
    work.collate = _Echo().collate(SimpleNamespace(pad_token_id=0))
    with pytest.raises(DivergedError, match="not finite at step 1"):
        train(work)


def test_label_smoothing_reaches_the_loss(tmp_path):
    done = train(job(tmp_path, bert(), texts(), rate=1e-12, max_steps=1, batch_size=ROWS, label_smoothing=0.3))
    logits = torch.tensor(Predictor(bert(), None, collate, ROWS, CPU).logits(texts()))
    labels = torch.tensor(texts()["labels"])
    plain = torch.nn.functional.cross_entropy(logits, labels)
    spread = -torch.log_softmax(logits, dim=1).mean()
    assert done.history[0]["loss"] == pytest.approx(float(0.7 * plain + 0.3 * spread), rel=1e-4)


def test_the_fault_that_the_loss_is_our_own_for_is_still_there(tmp_path):
    """When this fails, transformers has fixed it, and `TaskTrainer.compute_loss` may go."""
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


def test_a_regression_has_one_output_and_the_squared_error(tmp_path):
    labels = [0.5 * number for number in range(ROWS)]
    done = train(job(tmp_path, bert(1), texts(labels), task=STSB, max_steps=1, batch_size=ROWS, rate=1e-12))
    logits = Predictor(bert(1), None, collate, 8, CPU).logits(texts(labels))[:, 0]
    assert done.history[0]["loss"] == pytest.approx(float(np.mean((logits - np.array(labels)) ** 2)), rel=1e-3)


def test_a_loss_that_is_not_a_number_ends_the_run_with_its_step(tmp_path):
    model = bert()
    calls = []

    def poison(module, inputs, output):
        calls.append(1)
        return output * float("nan") if len(calls) == 3 else output

    model.bert.pooler.register_forward_hook(poison)
    with pytest.raises(DivergedError, match="the loss was not finite at step 3"):
        train(job(tmp_path, model, texts(), max_steps=10))


def test_outputs_that_are_not_numbers_are_divergence_too():
    model = bert()
    torch.nn.init.constant_(model.classifier.bias, float("inf"))
    with pytest.raises(DivergedError, match="not finite"):
        Predictor(model, None, collate, 4, CPU).logits(texts())
