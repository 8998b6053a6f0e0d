"""A batch that goes through the model in groups of similar length has the loss and the gradient of the whole batch."""

import itertools
import random
from dataclasses import replace

import pytest
import torch
from datasets import Dataset

from parbench.bench.train import length_groups
from parbench.bench.train.length_groups import group_sizes, most_groups, split_by_length
from parbench.bench.train.train import train
from parbench.methods.loca import LocaCallback, LocaConfig
from parbench.tasks import find_task
from parbench.tasks.inference import IGNORED
from tests.support.training import (
    CPU,
    ROWS,
    FirstGradient,
    answers_to,
    assert_same_gradient,
    bert,
    collate,
    gpt2,
    job,
    llama,
)


@pytest.fixture(autouse=True)
def free_passes(monkeypatch):
    """Passes cost nothing, so that every batch of rows of several lengths is split."""
    monkeypatch.setattr(length_groups, "PASS_COST", 0)


def rows(kind):
    """Rows whose lengths differ widely, the longest among many short ones."""
    draw = random.Random(0)
    ids = [[draw.randint(2, 49) for _ in range(40 if row == 5 else draw.randint(2, 12))] for row in range(ROWS)]
    labels = {
        "classes": [row % 2 for row in range(ROWS)],
        "numbers": [draw.uniform(0, 5) for _ in range(ROWS)],
        # Where a token would be ignored, a number is a number.
        "numbers of -100": [float(IGNORED) if row in (0, 5, 6) else draw.uniform(0, 5) for row in range(ROWS)],
        # Of a sequence only the second half is an answer.
        "tokens": answers_to(ids),
    }[kind]
    return Dataset.from_dict({"input_ids": ids, "labels": labels})


def whole_step(folder, model, kind, task, callbacks=(), **settings):
    """A training whose batch has all rows."""
    values = {"max_steps": 1, "batch_size": ROWS, "max_gradient_norm": 0.0, **settings}
    work = job(folder, model, rows(kind), task=find_task(task), **values)
    work.callbacks = list(callbacks)
    return work


CASES = {
    "encoder": (bert, "classes", "glue/sst2"),
    "decoder": (gpt2, "classes", "glue/sst2"),
    "regression": (lambda: bert(1), "numbers", "glue/stsb"),
    "regression on -100": (lambda: bert(1), "numbers of -100", "glue/stsb"),
    "language model": (llama, "tokens", "instruct"),
}


@pytest.mark.parametrize(
    "changes", [{}, {"gradient_accumulation": 2, "batch_size": 8}, {"label_smoothing": 0.1}], ids=str
)
@pytest.mark.parametrize("case", CASES)
def test_the_gradient_is_that_of_the_whole_batch(tmp_path, case, changes):
    make, kind, task = CASES[case]
    if kind.startswith("numbers") and "label_smoothing" in changes:
        pytest.skip("a regression has no classes to smooth over")
    found, losses, passes = [], [], []
    for groups in (1, 4):
        model = make().double()
        gradient, counted = FirstGradient(), []
        model.register_forward_pre_hook(lambda module, args, kwargs, to=counted: to.append(1), with_kwargs=True)
        settings = {"length_groups": groups, **changes}
        done = train(whole_step(tmp_path / str(groups), model, kind, task, [gradient], **settings))
        found.append(gradient.found)
        losses.append(done.history[0]["loss"])
        passes.append(len(counted))
    accumulated = changes.get("gradient_accumulation", 1)
    assert passes[0] == accumulated
    assert passes[0] < passes[1] <= 4 * accumulated
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert_same_gradient(found[1], found[0])


def test_schedules_count_optimiser_steps(tmp_path):
    """LoCA alternates coefficients and locations by steps: in groups it comes out where it does in one pass."""
    from peft import get_peft_model

    adapters = []
    for groups in (1, 4):
        config = LocaConfig(n_frequency=20, target_modules=["query", "value"])
        model = get_peft_model(bert(), config)
        callback = LocaCallback(location_until=6, coefficient_steps=2, location_steps=1)
        changes = {"max_steps": 8, "length_groups": groups}
        train(whole_step(tmp_path / str(groups), model, "classes", "glue/sst2", [callback], **changes))
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
    work = whole_step(tmp_path, llama(), "tokens", "instruct", length_groups=16)
    done = train(replace(work, data=Dataset.from_list(data)))
    assert 0 < done.history[0]["loss"] < 10


def test_images_stay_whole():
    batch = {"pixel_values": torch.zeros(4, 3, 8, 8), "labels": torch.zeros(4)}
    assert list(split_by_length(batch, 4)) == [batch]


def test_methods_that_look_across_rows_are_left_whole(tmp_path):
    model, passes = bert(), []
    model.register_forward_pre_hook(lambda module, args: passes.append(1))
    work = whole_step(tmp_path, model, "classes", "glue/sst2", length_groups=4)
    train(replace(work, rows_are_independent=False))
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
