"""How a text is decoded, where transformers' own way is not the one that papers report with."""

from __future__ import annotations

import torch
from transformers import LogitsProcessor, NoRepeatNGramLogitsProcessor


class NoRepeatAfterPrompt(LogitsProcessor):
    """Keeps a language model from writing an n-gram twice, and leaves it free to repeat what is in its prompt.

    transformers' ``no_repeat_ngram_size`` counts the prompt of a decoder as written text. Where a text must name what
    the prompt names, such as a restaurant of four tokens, that forbids the right answer.

    Args:
        size: tokens of an n-gram.
        start: tokens before the written text: those of the longest prompt of a batch that is padded on the left.
    """

    def __init__(self, size: int, start: int) -> None:
        self._inner = NoRepeatNGramLogitsProcessor(size)
        self._start = start

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return the scores of the next token, of shape (beams, vocabulary), repetitions at minus infinity.

        Args:
            input_ids: prompt and written text, of shape (beams, tokens).
            scores: of shape (beams, vocabulary).
        """
        return self._inner(input_ids[:, self._start :], scores)
