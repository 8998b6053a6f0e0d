"""The forward and the backward pass of models with LoCA, and their plain twins."""

from __future__ import annotations

import copy
from collections.abc import Callable

from peft import PeftModel
from torch import Tensor, nn

from parbench.methods.loca import LocaLayer
from tests.support.loca_reference import RankProductLinear, use_reference

# Builds a model with an adapter.
Build = Callable[..., PeftModel]


def layers(model: nn.Module) -> list[LocaLayer]:
    """Return the adapted layers of a model."""
    return [module for module in model.modules() if isinstance(module, LocaLayer)]


def run(model: nn.Module, ids: Tensor) -> dict[str, Tensor]:
    """Return the logits, the gradient of the embeddings' output, and all parameters' gradients."""
    model.zero_grad()
    inputs = model.get_input_embeddings()(ids).detach().requires_grad_()
    logits = model(inputs_embeds=inputs).logits
    logits.float().square().mean().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {"logits": logits.detach(), "inputs": inputs.grad} | gradients


def plain(model: PeftModel, layer_type: type[RankProductLinear] = RankProductLinear) -> PeftModel:
    """Return a copy of a model with plain layers."""
    reference = copy.deepcopy(model)
    use_reference(reference, layer_type)
    return reference
