"""Tiny base models with random weights, one per kind of layer that methods adapt."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Dinov2Config,
    GPT2Config,
    GPT2ForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedModel,
    ViTConfig,
    ViTForImageClassification,
)

WIDTH = 64
# For methods with blocks wider than that.
WIDER = 256
LABELS = 3
TOKENS = 8
VOCABULARY = 96
# Five times the usual value, with which the attention of so narrow a model is nearly uniform, so that an adapter on the
# queries has almost no effect.
STD = 0.1

TensorRow = dict[str, Tensor]


@dataclass(frozen=True)
class TinyModel:
    """A small base model with inputs for it.

    Attributes:
        name: its name in reports.
        kind: description of its layers.
        make: builds the model; called once, after torch's generator was seeded.
    """

    name: str
    kind: str
    make: Callable[[], PreTrainedModel]

    def build(self, dtype: torch.dtype = torch.float32, device: str = "cpu") -> PreTrainedModel:
        """Return a new copy of the model, with the same weights at every call."""
        return copy.deepcopy(_template(self)).to(device=device, dtype=dtype)

    def rows(self, count: int) -> list[TensorRow]:
        """Return training examples, the same at every call: inputs and ``labels``, without a batch dimension."""
        model = self.build().eval()
        generator = torch.Generator().manual_seed(1)
        rows = [_inputs(model, generator) for _ in range(count)]
        with torch.no_grad():
            scores_tokens = model(**as_batch(rows[:1])).logits.ndim == 3
        for number, row in enumerate(rows):
            row["labels"] = row["input_ids"] if scores_tokens else torch.tensor(number % model.config.num_labels)
        return rows


@cache
def _template(tiny: TinyModel) -> Any:
    torch.manual_seed(0)
    model = tiny.make()
    with torch.no_grad():
        for parameter in model.parameters():
            # With biases of zero, an adapter that drops or scales them would not be noticed.
            if parameter.ndim == 1:
                parameter.add_(STD * torch.randn_like(parameter))
    return model


def as_batch(rows: list[TensorRow]) -> TensorRow:
    """Stack rows."""
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def in_precision(batch: TensorRow, model: nn.Module) -> TensorRow:
    """Return a batch with pixels in the precision of a model's first layer, as autocast has them."""
    dtype = next(parameter.dtype for parameter in model.parameters())
    return {name: tensor.to(dtype) if name == "pixel_values" else tensor for name, tensor in batch.items()}


def loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy: of classes, or of the next token where there is a label for every token.

    Args:
        logits: shape (batch, classes), or (batch, tokens, vocabulary); a prompt in front of the tokens is ignored.
        labels: shape (batch,), or (batch, tokens).
    """
    if labels.ndim == 2:
        logits, labels = logits[:, -labels.shape[1] : -1].flatten(0, 1), labels[:, 1:].flatten()
    return functional.cross_entropy(logits.float(), labels)


@torch.no_grad()
def outputs(model: nn.Module, rows: list[TensorRow]) -> Tensor:
    """Return the logits in evaluation mode: shape (batch, classes), or (batch, tokens, vocabulary)."""
    batch = in_precision(as_batch(rows), model)
    labels = batch.pop("labels")
    logits = model.eval()(**batch).logits.float()
    return logits[:, -labels.shape[1] :] if labels.ndim == 2 else logits


def _inputs(model: PreTrainedModel, generator: torch.Generator) -> TensorRow:
    config = model.config
    if (image := getattr(config, "image_token_id", None)) is not None:
        vision = config.vision_config
        places = torch.full(((vision.image_size // vision.patch_size) ** 2,), image)
        # The last token of the vocabulary is the image's.
        text = torch.randint(2, config.text_config.vocab_size - 1, (TOKENS,), generator=generator)
        ids = torch.cat([places, text])
        pixels = torch.randn((vision.num_channels, vision.image_size, vision.image_size), generator=generator)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}
    if model.main_input_name == "pixel_values":
        frames = (config.num_frames,) if hasattr(config, "num_frames") else ()
        size = (*frames, config.num_channels, config.image_size, config.image_size)
        return {"pixel_values": torch.randn(size, generator=generator)}
    # From 2 on: lower values are special tokens.
    ids = torch.randint(2, config.vocab_size, (TOKENS,), generator=generator)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _shape(width: int) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "initializer_range": STD,
        "vocab_size": VOCABULARY,
        "num_labels": LABELS,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 0,
    }


def _bert(width: int) -> PreTrainedModel:
    return BertForSequenceClassification(
        BertConfig(**_shape(width), intermediate_size=2 * width, max_position_embeddings=64)
    )


def _gpt2(width: int) -> PreTrainedModel:
    return GPT2ForSequenceClassification(GPT2Config(**_shape(width), n_inner=2 * width, n_positions=64))


def _llama(width: int, tied: bool = False) -> PreTrainedModel:
    return LlamaForCausalLM(
        LlamaConfig(
            # Without a padding token, whose row of the tied matrix would be zero.
            **(_shape(width) | {"pad_token_id": None if tied else 0}),
            intermediate_size=2 * width,
            num_key_value_heads=2,
            max_position_embeddings=64,
            tie_word_embeddings=tied,
        )
    )


def _vit(width: int) -> PreTrainedModel:
    return ViTForImageClassification(
        ViTConfig(**_shape(width), intermediate_size=2 * width, image_size=8, patch_size=4)
    )


def _llava(width: int) -> PreTrainedModel:
    """Return a model whose vision tower and language model have projections of the same names."""
    vision = Dinov2Config(
        hidden_size=width // 2,
        num_hidden_layers=2,
        num_attention_heads=4,
        mlp_ratio=2,
        image_size=8,
        patch_size=4,
        initializer_range=STD,
    )
    text = _llama(width).config
    return LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=vision,
            text_config=text,
            image_token_index=VOCABULARY - 1,
            vision_feature_layer=-1,
            initializer_range=STD,  # type: ignore[call-arg]  # of every configuration, though not of this signature
        )
    )


def _tiny_models(width: int) -> dict[str, TinyModel]:
    return {
        tiny.name: tiny
        for tiny in (
            TinyModel("bert", "an encoder with nn.Linear", partial(_bert, width)),
            TinyModel("gpt2", "a decoder with Conv1D, whose weights are transposed", partial(_gpt2, width)),
            TinyModel("llama", "a causal language model with fewer key than query heads", partial(_llama, width)),
            TinyModel("vit", "an image encoder", partial(_vit, width)),
        )
    }


IMAGE_TEXT_MODEL = TinyModel("llava", "a language model that sees images", partial(_llava, WIDTH))
TIED_MODEL = TinyModel("tied llama", "a language model with tied embeddings", partial(_llama, WIDTH, tied=True))
TINY_MODELS: dict[str, TinyModel] = _tiny_models(WIDTH)
WIDER_MODELS: dict[str, TinyModel] = _tiny_models(WIDER)
