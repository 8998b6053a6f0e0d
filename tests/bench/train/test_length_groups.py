"""A batch that goes through the model in groups of similar length has the loss and the gradient of the whole batch."""

import itertools
import random
from dataclasses import replace

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
    TrainerCallback,
)

from parbench.bench.train import length_groups
from parbench.bench.train.length_groups import group_sizes, most_groups, split_by_length
from parbench.bench.train.settings import TrainingSettings
from parbench.bench.train.train import Job, train
from parbench.methods.base import ParameterGroup
from parbench.methods.loca import LocaCallback, LocaConfig
from parbench.tasks import find_task
from parbench.tasks.inference import IGNORED

CPU = torch.device("cpu")
ROWS = 16


@pytest.fixture(autouse=True)
def free_passes(monkeypatch):
    """Passes cost nothing, so that every batch of rows of several lengths is split."""
    monkeypatch.setattr(length_groups, "PASS_COST", 0)


def bert(labels=2):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=labels,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return BertForSequenceClassification(config)


def gpt2():
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=50, n_embd=16, n_layer=2, n_head=2, pad_token_id=0, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0
    )
    return GPT2ForSequenceClassification(config)


def llama():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        pad_token_id=0,
        eos_token_id=1,
    )
    return LlamaForCausalLM(config)


