"""VL-BART: BART reads a text and the features of an image's grid, and writes the answer.

Cho et al., 2021 (arXiv 2102.02779), with the image features of Sung et al., 2022 (VL-Adapter, arXiv 2112.06825): the
last grid of a frozen CLIP ResNet-101, max-pooled to 6 x 6 "boxes" without coordinates. A trained visual embedding makes
an input of BART's encoder of each. Other than in the published code, the boxes' order has an embedding of its own in
place of rows of BART's vocabulary, and coordinates, which are all zero there, are not embedded.
"""

from __future__ import annotations

from typing import Any, ClassVar, cast

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForImageTextToText,
    AutoProcessor,
    BartConfig,
    BartForConditionalGeneration,
    GenerationMixin,
    PreTrainedConfig,
    PreTrainedModel,
    ProcessorMixin,
)
from transformers.configuration_utils import SubConfigSpec
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput


class VlBartConfig(PreTrainedConfig):
    """The configurations of both parts, and the sizes between them.

    Attributes:
        feature_size: channels of the image model's last grid.
        boxes: places that the grid is pooled to, a square number.
        images: most images of an example.
    """

    model_type = "vl_bart"
    is_encoder_decoder = True
    sub_configs_defaults: ClassVar[dict[str, SubConfigSpec]] = {
        "vision_config": SubConfigSpec(config_class=AutoConfig, model_type="timm_wrapper"),
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="bart"),
    }

    vision_config: dict[str, Any] | PreTrainedConfig | None = None
    text_config: dict[str, Any] | PreTrainedConfig | None = None
    feature_size: int = 2048
    boxes: int = 36
    images: int = 2
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        take_tokens(self, cast(BartConfig, self.text_config))


def take_tokens(config: PreTrainedConfig, bart: BartConfig) -> None:
    """Give a configuration BART's special tokens, and whether its word embeddings also write words."""
    config.is_encoder_decoder = True
    config.tie_word_embeddings = bart.tie_word_embeddings
    for name in ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"):
        setattr(config, name, getattr(bart, name))


class VisualEmbedding(nn.Module):
    """Makes an input of the encoder of each box: the sum of its feature, its image's number and its own."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        size = int(config.text_config.d_model)
        self.feature = nn.Sequential(nn.Linear(config.feature_size, size), nn.LayerNorm(size))
        self.image_order = nn.Embedding(config.images, size)
        self.box_order = nn.Embedding(config.boxes, size)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return inputs of shape (batch, images * boxes, width) of features (batch, images, boxes, channels)."""
        batch, images, boxes, _ = features.shape
        order = self.image_order.weight[:images, None] + self.box_order.weight[None, :boxes]
        return (self.feature(features) + order).reshape(batch, images * boxes, -1)


class VlBartPreTrainedModel(PreTrainedModel):
    """What loading needs to know."""

    base_model_prefix = "vl_bart"
    supports_gradient_checkpointing = True
    _supports_sdpa = True


class OverFeatures(VlBartPreTrainedModel, GenerationMixin):
    """BART with a visual embedding of features, wherever they are from; see its subclasses."""

    _tied_weights_keys = {  # noqa: RUF012 - of the class, as transformers has it
        "language_model.lm_head.weight": "language_model.model.shared.weight",
        "language_model.model.encoder.embed_tokens.weight": "language_model.model.shared.weight",
        "language_model.model.decoder.embed_tokens.weight": "language_model.model.shared.weight",
    }
    visual_embedding: VisualEmbedding
    language_model: BartForConditionalGeneration

    def get_input_embeddings(self) -> nn.Module:
        """Return BART's word embeddings as its encoder calls them: hooks on what only shares the weight never run."""
        return cast(nn.Module, self.language_model.get_encoder().embed_tokens)

    def get_output_embeddings(self) -> nn.Module:
        """Return the matrix that writes words."""
        return self.language_model.lm_head

    def answered(
        self, encoded: BaseModelOutput, mask: torch.Tensor, decoder_input_ids: torch.Tensor, **kwargs: Any
    ) -> Seq2SeqLMOutput:
        """Return the logits of the words after each of ``decoder_input_ids``, of shape (batch, words)."""
        return cast(
            Seq2SeqLMOutput,
            self.language_model(
                encoder_outputs=encoded,
                attention_mask=mask,
                decoder_input_ids=decoder_input_ids,
                **{**kwargs, "use_cache": False},
            ),
        )

    def written(self, encoded: BaseModelOutput, mask: torch.Tensor, **decoding: Any) -> torch.Tensor:
        """Return what BART writes, of shape (batch, words), the token that begins every text first."""
        bart = cast(Any, self.language_model)
        return cast(torch.Tensor, bart.generate(encoder_outputs=encoded, attention_mask=mask, **decoding))

    def read(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, seen: torch.Tensor, visible: torch.Tensor
    ) -> tuple[BaseModelOutput, torch.Tensor]:
        """Return the encoder's outputs for texts and what is seen, and the mask of both.

        Args:
            input_ids: the prompts, of shape (batch, tokens).
            attention_mask: where they are not padding.
            seen: inputs that the visual embedding has made, of shape (batch, places, width).
            visible: which of them there are, of shape (batch, places).
        """
        encoder = self.language_model.get_encoder()
        words = encoder.embed_tokens(input_ids)
        words = encoder.layernorm_embedding(words + encoder.embed_positions(words[:, :, -1]))
        states = torch.cat([words, seen.to(words.dtype)], dim=1)
        states = nn.functional.dropout(states, p=encoder.dropout, training=self.training)
        mask = torch.cat([attention_mask, visible.to(attention_mask.dtype)], dim=1)
        shown = create_bidirectional_mask(config=encoder.config, inputs_embeds=states, attention_mask=mask)
        for layer in encoder.layers:
            states = layer(states, shown)
        return BaseModelOutput(last_hidden_state=states), mask


