"""A language model that sees images, small enough for every test: random LLaVA over bytes, with its processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    BitImageProcessorPil,
    Dinov2Config,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from parbench.tasks.inference import Predictor
from tests.support.tiny_llama import byte_tokenizer, tiny_llama

SIDE, PATCH = 8, 4
PLACES = (SIDE // PATCH) ** 2  # tokens of an image
IMAGE = "<image>"


def vlm_processor(chat_template: str | None = None) -> LlavaProcessor:
    """Return a processor whose tokens are bytes, and one that stands for an image."""
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE]})
    images = BitImageProcessorPil(size={"height": SIDE, "width": SIDE}, do_center_crop=False)
    return LlavaProcessor(
        images,
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        chat_template=chat_template,
        num_additional_image_tokens=1,
    )


def tiny_vlm(seed: int = 0) -> LlavaForConditionalGeneration:
    """Return a model that knows nothing, but whose outputs depend on the image."""
    processor = vlm_processor()
    text = tiny_llama().config
    text.vocab_size = len(processor.tokenizer)
    vision = Dinov2Config(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        mlp_ratio=2,
        image_size=SIDE,
        patch_size=PATCH,
        initializer_range=0.5,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=processor.tokenizer.convert_tokens_to_ids(IMAGE),
        image_seq_length=PLACES,
        vision_feature_layer=-1,
        initializer_range=0.5,
    )
    torch.manual_seed(seed)
    return LlavaForConditionalGeneration(config).eval()


def vlm_folder(folder: Path) -> Path:
    """Save the model beside its processor."""
    tiny_vlm().save_pretrained(folder)
    vlm_processor().save_pretrained(folder)
    return folder


def predictor_of(task: Any, model: Any = None, processor: Any = None, **changes: Any) -> Predictor:
    """Return a predictor with the tiny model, or another."""
    processor = processor or vlm_processor()
    values = {"batch_size": 4, "device": torch.device("cpu"), **changes}
    return Predictor(tiny_vlm() if model is None else model, processor, task.collate(processor), **values)
