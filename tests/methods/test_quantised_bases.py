"""Merging into a weight that would round the update away is refused, and changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from parbench.methods.from_peft.tuner import check_mergeable
from tests.support.adapted_models import EXPRESSIONS, PROMPT, adapted

REFUSED = "quantized base weight"


def quantise(model: nn.Module, dtype: torch.dtype) -> list[nn.Module]:
    """Put weights of 8 bits into the adapted layers; the last one first in no order, so that others come before."""
    layers: list[Any] = [
        layer for layer in model.modules() if hasattr(layer, "base_layer") and hasattr(layer.base_layer, "weight")
    ]
    base = layers[-1].base_layer
    base.weight = nn.Parameter((10 * base.weight).to(dtype), requires_grad=False)
    return layers


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn], ids=str)
@pytest.mark.parametrize("safe_merge", [False, True])
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_merging_is_refused_and_changes_no_layer(expression: str, safe_merge: bool, dtype: torch.dtype) -> None:
    model = adapted(expression, EXPRESSIONS[expression])
    layers = quantise(model, dtype)
    before = [layer.base_layer.weight.detach().clone() for layer in layers]
    for merge in (model.merge_adapter, model.merge_and_unload, layers[-1].merge):
        with pytest.raises(ValueError, match=REFUSED):
            merge(safe_merge=safe_merge)
    if not expression.startswith("fourierft"):  # peft's tuner: it merges one layer after the other
        for layer, weight in zip(layers, before, strict=True):
            assert not layer.merged
            assert torch.equal(layer.base_layer.weight.float(), weight.float())


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_unmerging_from_a_weight_that_was_quantised_later_is_refused(expression: str) -> None:
    model = adapted(expression, EXPRESSIONS[expression])
    model.merge_adapter()
    last = quantise(model, torch.int8)[-1]
    with pytest.raises(ValueError, match=REFUSED):
        last.unmerge()
    assert last.merged


def test_an_edge_of_8_bits_takes_no_lora() -> None:
    model = adapted("lora_gen(r=4)", "llama")
    adapter = model.lora_gen.generate(PROMPT)
    mlp = model.lora_gen.edge.model.layers[-1].mlp
    mlp.down_proj.base_layer.weight = nn.Parameter(mlp.down_proj.base_layer.weight.to(torch.int8), requires_grad=False)
    up = mlp.up_proj.base_layer.weight.detach().clone()
    with pytest.raises(ValueError, match=REFUSED):
        model.merge_adapter(PROMPT)
    assert torch.equal(mlp.up_proj.base_layer.weight, up)
    edge = model.lora_gen.release_edge()
    with pytest.raises(ValueError, match=REFUSED):
        adapter.merge(edge)
    assert torch.equal(mlp.up_proj.weight, up)


class _Dequantised(torch.Tensor):
    """Stands in for a quantisation library's tensors, which give the dtype of their dequantised values."""


def test_a_tensor_of_a_quantisation_library_is_recognised_by_its_type() -> None:
    weight = torch.zeros(2, 2).as_subclass(_Dequantised)
    with pytest.raises(ValueError, match="_Dequantised"):
        check_mergeable(weight, "default")
    check_mergeable(nn.Parameter(torch.zeros(2, 2)), "default")
