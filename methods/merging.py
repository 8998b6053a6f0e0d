"""Merging adapters into the weights of a base model, with heads that peft cannot unload."""

from __future__ import annotations

from peft.utils import ModulesToSaveWrapper
from torch import nn


def unwrap_heads(model: nn.Module) -> None:
    """Replace peft's wrappers of heads by the trained heads, as merging does.

    peft (0.21) fails to do so for most tuners if a head has several layers, like RoBERTa's or the connector of a model
    that sees images: it looks up its weight.
    """
    for name, module in list(model.named_modules()):
        if isinstance(module, ModulesToSaveWrapper):
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, module.modules_to_save[module.active_adapters[0]])
