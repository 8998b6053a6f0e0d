"""Packed texts have the loss and the gradient of padded ones, or are refused."""

import pytest
import torch
from datasets import Dataset
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, Trainer

from parbench.bench.train import trainer
from parbench.bench.train.packing import check_packing, pack, rows_of
from parbench.bench.train.train import train
from parbench.bench.util.errors import UserError
from parbench.tasks import find_task
from parbench.tasks.inference import IGNORED
from tests.support.training import FirstGradient, answers_to, assert_same_gradient, collate, job, llama

LENGTHS = (20, 3, 9, 2, 5, 11, 7, 2)


def gpt2():
    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    )


def rows():
    draw = torch.Generator().manual_seed(0)
    ids = [torch.randint(2, 50, (length,), generator=draw).tolist() for length in LENGTHS]
    return Dataset.from_dict({"input_ids": ids, "labels": answers_to(ids)})


def trained(folder, model, **settings):
    values = {"max_steps": 1, "batch_size": len(LENGTHS), "max_gradient_norm": 0.0, "length_groups": 1, **settings}
    work, gradient = job(folder, model, rows(), task=find_task("instruct"), **values), FirstGradient()
    work.callbacks = [gradient]
    return train(work).history[0]["loss"], gradient.found


@pytest.mark.parametrize("make", [llama, gpt2])
def test_loss_and_gradient_are_those_of_padded_texts(tmp_path, make):
    wanted, expected = trained(tmp_path / "padded", make().double())
    loss, found = trained(tmp_path / "packed", make().double(), packing=True)
    assert loss == pytest.approx(wanted, rel=1e-6)
    assert_same_gradient(found, expected)


def test_rows_are_no_longer_than_the_longest_text():
    packed = pack(collate(list(rows())))
    assert packed["input_ids"].shape == (3, 20)
    assert int((packed["labels"] != IGNORED).sum()) == sum(length - max(1, length // 2) for length in LENGTHS)


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [([5, 3, 2], [[0], [1, 2]]), ([4, 4], [[0], [1]]), ([1], [[0]]), ([2, 5, 3], [[1], [2, 0]])],
)
def test_the_longest_text_goes_first(lengths, expected):
    assert rows_of(lengths, max(lengths)) == expected


class Mixing(nn.Module):
    """A language model whose texts see everything before them in their row, whatever their positions are."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(50, 50)

    def forward(self, input_ids, attention_mask=None, position_ids=None, use_cache=None):
        return type("Output", (), {"logits": self.embed(input_ids).cumsum(dim=1)})


def test_a_model_that_mixes_texts_is_refused():
    torch.manual_seed(0)
    batch = collate(list(rows()))
    check_packing(llama(), batch)
    with pytest.raises(UserError, match="mixes the texts"):
        check_packing(Mixing(), batch)


def test_the_first_texts_that_share_a_row_are_checked(tmp_path, monkeypatch):
    """In the first batch texts are of one length, and have a row each: nothing is seen of what a model mixes."""
    checked = []
    monkeypatch.setattr(trainer, "check_packing", lambda model, batch: checked.append(len(batch["input_ids"])))
    ids = [[3 + place] * length for place, length in enumerate([6, 6, 6, 6, 6, 6, 6, 2, 2])]
    equal, mixed = ids[:4], ids[4:9]
    batches = [collate([{"input_ids": one, "labels": one} for one in some]) for some in (equal, equal, mixed, mixed)]
    stepped = []
    monkeypatch.setattr(
        Trainer, "training_step", lambda self, model, inputs, count: stepped.append(len(inputs["labels"]))
    )
    work = object.__new__(trainer.TaskTrainer)
    work.packing = True
    monkeypatch.setattr(trainer.TaskTrainer, "_prepare_inputs", lambda self, inputs: inputs)
    for batch in batches:
        work.training_step(None, batch)
    assert checked == [4, 5]
    assert stepped == [4, 4, 4, 4]


def test_a_model_without_positions_is_refused():
    class Deaf(Mixing):
        def forward(self, input_ids, attention_mask=None, use_cache=None):
            return super().forward(input_ids)

    with pytest.raises(UserError, match=r"train\.packing"):
        check_packing(Deaf(), collate(list(rows())))


def test_a_classification_is_refused_when_it_is_planned(bench, tiny_data, tiny_model, tmp_path):
    arguments = ["--suite", "mini", "--tasks", "glue/sst2", "--methods", "lora", "--model", tiny_model]
    result = bench(
        "run", *arguments, "--data-root", tiny_data, "--set", "train.packing=true", "--dry-run", "--out", tmp_path / "s"
    )
    assert result.code == 2
    assert "train.packing" in result.err