def rows(kind):
    """Rows whose lengths differ widely, the longest among many short ones."""
    draw = random.Random(0)
    ids = [[draw.randint(2, 49) for _ in range(40 if row == 5 else draw.randint(2, 12))] for row in range(ROWS)]
    labels = {
        "classes": [row % 2 for row in range(ROWS)],
        "numbers": [draw.uniform(0, 5) for _ in range(ROWS)],
        # Of a sequence only the second half is an answer.
        "tokens": [[IGNORED] * (len(row) // 2) + row[len(row) // 2 :] for row in ids],
    }[kind]
    return Dataset.from_dict({"input_ids": ids, "labels": labels})


def collate(batch):
    width = max(len(row["input_ids"]) for row in batch)

    def padded(values, fill):
        return torch.tensor([row + [fill] * (width - len(row)) for row in values])

    ids = padded([row["input_ids"] for row in batch], 0)
    labels = [row["labels"] for row in batch]
    return {
        "input_ids": ids,
        "attention_mask": (ids > 0).long(),
        "labels": padded(labels, IGNORED) if isinstance(labels[0], list) else torch.tensor(labels),
    }


class Gradient(TrainerCallback):
    """Keeps the gradient of the first optimiser step."""

    def __init__(self):
        self.found = None

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if self.found is None:
            self.found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def job(folder, model, data, task, callbacks=(), **settings):
    values = {"max_steps": 1, "batch_size": ROWS, "warmup_ratio": 0.0, "max_gradient_norm": 0.0, **settings}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return Job(
        model=model,
        groups=[ParameterGroup("adapter", trained, 1e-3)],
        callbacks=list(callbacks),
        task=task,
        data=data,
        collate=collate,
        settings=TrainingSettings(**values),
        seed=1,
        device=CPU,
        workspace=folder,
    )


CASES = {
    "encoder": (bert, "classes", "glue/sst2"),
    "decoder": (gpt2, "classes", "glue/sst2"),
    "regression": (lambda: bert(1), "numbers", "glue/stsb"),
    "language model": (llama, "tokens", "instruct"),
}


@pytest.mark.parametrize(
    "changes", [{}, {"gradient_accumulation": 2, "batch_size": 8}, {"label_smoothing": 0.1}], ids=str
)
@pytest.mark.parametrize("case", CASES)
def test_the_gradient_is_that_of_the_whole_batch(tmp_path, case, changes):
    make, kind, task = CASES[case]
    if kind == "numbers" and "label_smoothing" in changes:
        pytest.skip("a regression has no classes to smooth over")
    found, losses, passes = [], [], []
    for groups in (1, 4):
        model = make().double()
        gradient, counted = Gradient(), []
        model.register_forward_pre_hook(lambda module, args, kwargs, to=counted: to.append(1), with_kwargs=True)
        done = train(
            job(tmp_path / str(groups), model, rows(kind), find_task(task), [gradient], length_groups=groups, **changes)
        )
        found.append(gradient.found)
        losses.append(done.history[0]["loss"])
        passes.append(len(counted))
    accumulated = changes.get("gradient_accumulation", 1)
    assert passes[0] == accumulated
    assert passes[0] < passes[1] <= 4 * accumulated
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert found[0].keys() == found[1].keys()
    scale = max(float(gradient.abs().max()) for gradient in found[0].values())
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=0, atol=1e-10 * scale)


def test_schedules_count_optimiser_steps(tmp_path):
    """LoCA alternates coefficients and locations by steps: in groups it comes out where it does in one pass."""
    from peft import get_peft_model

    adapters = []
    for groups in (1, 4):
        config = LocaConfig(n_frequency=20, target_modules=["query", "value"])
        model = get_peft_model(bert(), config)
        callback = LocaCallback(location_until=6, coefficient_steps=2, location_steps=1)
        changes = {"max_steps": 8, "length_groups": groups}
        train(job(tmp_path / str(groups), model, rows("classes"), find_task("glue/sst2"), [callback], **changes))
        adapters.append({name: p.detach().clone() for name, p in model.named_parameters() if "loca" in name})
    assert adapters[0]
    for name, values in adapters[0].items():
        torch.testing.assert_close(adapters[1][name], values, rtol=0, atol=1e-4)


def test_groups_have_all_rows_and_never_more_tokens_than_the_batch():
    batch = collate(list(rows("tokens")))
    groups = list(split_by_length(batch, 4))
    assert 1 < len(groups) <= 4
    assert sum(len(group["labels"]) for group in groups) == ROWS
    assert all(group["input_ids"].numel() < batch["input_ids"].numel() for group in groups)
    for group in groups:
        # Padded to its own longest row, and nothing but padding is gone.
        assert group["attention_mask"][:, -1].any()
    kept = sorted(tuple(ids[ids > 0].tolist()) for group in groups for ids in group["input_ids"])
    assert kept == sorted(tuple(ids[ids > 0].tolist()) for ids in batch["input_ids"])
    counted = sum(int((group["labels"] != IGNORED).sum()) for group in groups)
    assert counted == int((batch["labels"] != IGNORED).sum())


def test_what_is_as_wide_as_the_batch_by_chance_stays_whole():
    batch = collate(list(rows("classes")))
    # Each row of the prompts holds its number, and ends in what a cut would lose.
    prompts = torch.arange(ROWS)[:, None].repeat(1, batch["input_ids"].shape[1])
    groups = list(split_by_length({**batch, "system_prompt_ids": prompts}, 4))
    assert len(groups) > 1
    for group in groups:
        assert group["system_prompt_ids"].shape == (len(group["labels"]), prompts.shape[1])
        for ids, prompt in zip(group["input_ids"], group["system_prompt_ids"], strict=True):
            whole = batch["input_ids"][prompt[0]]
            assert ids[ids > 0].tolist() == whole[whole > 0].tolist()


def test_what_is_padded_in_front_stays_whole():
    batch = collate(list(rows("classes")))
    turned = {**batch, "input_ids": batch["input_ids"].flip(1), "attention_mask": batch["attention_mask"].flip(1)}
    assert [len(group["labels"]) for group in split_by_length(turned, 4)] == [ROWS]


def test_a_group_without_labels_has_no_share(tmp_path):
    """An answer of one token that nothing precedes has no label that counts: its mean would be no number."""
    data = rows("tokens").to_list()
    data[0] = {"input_ids": [7], "labels": [7]}
    model = llama()
    done = train(job(tmp_path, model, Dataset.from_list(data), find_task("instruct"), length_groups=16))
    assert 0 < done.history[0]["loss"] < 10


def test_images_stay_whole():
    batch = {"pixel_values": torch.zeros(4, 3, 8, 8), "labels": torch.zeros(4)}
    assert list(split_by_length(batch, 4)) == [batch]


def test_methods_that_look_across_rows_are_left_whole(tmp_path):
    model, passes = bert(), []
    model.register_forward_pre_hook(lambda module, args: passes.append(1))
    whole = replace(
        job(tmp_path, model, rows("classes"), find_task("glue/sst2"), length_groups=4), rows_are_independent=False
    )
    train(whole)
    assert len(passes) == 1


def test_on_a_gpu_a_batch_stays_whole_unless_asked():
    assert most_groups(None, torch.device("cuda")) == 1
    assert most_groups(None, CPU) == 4
    assert most_groups(2, torch.device("cuda")) == 2


@pytest.mark.parametrize("pass_cost", [0, 10, 48])
def test_the_cut_is_the_cheapest(monkeypatch, pass_cost):
    monkeypatch.setattr(length_groups, "PASS_COST", pass_cost)
    draw = random.Random(pass_cost)

    def cost(lengths, sizes):
        starts = [0, *itertools.accumulate(sizes)]
        return sum(lengths[start] * size + pass_cost for start, size in zip(starts, sizes, strict=False))

    for _ in range(100):
        lengths = sorted((draw.randint(1, 100) for _ in range(draw.randint(1, 8))), reverse=True)
        most = draw.randint(1, 4)
        every = [
            [after - before for before, after in itertools.pairwise([0, *cut, len(lengths)])]
            for groups in range(1, min(most, len(lengths)) + 1)
            for cut in itertools.combinations(range(1, len(lengths)), groups - 1)
        ]
        sizes = group_sizes(lengths, most)
        assert sizes in every
        assert cost(lengths, sizes) == min(cost(lengths, other) for other in every)
