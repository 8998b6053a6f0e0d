"""torchvision's Video Swin with projections that can be replaced.

torchvision multiplies by the weights of its projections and does not call them. An adapter in the place of a projection
would not take part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torchvision.models.swin_transformer import SwinTransformerBlock
from torchvision.models.video.swin_transformer import (
    ShiftedWindowAttention3d,
    SwinTransformer3d,
    shifted_window_attention_3d,
)
from transformers.modeling_layers import GradientCheckpointingLayer


def network(config: Any) -> SwinTransformer3d:
    """Return the network of a `parbench.bench.models.video_swin.VideoSwinConfig`, with random weights."""
    return SwinTransformer3d(
        patch_size=list(config.patch_size),
        embed_dim=config.embed_dim,
        depths=list(config.depths),
        num_heads=list(config.num_heads),
        window_size=list(config.window_size),
        stochastic_depth_prob=config.stochastic_depth,
        num_classes=config.num_labels,
        block=_Block,
    )


class _Block(GradientCheckpointingLayer, SwinTransformerBlock):
    """torchvision's block with an attention that calls its projections; it can be computed again in backward passes."""

    def __init__(self, *arguments: Any, attn_layer: type[nn.Module], **named: Any) -> None:
        super().__init__(*arguments, attn_layer=_Attention, **named)


class _Attention(ShiftedWindowAttention3d):
    """torchvision's attention within shifted windows, which calls its projections."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the attention's output.

        Args:
            x: shape (batch, frames, height, width, channels).
        """
        sizes = x.shape[1:4]
        # A window is never larger than the input, and where it is all of it, nothing is shifted.
        window = [min(size, width) for size, width in zip(sizes, self.window_size, strict=True)]
        shift = [
            0 if size <= width else by for size, width, by in zip(sizes, self.window_size, self.shift_size, strict=True)
        ]
        return shifted_window_attention_3d(
            x,
            _Called(self.qkv),
            _Called(self.proj),
            self.get_relative_position_bias(window),
            window,
            self.num_heads,
            shift_size=shift,
            attention_dropout=self.attention_dropout,
            dropout=self.dropout,
            training=self.training,
        )


class _Called:
    """Stands for the weight of a projection: where an input is multiplied by it, the projection is called."""

    def __init__(self, projection: nn.Module) -> None:
        self._projection = projection

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        inputs, called, *biases = args
        if function is not functional.linear or kwargs or any(bias is not None for bias in biases):
            raise TypeError(f"torchvision uses a projection's weight in {function}, and this version is not known")
        return called._projection(inputs)
