"""Decoding rules that papers report with and transformers does not have."""

from __future__ import annotations

import torch
from transformers import LogitsProcessor, NoRepeatNGramLogitsProcessor


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
