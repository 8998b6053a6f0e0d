"""VL-BART over given features of a video: one per segment, pooled or filled up to as many "boxes".

Sung et al., 2022 (VL-Adapter, arXiv 2112.06825): CLIP ViT-B/32's feature of a frame per 1.5 seconds, 64 boxes. There is
no image model in it: features are computed once, or are the publishers' own. As in the published code, boxes that fill
up a short video are zeros that the encoder sees like any other; for what differs see `parbench.bench.models.vl_bart`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch.nn import functional
from transformers import (
    AutoConfig,
    AutoModelForSeq2SeqLM,
    AutoProcessor,
    BartConfig,
    BartForConditionalGeneration,
    PreTrainedConfig,
    ProcessorMixin,
)
from transformers.configuration_utils import SubConfigSpec
from transformers.modeling_outputs import Seq2SeqLMOutput

from parbench.bench.models.vl_bart import OverFeatures, VisualEmbedding, take_tokens


class VlBartVideoConfig(PreTrainedConfig):
    """BART's configuration, and what it is given of a video.

    Attributes:
        feature_size: numbers of a segment's feature.
        boxes: features that a video's are pooled or filled up to.
        images: videos of an example.
    """

    model_type = "vl_bart_video"
    is_encoder_decoder = True
    sub_configs_defaults: ClassVar[dict[str, SubConfigSpec]] = {
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="bart"),
    }

    text_config: dict[str, Any] | PreTrainedConfig | None = None
    feature_size: int = 512
    boxes: int = 64
    images: int = 1
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        take_tokens(self, cast(BartConfig, self.text_config))


class VlBartVideoForConditionalGeneration(OverFeatures):
    """BART with a visual embedding of given features."""

    config_class = VlBartVideoConfig

    def __init__(self, config: VlBartVideoConfig) -> None:
        super().__init__(config)
        self.visual_embedding = VisualEmbedding(config)
        self.language_model = BartForConditionalGeneration(cast(BartConfig, config.text_config))
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        features: torch.Tensor,
        decoder_input_ids: torch.Tensor,
        **kwargs: Any,
    ) -> Seq2SeqLMOutput:
        """Return the logits of the words after each of ``decoder_input_ids``.

        Args:
            input_ids: the prompts, of shape (batch, tokens).
            attention_mask: where they are not padding.
            features: of shape (batch, videos, boxes, numbers).
            decoder_input_ids: of shape (batch, words).
            kwargs: further arguments of BART.
        """
        read = self.read(input_ids, attention_mask, *self._visual_inputs(features))
        return self.answered(*read, decoder_input_ids, **kwargs)

    @torch.no_grad()
    def generate(  # type: ignore[override]
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, features: torch.Tensor, **decoding: Any
    ) -> torch.Tensor:
        """Return what BART writes, of shape (batch, words), the token that begins every text first."""
        return self.written(*self.read(input_ids, attention_mask, *self._visual_inputs(features)), **decoding)

    def _visual_inputs(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen = self.visual_embedding(features.to(self.visual_embedding.box_order.weight.dtype))
        return seen, seen.new_ones(seen.shape[:2], dtype=torch.bool)


class VlBartVideoProcessor(ProcessorMixin):
    """Prepares the features of videos, and texts for BART.

    Attributes:
        feature_size: numbers of a segment's feature.
        boxes: features that a video's are pooled or filled up to.
        decoder_start_token_id: begins every text that is written.
    """

    def __init__(
        self, tokenizer: Any = None, feature_size: int = 512, boxes: int = 64, decoder_start_token_id: int = 2
    ) -> None:
        self.feature_size, self.boxes = feature_size, boxes
        self.decoder_start_token_id = decoder_start_token_id
        super().__init__(tokenizer)

    def __call__(
        self,
        features: Sequence[np.ndarray] = (),
        text: Sequence[str] = (),
        **kwargs: Any,
    ) -> dict[str, torch.Tensor]:
        """Return ``input_ids``, ``attention_mask`` and ``features`` of shape (texts, 1, boxes, numbers).

        Args:
            features: of each text's video, of shape (segments, numbers).
            text: the texts.
            kwargs: arguments of the tokenizer.
        """
        encoded = self.tokenizer(list(text), **{**kwargs, "return_tensors": "pt"})
        pooled = torch.stack([in_boxes(torch.from_numpy(one), self.boxes) for one in features])
        return {**{name: encoded[name] for name in ("input_ids", "attention_mask")}, "features": pooled[:, None]}


def in_boxes(features: torch.Tensor, boxes: int) -> torch.Tensor:
    """Return the features of a video as so many: pooled to their largest values, or filled up with zeros.

    Args:
        features: of shape (segments, numbers).
        boxes: how many.
    """
    if len(features) <= boxes:
        return functional.pad(features, (0, 0, 0, boxes - len(features)))
    return functional.adaptive_max_pool1d(features.T, boxes).T


AutoConfig.register("vl_bart_video", VlBartVideoConfig)
AutoModelForSeq2SeqLM.register(VlBartVideoConfig, VlBartVideoForConditionalGeneration)
AutoProcessor.register(VlBartVideoConfig, VlBartVideoProcessor)
