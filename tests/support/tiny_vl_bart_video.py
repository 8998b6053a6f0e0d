"""VL-BART over given features, of random weights and small enough for every test, with its processor."""

from __future__ import annotations

from pathlib import Path

import torch

from parbench.bench.models.vl_bart_video import (
    VlBartVideoConfig,
    VlBartVideoForConditionalGeneration,
    VlBartVideoProcessor,
)
from parbench.methods.testing.models import STD, TensorRow, TinyModel
from tests.support.tiny_llama import byte_tokenizer
from tests.support.tiny_vl_bart import VOCABULARY, tiny_bart
from tests.support.value_files import SIZE

BOXES = 4


def tiny_vl_bart_video(std: float = 0.5) -> VlBartVideoForConditionalGeneration:
    """Return a model of one layer that knows nothing, but whose outputs depend on the features."""
    config = VlBartVideoConfig(text_config=tiny_bart(std, 512), feature_size=SIZE, boxes=BOXES, initializer_range=std)
    return VlBartVideoForConditionalGeneration(config).eval()


def vl_bart_video_processor() -> VlBartVideoProcessor:
    """Return a processor whose tokens are bytes."""
    return VlBartVideoProcessor(byte_tokenizer(), SIZE, BOXES)


def vl_bart_video_folder(folder: Path) -> Path:
    """Save the model beside its processor."""
    torch.manual_seed(0)
    tiny_vl_bart_video().save_pretrained(folder)
    vl_bart_video_processor().save_pretrained(folder)
    return folder


class TinyVlBartVideo(TinyModel):
    """For the checks of methods: the model with rows of prompts, features and words."""

    def rows(self, count: int) -> list[TensorRow]:
        """Return training examples, the same at every call."""
        generator = torch.Generator().manual_seed(1)
        rows = []
        for _ in range(count):
            ids, words = (torch.randint(3, VOCABULARY, (8,), generator=generator) for _ in range(2))
            seen = torch.randn((1, BOXES, SIZE), generator=generator)
            inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "features": seen}
            rows.append({**inputs, "decoder_input_ids": words, "labels": words})
        return rows


TINY_VL_BART_VIDEO = TinyVlBartVideo(
    "vl_bart_video", "an encoder and a decoder that are given features", lambda: tiny_vl_bart_video(STD)
)
