"""Decoding rules that papers report with and transformers does not have, and those of a checkpoint set aside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig, LogitsProcessor, NoRepeatNGramLogitsProcessor

from parbench.bench.util.errors import DivergedError

# What a checkpoint's defaults say of its tokens, and not of how they are chosen.
_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")


@contextmanager
def own_defaults_aside(model: nn.Module) -> Iterator[None]:
    """Let language models generate inside the block by the given arguments alone.

    transformers takes what is not given from a checkpoint's ``generation_config``: many chat models bring a repetition
    penalty, which would make another text of a greedy search, and one that an answer with the numbers of its question
    suffers from. Models with an encoder keep theirs, which name the token that a text begins with.
    """
    modules: list[Any] = [module for module in model.modules() if "generation_config" in vars(module)]
    kept = [
        (module, module.generation_config)
        for module in modules
        if module.generation_config is not None and not module.config.is_encoder_decoder
    ]
    for module, own in kept:
        module.generation_config = GenerationConfig(**{name: getattr(own, name) for name in _TOKENS})
    try:
        yield
    finally:
        for module, own in kept:
            module.generation_config = own


class MustBeFinite(LogitsProcessor):
    """Ends a generation from scores that are not finite, of which the first token of the vocabulary would be chosen.

    Minus infinity is a score: that of a token that another processor forbids.
    """

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return the scores as they are, of shape (rows, vocabulary).

        Raises:
            DivergedError: one is not a number, or infinite.
        """
        if not bool((scores < torch.inf).all()):
            raise DivergedError("the trained model's outputs are not finite")
        return scores


class NoRepeatAfterPrompt(LogitsProcessor):
    """Keeps a language model from generating an n-gram twice, but allows n-grams of the prompt.

    transformers' ``no_repeat_ngram_size`` counts the prompt of a decoder as generated text. If an answer must repeat a
    name from the prompt, such as a restaurant of four tokens, that forbids the right answer.

    Args:
        size: tokens of an n-gram.
        start: tokens before the generated text: the longest prompt's in a batch padded on the left.
    """

    def __init__(self, size: int, start: int) -> None:
        self._inner = NoRepeatNGramLogitsProcessor(size)
        self._start = start

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return the scores of the next token, of shape (beams, vocabulary), repetitions at minus infinity.

        Args:
            input_ids: prompt and generated text, of shape (beams, tokens).
            scores: of shape (beams, vocabulary).
        """
        return self._inner(input_ids[:, self._start :], scores)
