"""Greedy generation in which a row that has ended takes no further part.

transformers' ``generate`` computes the whole batch until its last row ends. Here it is called for a few tokens at a
time, and between the calls the rows that have ended leave the batch and its cache of keys and values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import DynamicCache

# Tokens per call. Preparing one takes about as long as one token of a small model.
AT_ONCE = 16
# With other options what a row gets may depend on the rows beside it, or on where it is in the batch.
_OPTIONS = {"max_new_tokens", "num_beams", "do_sample"}


def rows_may_leave(decoding: Mapping[str, Any]) -> bool:
    """Return whether rows may leave a batch under these arguments of ``generate``: in plain greedy search only."""
    if decoding.get("num_beams", 1) != 1 or decoding.get("do_sample") is not False:
        return False
    given = {name for name, value in decoding.items() if value is not None}
    return "max_new_tokens" in given and given <= _OPTIONS


def generate_greedily(
    model: Any,
    cache: DynamicCache,
    ids: torch.Tensor,
    mask: torch.Tensor,
    ends: list[int],
    pad: int,
    max_new_tokens: int,
    **decoding: Any,
) -> list[list[int]]:
    """Return the tokens that each row gets, up to the first of ``ends`` and with it.

    The model must have no defaults of its own (`parbench.tasks.decoding.own_defaults_aside`): some count the tokens
    of a call.

    Args:
        model: see `parbench.tasks.shared_prompts.shares_prompts`.
        cache: keys and values of the first positions, or empty; it is used up.
        ids: (rows, positions).
        mask: (rows, positions), 0 where a position is padding.
        ends: tokens that end a row.
        pad: fills the rows that have ended within a call.
        max_new_tokens: of each row.
        decoding: further arguments of ``generate``, as `rows_may_leave` allows them.
    """
    written: list[list[int]] = [[] for _ in ids]
    places = torch.arange(len(ids), device=ids.device)
    for start in range(0, max_new_tokens, AT_ONCE):
        before = ids.shape[1]
        found = model.generate(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=cache,
            pad_token_id=pad,
            eos_token_id=ends or None,
            max_new_tokens=min(AT_ONCE, max_new_tokens - start),
            **decoding,
            return_dict_in_generate=True,
        )
        ids, cache = found.sequences, found.past_key_values
        new = ids[:, before:]
        ended = torch.isin(new, torch.tensor(ends, dtype=new.dtype, device=new.device))
        for place, tokens, stops in zip(places.tolist(), new.tolist(), ended.tolist(), strict=True):
            written[place] += tokens[: stops.index(True) + 1] if True in stops else tokens
        going = (~ended.any(1)).nonzero()[:, 0]
        if not len(going):
            break
        mask = torch.cat((mask, torch.ones_like(new)), 1)
        ids, mask, places = ids[going], mask[going], places[going]
        cache.batch_select_indices(going)
    return written
