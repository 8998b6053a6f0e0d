from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from parbench.methods.lora_gen import LoraGen, LoraGenConfig
from parbench.methods.lora_gen.training import PAPER, Example, Step, TrainingConfig, collate, train

TOY = TrainingConfig(learning_rate=1e-2, warmup_steps=5, batch_size=8, epochs=30, weight_decay=0.0)


def toy(count: int = 24) -> list[Example]:
    """The answer, one of two words, depends on the system prompt only."""
    draw = torch.Generator().manual_seed(0)
    examples = []
    for number in range(count):
        noise = torch.randint(10, 30, (8,), generator=draw).tolist()
        word, answer = ((3, 31), (4, 32))[number % 2]
        examples.append(Example([word] * (1 + number % 3), noise[: 2 + number % 5], [answer, 33]))
    return examples


def confident(model: PreTrainedModel) -> PreTrainedModel:
    """Let the frozen head's logits be as far apart as a pretrained model's; else no training brings the loss down."""
    model.lm_head.weight.data.mul_(5)
    return model


def test_preset_is_table_10() -> None:
    assert (PAPER.learning_rate, PAPER.betas, PAPER.weight_decay) == (2e-5, (0.9, 0.999), 0.1)
    assert (PAPER.warmup_steps, PAPER.batch_size, PAPER.epochs, PAPER.max_length) == (50, 64, 4, 2048)


def test_batch_by_hand() -> None:
    batch = collate([Example([5, 6], [1], [2, 3]), Example([7], [4, 5], [6])])
    assert {name: tensor.tolist() for name, tensor in batch.items()} == {
        "system_prompt_ids": [[5, 6], [7, 0]],
        "system_prompt_mask": [[1, 1], [1, 0]],
        "input_ids": [[1, 2, 3], [4, 5, 6]],
        "attention_mask": [[1, 1, 1], [1, 1, 1]],
        "labels": [[-100, 2, 3], [-100, -100, 6]],
    }


@pytest.mark.parametrize("options", [{}, {"mixing": "products"}, {"routing": "direct"}], ids=str)
def test_it_learns_what_only_the_system_prompt_contains(
    make_model: Callable[[str], PreTrainedModel], options: dict[str, Any]
) -> None:
    edge = confident(make_model("llama"))
    config = LoraGenConfig(**{"experts": 4, "r": 8, "lora_dropout": 0.0, "cloud_dropout": 0.0} | options)
    model = LoraGen(make_model("cloud"), copy.deepcopy(edge), config).double()
    steps = train(model, toy(), TOY)
    assert [step.number for step in steps] == list(range(1, 91))
    assert steps[0].lm_loss > 2.0
    # One of two tokens is a matter of chance to an edge that does not know the prompt: log(2) / 2 is its best.
    assert mean(step.lm_loss for step in steps[-3:]) < 0.2
    right = 0
    for example in toy():
        merged = model.generate(example.system_prompt).merge(copy.deepcopy(edge))
        prediction = merged(input_ids=torch.tensor([example.input])).logits[0, -1].argmax()
        right += int(prediction == example.response[0])
    assert right >= 22


def test_schedule_rises_and_falls(build: Callable[..., LoraGen]) -> None:
    rates = [step.learning_rate for step in train(build(), toy(8), replace(TOY, batch_size=4, epochs=10))]
    assert rates[:6] == pytest.approx([0.0, 0.002, 0.004, 0.006, 0.008, 0.01])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert 0 < rates[-1] < 2e-4


def test_resumed_training_equals_an_uninterrupted_one(build: Callable[..., LoraGen], tmp_path: Path) -> None:
    options: dict[str, Any] = {"routing": "gumbel", "lora_dropout": 0.2, "cloud_dropout": 0.2}
    config = replace(TOY, epochs=3, checkpoint_steps=2)

    class StopError(Exception):
        pass

    def stop(step: Step) -> None:
        if step.number == 5:
            raise StopError

    torch.manual_seed(0)
    model = build(**options)
    torch.manual_seed(7)
    expected = train(model, toy(), config)

    torch.manual_seed(0)
    interrupted = build(**options)
    torch.manual_seed(7)
    with pytest.raises(StopError):
        train(interrupted, toy(), config, tmp_path, stop)
    resumed = build(**options)
    torch.manual_seed(8)
    numbers: list[int] = []
    assert train(resumed, toy(), config, tmp_path, lambda step: numbers.append(step.number)) == expected
    assert numbers == [5, 6, 7, 8, 9]
    torch.testing.assert_close(resumed.trainable_state(), model.trainable_state(), rtol=0, atol=0)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-9"]
    # What is finished is not trained again.
    assert train(build(**options), toy(), config, tmp_path, lambda step: numbers.append(step.number)) == expected
    assert len(numbers) == 5

    with pytest.raises(ValueError, match="another training: it differs in learning_rate; give"):
        train(build(**options), toy(), replace(config, learning_rate=1.0), tmp_path)
    with pytest.raises(ValueError, match="it differs in examples; give"):
        train(build(**options), toy(8), config, tmp_path)


def test_micro_batches_give_the_same_gradient(build: Callable[..., LoraGen]) -> None:
    """Where nothing looks across a batch: without BatchNorm and balance loss."""
    results = []
    for size in (None, 3):
        torch.manual_seed(0)
        model = build(started=True, router_norm="none", balance_coefficient=0.0, lora_dropout=0.0, cloud_dropout=0.0)
        config = replace(TOY, epochs=2, micro_batch_size=size)
        results.append((train(model, toy(), config), model.trainable_state()))
    assert [s.lm_loss for s in results[0][0]] == pytest.approx([s.lm_loss for s in results[1][0]])
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-5, atol=1e-8)


def test_half_precision_models_train(
    build: Callable[..., LoraGen], make_model: Callable[[str], PreTrainedModel]
) -> None:
    config = build(r=8).config
    model = LoraGen(make_model("cloud").bfloat16(), confident(make_model("llama")).bfloat16(), config)
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    steps = train(model, toy(), replace(TOY, precision="bfloat16", max_gradient_norm=1.0))
    assert mean(step.lm_loss for step in steps[-3:]) < 0.2 * steps[0].lm_loss
    text = torch.tensor([[12, 20, 25]])
    here = model(torch.tensor([[3, 3]]), input_ids=text).logits
    there = model.generate([3, 3]).attach(model.release_edge())(input_ids=text).logits
    assert here.dtype == there.dtype == torch.bfloat16
    torch.testing.assert_close(there, here, rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ([], "no examples to train on"),
        ([Example([1], [2], [3]), Example([1], [], [3])], "example 1 has an empty system prompt, input or response"),
        ([Example([1], [2] * 5, [3] * 5)], "example 0 has 10 tokens; shorten it to max_length=9"),
    ],
)
def test_bad_examples_are_refused(build: Callable[..., LoraGen], examples: list[Example], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train(build(), examples, replace(TOY, max_length=9))


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="micro_batch_size=0; give an integer of at least 1"):
        TrainingConfig(micro_batch_size=0)


def test_divergence_is_reported(build: Callable[..., LoraGen]) -> None:
    model = build()
    with torch.no_grad():
        model.encoder.meta_embedding.fill_(float("nan"))
    with pytest.raises(RuntimeError, match="the loss is nan at step 1; lower"):
        train(model, toy(), TOY)
