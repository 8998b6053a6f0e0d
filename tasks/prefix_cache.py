"""Keeps the keys and values of beginnings that prompts have in common, for prompts that come one after the other.

The prompts of a judge begin with the same instructions. For prompts that are known together, see
`parbench.tasks.shared_prompts`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel

# Tokens per pass over a beginning: only whole blocks are shared.
BLOCK = 32
# The most beginnings that are kept; a judge has a prompt per turn and kind of question.
MOST = 4


class PrefixCache:
    """Keys and values of beginnings of earlier prompts.

    Every prompt is read in the same blocks, known or not. What is computed for it does therefore not depend on the
    prompts before it, not even by rounding.

    Args:
        model: one that `parbench.tasks.shared_prompts.shares_prompts`, without an adapter.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        # Without its head: no token of a block is predicted.
        self._backbone: Any = model.base_model
        # By their first block, the least recently used first.
        self._kept: dict[tuple[int, ...], tuple[list[int], DynamicCache]] = {}

    def begin(self, ids: Sequence[int]) -> DynamicCache:
        """Return the keys and values of all whole blocks of a prompt that leave one of its tokens to be read."""
        whole = list(ids[: (len(ids) - 1) // BLOCK * BLOCK])
        if not whole:
            return DynamicCache()
        first = tuple(whole[:BLOCK])
        known, cache = self._kept.pop(first, ([], DynamicCache()))
        equal = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(known, whole, strict=False)))
        common = equal // BLOCK * BLOCK
        cache.crop(common - len(known))
        for start in range(common, len(whole), BLOCK):
            self._read(whole[start : start + BLOCK], start, cache)
        begun = copy.deepcopy(cache)
        # Of the first prompt everything may be common, of the following ones only what was.
        kept = whole[:common] if known else whole
        cache.crop(len(kept) - len(whole))
        self._kept[first] = (kept, cache)
        if len(self._kept) > MOST:
            del self._kept[next(iter(self._kept))]
        return begun

    def _read(self, block: list[int], start: int, cache: DynamicCache) -> None:
        device = self._backbone.device
        end = start + len(block)
        self._backbone(
            input_ids=torch.tensor([block], device=device),
            attention_mask=torch.ones((1, end), dtype=torch.int64, device=device),
            position_ids=torch.arange(start, end, device=device)[None],
            past_key_values=cache,
            use_cache=True,
        )
