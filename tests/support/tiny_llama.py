"""Causal language models small enough for every test: random Llamas over bytes, and over words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from parbench.tasks.inference import Predictor

SPECIAL = ("<pad>", "<s>", "</s>")
WORD_SPECIAL = ("[PAD]", "[END]", "[UNK]")


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer whose tokens are bytes, so that no text is unknown to it."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", model_max_length=4096
    )


def tiny_llama(seed: int = 0) -> LlamaForCausalLM:
    """Return a model of one layer that knows nothing."""
    torch.manual_seed(seed)
    size = len(SPECIAL) + 256
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        initializer_range=0.5,
    )
    return LlamaForCausalLM(config).eval()


def word_tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """Return a tokenizer whose tokens are padding, end, the unknown, and the words given."""
    vocabulary = {word: number for number, word in enumerate([*WORD_SPECIAL, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", eos_token="[END]", unk_token="[UNK]", model_max_length=64
    )


def tiny_word_llama(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Return a model of two layers over a tokenizer's words that knows nothing."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
        initializer_range=0.5,
    )
    return LlamaForCausalLM(config).eval()


def predictor_of(task: Any, model: Any = None, **changes: Any) -> Predictor:
    """Return a predictor with the tiny model, or another."""
    tokenizer = byte_tokenizer()
    values = {"batch_size": 4, "device": torch.device("cpu"), **changes}
    return Predictor(tiny_llama() if model is None else model, tokenizer, task.collate(tokenizer), **values)


class Scripted:
    """Stands for a predictor that writes given texts."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts
        self.processor = byte_tokenizer()
        self.decoding: dict[str, Any] = {}

    def generate(self, prompts: list[list[int]], **decoding: Any) -> list[list[int]]:
        """Return the texts as tokens."""
        assert len(prompts) == len(self.texts)
        self.decoding = decoding
        return [self.processor(text, add_special_tokens=False)["input_ids"] for text in self.texts]


def tiny_model_folder(folder: Path, model: Any) -> Path:
    """Save a model beside the tokenizer."""
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder
