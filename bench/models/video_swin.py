"""Video Swin (Liu et al., 2021, arXiv 2106.13230) as transformers has models; the network is torchvision's.

Importing this module makes the architecture known to transformers' auto classes, under the name of `VideoSwinConfig`.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForVideoClassification, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import ImageClassifierOutput

from parbench.bench.util.errors import UserError


class VideoSwinConfig(PreTrainedConfig):
    """Sizes of a Video Swin; the defaults are torchvision's ``swin3d_t``."""

    model_type = "video_swin"

    image_size: int = 224
    num_frames: int = 32
    num_channels: int = 3
    patch_size: list[int] | tuple[int, ...] = (2, 4, 4)
    embed_dim: int = 96
    depths: list[int] | tuple[int, ...] = (2, 2, 6, 2)
    num_heads: list[int] | tuple[int, ...] = (3, 6, 12, 24)
    window_size: list[int] | tuple[int, ...] = (8, 7, 7)
    stochastic_depth: float = 0.1
    initializer_range: float = 0.02

    @property
    def num_hidden_layers(self) -> int:
        """Number of transformer blocks."""
        return sum(self.depths)

    @property
    def hidden_size(self) -> int:
        """Width of the last blocks."""
        return self.embed_dim * 2 ** (len(self.depths) - 1)


class VideoSwinForVideoClassification(PreTrainedModel):
    """A Video Swin with a classifier on the mean over all places and times."""

    config_class = VideoSwinConfig
    base_model_prefix = "swin"
    main_input_name = "pixel_values"
    supports_gradient_checkpointing = True

    def __init__(self, config: VideoSwinConfig) -> None:
        super().__init__(config)
        try:
            from parbench.bench.models.video_swin_network import network
        except ImportError as error:
            raise UserError(f"Video Swin is torchvision's, and torchvision cannot be imported ({error})") from error
        self.swin = network(config)
        self.post_init()

    def forward(self, pixel_values: torch.Tensor, **ignored: Any) -> ImageClassifierOutput:
        """Return the logits of clips.

        Args:
            pixel_values: shape (batch, frames, channels, height, width).
            ignored: options that models of transformers have in common.
        """
        # torchvision has the channels before the frames.
        return ImageClassifierOutput(logits=self.swin(pixel_values.transpose(1, 2)))


AutoConfig.register(VideoSwinConfig.model_type, VideoSwinConfig)
AutoModelForVideoClassification.register(VideoSwinConfig, VideoSwinForVideoClassification)
