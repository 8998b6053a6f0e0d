"""Logits of a language model only where a label counts.

The product with a vocabulary of 50,000 costs as much as several layers, and an answer of two tokens behind a prompt of
fifty needs three of its rows. Loss and gradient are those of all logits up to rounding.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel

from parbench.tasks.inference import IGNORED

# transformers' name of the places at which a model computes logits.
KEPT = "logits_to_keep"


def computes_some_logits(model: nn.Module) -> bool:
    """Return whether an adapted model can compute logits at some places alone, which are then those of its input."""
    if isinstance(model, PeftModel):
        # Trained prompts stand before the input and move its places.
        if any(config.is_prompt_learning for config in model.peft_config.values()):
            return False
        model = model.get_base_model()
    return isinstance(model, PreTrainedModel) and KEPT in inspect.signature(model.forward).parameters


def counted_alone(inputs: dict[str, Any], labels: torch.Tensor) -> tuple[dict[str, Any], torch.Tensor]:
    """Return the inputs and labels with which the logits are those that the loss counts.

    Args:
        inputs: of the model.
        labels: of shape (rows, tokens), not shifted.

    Returns:
        The inputs with a mask of the places before each label that counts, and of one more; the model's logits are then
        of shape (places, vocabulary). And labels of shape (1, places), the first of which does not count, as
        `parbench.tasks.kinds.language_model.next_token_loss` takes them beside logits of shape (1, places, vocabulary).
        Both are unchanged where no label counts.
    """
    counted = labels[:, 1:] != IGNORED
    if not counted.any():
        return inputs, labels
    mask = torch.zeros(labels.shape, dtype=torch.bool, device=labels.device)
    mask[:, :-1] = counted
    # The loss leaves out what is predicted behind the last token: here that of the last place that counts.
    mask.view(-1)[mask.view(-1).nonzero()[-1] + 1] = True
    wanted = labels[:, 1:][counted]
    return {**inputs, KEPT: mask}, torch.cat([wanted.new_full((1,), IGNORED), wanted])[None]