class VlBartForConditionalGeneration(OverFeatures):
    """BART with a visual embedding of the features of a frozen image model."""

    config_class = VlBartConfig

    def __init__(self, config: VlBartConfig) -> None:
        super().__init__(config)
        self.vision_tower = AutoModel.from_config(config.vision_config)
        self.visual_embedding = VisualEmbedding(config)
        self.language_model = BartForConditionalGeneration(cast(BartConfig, config.text_config))
        side = round(config.boxes**0.5)
        self.pool = nn.AdaptiveMaxPool2d((side, side))
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        pixel_values: torch.Tensor,
        decoder_input_ids: torch.Tensor,
        **kwargs: Any,
    ) -> Seq2SeqLMOutput:
        """Return the logits of the words after each of ``decoder_input_ids``.

        Args:
            input_ids: the prompts, of shape (batch, tokens).
            attention_mask: where they are not padding.
            pixel_values: of shape (batch, images, channels, height, width); an image of zeros is none.
            decoder_input_ids: of shape (batch, words).
            kwargs: further arguments of BART.
        """
        read = self.read(input_ids, attention_mask, *self.visual_inputs(pixel_values))
        return self.answered(*read, decoder_input_ids, **kwargs)

    @torch.no_grad()
    def generate(  # type: ignore[override]
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, pixel_values: torch.Tensor, **decoding: Any
    ) -> torch.Tensor:
        """Return what BART writes, of shape (batch, words), the token that begins every text first."""
        return self.written(*self.read(input_ids, attention_mask, *self.visual_inputs(pixel_values)), **decoding)

    def visual_inputs(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the inputs that are made of images, and where there is an image."""
        batch, images = pixel_values.shape[:2]
        self.vision_tower.eval()  # the statistics of its norms do not follow the training
        with torch.no_grad():
            grid = self.vision_tower(pixel_values.flatten(0, 1), do_pooling=False).last_hidden_state
            features = self.pool(grid).flatten(2).transpose(1, 2)
        there = (pixel_values != 0).flatten(2).any(dim=2)
        seen = self.visual_embedding(features.unflatten(0, (batch, images)))
        return seen, there.repeat_interleave(features.shape[1], dim=1)


class VlBartProcessor(ProcessorMixin):
    """Prepares images for the image model and texts for BART; the text has no place for an image.

    Attributes:
        image_token: removed from texts.
        decoder_start_token_id: begins every text that is written.
    """

    image_token = "<image>"  # noqa: S105 - a mark in a text

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, decoder_start_token_id: int = 2) -> None:
        self.decoder_start_token_id = decoder_start_token_id
        super().__init__(image_processor, tokenizer)

    def __call__(self, images: Any = None, text: Any = None, **kwargs: Any) -> dict[str, torch.Tensor]:
        """Return ``input_ids``, ``attention_mask`` and ``pixel_values`` of shape (texts, images, channels, ...).

        Args:
            images: a list of images for each text, all of one length.
            text: the texts.
            kwargs: arguments of the tokenizer.
        """
        texts = [one.replace(self.image_token, "").strip("\n") for one in text]
        encoded = self.tokenizer(texts, **{**kwargs, "return_tensors": "pt"})
        pixels = [self.image_processor(several, return_tensors="pt")["pixel_values"] for several in images]
        names = ("input_ids", "attention_mask")
        return {**{name: encoded[name] for name in names}, "pixel_values": torch.stack(pixels)}


AutoConfig.register("vl_bart", VlBartConfig)
AutoModelForImageTextToText.register(VlBartConfig, VlBartForConditionalGeneration)
AutoProcessor.register(VlBartConfig, VlBartProcessor)
