from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import nn
from transformers import PreTrainedModel

from parbench.methods.replora import RepLoraConfig, RepLoraLayer

MODELS = ["bert", "gpt2", "llama"]


@pytest.mark.parametrize("safe_merge", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_merge_and_unload(adapt: Callable[..., PeftModel], logits: Callable, name: str, safe_merge: bool) -> None:
    model = adapt(name, init_weights=False, lora_alpha=32)
    adapted = logits(model)
    with model.disable_adapter():
        assert not torch.allclose(logits(model), adapted, atol=1e-3)
    merged = model.merge_and_unload(safe_merge=safe_merge)
    assert not any(isinstance(module, RepLoraLayer) for module in merged.modules())
    assert not any("replora" in key for key in merged.state_dict())
    torch.testing.assert_close(logits(merged), adapted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_merge_and_unmerge(adapt: Callable[..., PeftModel], logits: Callable, name: str) -> None:
    model = adapt(name, init_weights=False)
    weights = {n: p.detach().clone() for n, p in model.named_parameters()}
    adapted = logits(model)
    model.merge_adapter()
    assert any(not torch.equal(p, weights[n]) for n, p in model.named_parameters())
    torch.testing.assert_close(logits(model), adapted, rtol=1e-5, atol=1e-5)
    model.unmerge_adapter()
    for parameter_name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, weights[parameter_name], rtol=0, atol=1e-6)


def test_disabling_unmerges(
    adapt: Callable[..., PeftModel], make_base: Callable[[str], PreTrainedModel], logits: Callable
) -> None:
    model = adapt("llama", init_weights=False)
    model.merge_adapter()
    with model.disable_adapter():
        torch.testing.assert_close(logits(model), logits(make_base("llama")), rtol=1e-5, atol=1e-5)


def test_two_adapters_merge_one_after_the_other(adapt: Callable[..., PeftModel], logits: Callable) -> None:
    model = adapt("llama", init_weights=False)
    model.add_adapter("second", RepLoraConfig(init_weights=False))
    model.base_model.set_adapter(["default", "second"])
    adapted = logits(model)
    model.merge_adapter(["default"])
    with pytest.warns(UserWarning, match="additionally merging second"):
        model.merge_adapter(["default", "second"])
    torch.testing.assert_close(logits(model), adapted, rtol=1e-5, atol=1e-5)


def test_unload_gives_the_base_model_back(
    adapt: Callable[..., PeftModel], make_base: Callable[[str], PreTrainedModel], logits: Callable
) -> None:
    base = make_base("gpt2")
    unloaded = adapt("gpt2", init_weights=False).unload()
    assert set(unloaded.state_dict()) == set(base.state_dict())
    torch.testing.assert_close(logits(unloaded), logits(base), rtol=0, atol=0)


def test_safe_merge_refuses_a_broken_adapter(adapt: Callable[..., PeftModel]) -> None:
    model = adapt("llama", init_weights=False)
    layer = next(module for module in model.modules() if isinstance(module, RepLoraLayer))
    before = layer.weight.detach().clone()
    with torch.no_grad():
        layer.replora_seeds["default"].seed_a.entries[0] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        layer.merge(safe_merge=True)
    assert torch.equal(layer.weight, before)
    assert not layer.merged


def test_quantized_weights_are_not_merged(adapt: Callable[..., PeftModel]) -> None:
    model = adapt("llama")
    layer = next(module for module in model.modules() if isinstance(module, RepLoraLayer))
    layer.base_layer.weight = nn.Parameter(layer.weight.to(torch.int8), requires_grad=False)
    with pytest.raises(ValueError, match="quantized base weight"):
        layer.merge()


def test_merging_into_a_half_precision_base_keeps_its_type(
    make_base: Callable[[str], PreTrainedModel],
) -> None:
    model = get_peft_model(make_base("llama").to(torch.bfloat16), RepLoraConfig(init_weights=False))
    layer = next(module for module in model.modules() if isinstance(module, RepLoraLayer))
    expected = (layer.weight.detach().float() + layer.get_delta_weight("default").detach()).to(torch.bfloat16)
    model.merge_adapter()
    assert layer.weight.dtype == torch.bfloat16
    torch.testing.assert_close(layer.weight.detach(), expected, rtol=0, atol=0)
