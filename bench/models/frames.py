"""A model of images that is given clips: it sees frame by frame, and a clip's logits are the mean of its frames'."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.modeling_outputs import ImageClassifierOutput


def read_clips(model: PreTrainedModel) -> PreTrainedModel:
    """Make a model of images take clips as well, in place: its modules and their names stay as they are."""
    kind = type(model)
    model.__class__ = type(kind.__name__, (_OverFrames, kind), {"__module__": kind.__module__})
    return model


class _OverFrames:
    """The forward pass over the frames of clips, before that of a model of images."""

    def forward(self, pixel_values: torch.Tensor, **named: Any) -> Any:
        """Return the logits of clips, (batch, labels); or what the model returns for pictures.

        Args:
            pixel_values: clips of shape (batch, frames, channels, height, width), or pictures without frames.
            named: the model's further inputs.
        """
        forward = super().forward  # type: ignore[misc]
        if pixel_values.dim() != 5:
            return forward(pixel_values=pixel_values, **named)
        logits = forward(pixel_values=pixel_values.flatten(0, 1), **named).logits
        return ImageClassifierOutput(logits=logits.unflatten(0, pixel_values.shape[:2]).mean(dim=1))
