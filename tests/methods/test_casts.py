"""A cast of the whole model leaves the weight updates of our methods as they are."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from parbench.methods.lora_gen.adapted import AdaptedEdge
from tests.support.adapted_models import EXPRESSIONS, PROMPT, adapted

CASTS: dict[str, Callable[[Any], Any]] = {
    "bfloat16": lambda model: model.bfloat16(),
    "half": lambda model: model.half(),
    "to": lambda model: model.to(torch.bfloat16),
    "type": lambda model: model.type(torch.bfloat16),
    "device and dtype": lambda model: model.to("cpu", torch.float16),
    "round trip": lambda model: model.bfloat16().float(),
    "copied": lambda model: copy.deepcopy(model).bfloat16(),
    "pickled": lambda model: pickle.loads(pickle.dumps(model)).half(),  # noqa: S301 - our own bytes
}


def updates(model: nn.Module) -> list[Tensor]:
    """The weight update of every adapted layer."""
    if isinstance(model, AdaptedEdge):
        layers = model.lora_gen.generator(torch.linspace(-1, 1, 256).expand(1, 2, 256)).layers
        return [(factors.b @ factors.a).detach() for layer in layers for factors in layer.values()]
    return [
        layer.get_delta_weight("default").detach() for layer in model.modules() if hasattr(layer, "get_delta_weight")
    ]


@pytest.mark.parametrize("cast", CASTS)
@pytest.mark.parametrize("expression", [*EXPRESSIONS, "lora_gen(r=4)"])
def test_updates_survive_a_cast(expression: str, cast: str) -> None:
    model = adapted(expression, EXPRESSIONS.get(expression, "llama"))
    before = updates(model)
    after = updates(CASTS[cast](model))
    assert len(before) == len(after) > 0
    for old, new in zip(before, after, strict=True):
        assert old.norm() > 0
        assert (new.float() - old).norm() < 0.01 * old.norm()


def test_a_cast_model_runs_in_the_lower_precision_and_near_the_uncast_one() -> None:
    model = adapted("loca", "bert")
    ids = torch.tensor([PROMPT])
    expected = model(input_ids=ids).logits
    found = model.bfloat16()(input_ids=ids).logits
    assert found.dtype == torch.bfloat16
    assert model.get_base_model().bert.encoder.layer[0].output.dense.weight.dtype == torch.bfloat16
    assert (found.float() - expected).norm() < 0.05 * expected.norm()


def test_locations_of_float64_are_not_lowered_either() -> None:
    model = adapted("loca(n_frequency=20)", "bert").double()
    before = updates(model)
    assert {update.dtype for update in before} == {torch.float64}
    for old, new in zip(before, updates(model.half()), strict=True):
        torch.testing.assert_close(new, old, rtol=0, atol=0)


def test_a_merged_edge_that_was_cast_gets_its_weights_back_in_the_new_precision() -> None:
    model = adapted("lora_gen(r=4)", "llama")
    weight = model.lora_gen.edge.model.layers[0].mlp.up_proj.base_layer.weight.detach().clone()
    model.merge_adapter(PROMPT)
    model.bfloat16().unmerge_adapter()
    found = model.lora_gen.edge.model.layers[0].mlp.up_proj.base_layer.weight
    assert torch.equal(found, weight.bfloat16())
