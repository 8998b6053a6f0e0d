"""VL-BART of random weights, small enough for every test, with its processor."""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from transformers import BartConfig, BitImageProcessorPil, TimmWrapperConfig

from parbench.bench.models.vl_bart import VlBartConfig, VlBartForConditionalGeneration, VlBartProcessor
from parbench.methods.testing.models import STD, TensorRow, TinyModel
from tests.support.tiny_llama import byte_tokenizer

IMAGE_MODEL, SIDE = "test_resnet", 64
WIDTH, VOCABULARY = 64, 259


def tiny_bart(std: float, positions: int = 128) -> BartConfig:
    """Return a BART of one layer."""
    return BartConfig(
        vocab_size=VOCABULARY,
        d_model=WIDTH,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=WIDTH,
        decoder_ffn_dim=WIDTH,
        max_position_embeddings=positions,
        dropout=0.0,
        init_std=std,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=2,
        forced_eos_token_id=None,
    )


def tiny_vl_bart(std: float = 0.5, boxes: int = 4) -> VlBartForConditionalGeneration:
    """Return a model of one layer that knows nothing, but whose outputs depend on the image."""
    text = tiny_bart(std)
    vision = TimmWrapperConfig(architecture=IMAGE_MODEL, do_pooling=False)
    channels = timm.create_model(IMAGE_MODEL).num_features
    return VlBartForConditionalGeneration(
        VlBartConfig(vision_config=vision, text_config=text, feature_size=channels, boxes=boxes, initializer_range=std)
    ).eval()


def vl_bart_processor() -> VlBartProcessor:
    """Return a processor whose tokens are bytes."""
    images = BitImageProcessorPil(size={"height": SIDE, "width": SIDE}, do_center_crop=False)
    return VlBartProcessor(images, byte_tokenizer())


def vl_bart_folder(folder: Path) -> Path:
    """Save the model beside its processor."""
    torch.manual_seed(0)
    tiny_vl_bart().save_pretrained(folder)
    vl_bart_processor().save_pretrained(folder)
    return folder


class TinyVlBart(TinyModel):
    """For the checks of methods: the model with rows of prompts, an image and words."""

    def rows(self, count: int) -> list[TensorRow]:
        """Return training examples, the same at every call."""
        generator = torch.Generator().manual_seed(1)
        rows = []
        for _ in range(count):
            ids, words = (torch.randint(3, VOCABULARY, (8,), generator=generator) for _ in range(2))
            pixels = torch.randn((1, 3, 32, 32), generator=generator)
            inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}
            rows.append({**inputs, "decoder_input_ids": words, "labels": words})
        return rows


TINY_VL_BART = TinyVlBart("vl_bart", "an encoder and a decoder that see images", lambda: tiny_vl_bart(STD))
