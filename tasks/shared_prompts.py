"""Evaluates rows of a causal language model that begin alike, with what they share computed once.

The choices of a question share its prompt, and all rows share the examples of a few-shot prompt. Their keys and values
go into a cache that the rows continue from. The results are those of whole rows up to rounding.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import nn
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

# Below so many tokens a beginning that all rows share is not worth a pass of its own.
SHORTEST_HEAD = 16
# The most tokens to multiply, as a share of those of whole rows, with which sharing is worth its passes.
LARGEST_SHARE = 0.8
_ARGUMENTS = {"input_ids", "attention_mask", "position_ids", "past_key_values", "use_cache"}


def shares_prompts(model: nn.Module) -> bool:
    """Return whether a model can continue from keys and values of another pass.

    It must be a transformers model, adapted by peft or not, whose cache grows by a position per token. Prompt learning
    fills the cache itself, and sliding windows and recurrent states cannot be shared by rows of different length.
    """
    configs = getattr(model, "peft_config", {}).values()
    inner = model.get_base_model() if configs else model  # type: ignore[operator]
    if any(config.is_prompt_learning for config in configs) or not isinstance(inner, PreTrainedModel):
        return False
    if inner.config.is_encoder_decoder or inner._is_stateful:
        return False
    layers = DynamicCache(config=inner.config).layers
    arguments = inspect.signature(inner.forward).parameters
    return arguments.keys() >= _ARGUMENTS and all(type(layer) is DynamicLayer for layer in layers)


@dataclass
class Context:
    """What the next tokens of some rows attend to.

    Attributes:
        model: the model.
        mask: int64 (rows, positions), 0 where a position is padding.
        cache: the keys and values at these positions.
    """

    model: nn.Module
    mask: torch.Tensor
    cache: DynamicCache

    @classmethod
    def of(cls, model: nn.Module, tokens: Sequence[int], device: torch.device) -> Self:
        """Return the context of one row, which may be empty."""
        context = cls(model, torch.zeros((1, 0), dtype=torch.int64, device=device), DynamicCache())
        if tokens:
            context.read([tokens])
        return context

    def copies(self, rows: int) -> Context:
        """Return a context of so many rows from that of one."""
        cache = copy.deepcopy(self.cache)
        cache.batch_repeat_interleave(rows)
        return Context(self.model, self.mask.expand(rows, -1), cache)

    def select(self, rows: torch.Tensor) -> None:
        """Keep these rows only, each as often as it is named."""
        self.mask = self.mask[rows]
        self.cache.batch_select_indices(rows)

    def read(self, tokens: Sequence[Sequence[int]]) -> torch.Tensor:
        """Continue each row by some tokens, and return their logits, of shape (rows, most tokens, vocabulary)."""
        ids, new = padded(tokens, self.mask.device)
        # Padding repeats the last position: there may be none behind it.
        positions = (self.mask.sum(1, keepdim=True) + new.cumsum(1) - 1).clamp(min=0)
        self.mask = torch.cat((self.mask, new), 1)
        outputs = self.model(
            input_ids=ids,
            attention_mask=self.mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
        )
        logits: torch.Tensor = outputs.logits
        return logits


def padded(rows: Sequence[Sequence[int]], device: torch.device, value: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows padded on the right, and a mask, both int64 of shape (rows, most tokens)."""
    longest = max(map(len, rows))
    filled = torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows], dtype=torch.int64)
    lengths = torch.tensor([len(row) for row in rows])
    return filled.to(device), (torch.arange(longest) < lengths[:, None]).long().to(device)


class Continuation(NamedTuple):
    """What follows a prompt.

    Attributes:
        place: of its row.
        ids: its tokens.
        labels: which of them count, and as what.
    """

    place: int
    ids: list[int]
    labels: list[int]


class Prompt(NamedTuple):
    """A prompt and what follows it in some rows."""

    ids: tuple[int, ...]
    continuations: list[Continuation]


def common_head(prompts: Sequence[Sequence[int]]) -> list[int]:
    """Return the tokens with which all prompts begin, if they are many; each prompt has another token behind them."""
    if len(prompts) < 2:
        return []
    # All begin as the first and the last of them in order do.
    first, last = min(map(tuple, prompts)), max(map(tuple, prompts))
    most = min(map(len, prompts)) - 1
    length = next((at for at in range(most) if first[at] != last[at]), most)
    return list(first[:length]) if length >= SHORTEST_HEAD else []


def by_prompt(rows: Sequence[tuple[list[int], list[int]]], ignored: int) -> list[Prompt] | None:
    """Return the rows by their prompts, which are the tokens before the first that counts.

    Returns:
        the longest prompts first; ``None`` where so little is shared that whole rows are cheaper.

    Args:
        rows: ids and labels of each.
        ignored: the label of tokens that do not count.
    """
    prompts: dict[tuple[int, ...], list[Continuation]] = {}
    for place, (ids, labels) in enumerate(rows):
        start = next((at for at, label in enumerate(labels) if label != ignored), 0)
        if start == 0:
            return None
        continuation = Continuation(place, ids[start:], labels[start:])
        prompts.setdefault(tuple(ids[:start]), []).append(continuation)
    head = len(common_head(list(prompts)))
    shared = head + sum(len(prompt) - head for prompt in prompts)
    shared += sum(len(one.ids) - 1 for found in prompts.values() for one in found)
    if shared > LARGEST_SHARE * sum(len(ids) for ids, _ in rows):
        return None
    return [Prompt(ids, prompts[ids]) for ids in sorted(prompts, key=len, reverse=True)]


def batches(prompts: Sequence[Prompt], rows: int) -> Iterator[list[Prompt]]:
    """Yield the prompts in batches of at most so many continuations; one with more is in several."""
    batch: list[Prompt] = []
    room = rows
    for ids, continuations in prompts:
        for start in range(0, len(continuations), rows):
            part = continuations[start : start + rows]
            if len(part) > room:
                yield batch
                batch, room = [], rows
            batch.append(Prompt(ids, part))
            room -= len(part)
    if batch:
        yield batch


def read_batch(head: Context, batch: Sequence[Prompt]) -> torch.Tensor:
    """Return the logits that predict each token of the continuations: (continuations, most tokens, vocabulary).

    Args:
        head: the context that all prompts begin with.
        batch: prompts with their continuations.
    """
    known, device = head.mask.shape[1], head.mask.device
    context = head.copies(len(batch)) if known else Context.of(head.model, [], device)
    if not known:
        context.mask = context.mask.expand(len(batch), -1)
    logits = context.read([prompt.ids[known:] for prompt in batch])
    ends = torch.tensor([len(prompt.ids) - known - 1 for prompt in batch], device=device)
    owners = torch.tensor([place for place, prompt in enumerate(batch) for _ in prompt.continuations], device=device)
    first = logits[torch.arange(len(batch), device=device), ends][owners][:, None]
    # Nothing is predicted behind the last token.
    following = [one.ids[:-1] for prompt in batch for one in prompt.continuations]
    if not any(following):
        return first
    context.select(owners)
    return torch.cat((first, context.read(following)), 1)
