"""Counting without weights: the numbers are those that the built model has, and those that others have published."""

import pytest
import torch
from transformers import BertForSequenceClassification, LlamaForCausalLM

from parbench.bench.budget.budget import Budget
from parbench.bench.budget.count import Architecture, refuse_shared
from parbench.bench.budget.fit import fit
from parbench.bench.models.catalogue import find_model
from parbench.methods import METHODS, find_method
from tests.support.tiny_checkpoints import BERT, LLAMA, saved


def counts(model, expression):
    choice = find_method(expression)
    return Architecture(find_model(model)).count(
        choice.method, choice.method.setting_type.model_validate(dict(choice.values))
    )


@pytest.mark.parametrize(
    ("model", "expression", "numbers"),
    [
        # A prefix is a key and a value per layer and position, a prompt an embedding per position.
        ("llama-7b", "prefix_tuning(num_virtual_tokens=10)", 2 * 32 * 10 * 4096),
        ("llama-7b", "prompt_tuning(num_virtual_tokens=10)", 10 * 4096),
        ("gpt2-large", "prefix_tuning(num_virtual_tokens=10)", 2 * 36 * 10 * 1280),
        # Eight of 24 heads have keys and values.
        ("llama-3.2-3b", "prefix_tuning(num_virtual_tokens=10)", 2 * 28 * 10 * 8 * 128),
        # peft's own comparison of methods prints these.
        pytest.param("llama-3.2-3b", "adamss(r=32,num_subspaces=100)", 293_888, marks=pytest.mark.slow),
        ("llama-3.2-3b", "frod", 5_456_808),
    ],
)
def test_large_models_are_counted_without_weights(model, expression, numbers):
    assert counts(model, expression).reported == numbers


def test_the_file_of_a_prompt_has_its_bytes():
    found = counts("llama-7b", "p_tuning(num_virtual_tokens=10)")
    assert found.stored_bytes == 4 * 10 * 4096 < 4 * found.optimised


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return (
        find_model(saved(folder / "bert", BertForSequenceClassification(BERT))),
        find_model(saved(folder / "llama", LlamaForCausalLM(LLAMA))),
    )


@pytest.mark.parametrize("name", list(METHODS))
def test_counts_without_weights_are_those_with_weights(name, small):
    method = METHODS[name]
    setting = method.setting_type()
    tried = 0
    for base in small:
        architecture = Architecture(base)
        try:
            real = architecture._count_on("cpu", "cpu", method, setting)
        except (ValueError, RuntimeError, NotImplementedError, TypeError):
            continue
        tried += 1
        assert architecture.count(method, setting) == real
    if not tried:
        pytest.skip(f"{name} adapts neither model")


def test_tensors_that_share_memory_are_refused_before_training(small):
    tensor = torch.zeros(2, device="meta")
    with pytest.raises(ValueError, match="cannot be saved: a and b share memory"):
        refuse_shared({"a": tensor, "b": tensor.detach()})
    refuse_shared({"a": tensor, "b": tensor.clone()})


@pytest.mark.parametrize("limit", [0, 191, 192, 193, 10_000, 10**7])
def test_a_size_is_found_with_few_models(small, limit, monkeypatch):
    architecture = Architecture(small[0])
    method = METHODS["lora"]
    made = []
    count_on = Architecture._count_on
    monkeypatch.setattr(
        Architecture, "_count_on", lambda self, *arguments: made.append(1) or count_on(self, *arguments)
    )
    found = fit(method, method.setting_type(), Budget("", limit), architecture)
    per_rank = 2 * 2 * (16 + 16)
    assert (found.counts.reported if found.counts else 0) == limit // per_rank * per_rank
    assert len(made) <= 6
