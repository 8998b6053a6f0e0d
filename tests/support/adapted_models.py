"""Tiny models with adapters of our own methods, whose numbers are random."""

from __future__ import annotations

from typing import Any

import torch

from parbench.methods import find_method
from parbench.methods.architecture import module_names
from parbench.methods.testing.models import WIDER_MODELS

# Methods with the tiny model that each is applied to.
EXPRESSIONS = {
    "loca": "bert",
    "loca(n_frequency=30)": "gpt2",
    "fourierft_fast(n_frequency=200)": "bert",
    "replora(hidden=8)": "llama",
}
PROMPT = [5, 6, 7]


def adapted(expression: str, model: str) -> Any:
    """A model with an adapter whose numbers are random; 1 % of dW is far below what bfloat16 locations change."""
    base = WIDER_MODELS[model].build()
    found = find_method(expression)
    torch.manual_seed(0)
    result = found.method.adapt(base, module_names(base), found.method.setting_type(**found.values))
    with torch.no_grad():
        for name, parameter in result.named_parameters():
            if parameter.requires_grad and "locations" not in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return result.eval()
