"""Splits a batch by length into several forward passes, so that less padding is multiplied.

The rows of a padded batch are sorted by length and cut into groups. Each group goes through the model by itself, padded
to its own longest row. The losses of the groups add up to the loss of the batch, so loss and gradient are those of one
pass up to rounding. Peak memory never rises, since a group is a part of the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

# The fixed cost of a further pass forward and backward (Python, small kernels, updates that a method builds once per
# pass), as the number of tokens that cost the same. See PERFORMANCE.md.
PASS_COST = 48
# The most passes of a batch on a CPU. On a GPU a pass costs the same for few tokens as for many: one, unless asked.
MOST_GROUPS = {"cpu": 4}
# The tensors with a column per token of the input. Others may have as many columns by chance: a system prompt, say.
_PER_TOKEN = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids", "labels")

Batch = dict[str, torch.Tensor]


def most_groups(asked: int | None, device: torch.device) -> int:
    """Return into how many passes a batch may be split: ``asked``, or what suits the device."""
    return MOST_GROUPS.get(device.type, 1) if asked is None else asked


def split_by_length(batch: Batch, most: int) -> Iterator[Batch]:
    """Yield the groups of a batch, the longest rows first; the batch itself where splitting it saves nothing.

    Only padding behind the tokens is cut off, as the attention mask shows it: what comes before them moves positions.

    Args:
        batch: tensors of shape (rows, ...); the columns of `_PER_TOKEN` are cut as well.
        most: number of groups at most.
    """
    mask = batch.get("attention_mask")
    # Labels of a decoder of its own are as long as its inputs, not as the mask.
    apart = "decoder_input_ids" in batch
    if (
        most < 2
        or apart
        or mask is None
        or mask.dim() != 2
        or any(len(tensor) != len(mask) for tensor in batch.values())
    ):
        yield batch
        return
    width = mask.shape[1]
    lengths = np.asarray((mask * torch.arange(1, width + 1, device=mask.device)).amax(dim=1).clamp(min=1).cpu())
    order = np.argsort(-lengths, kind="stable")
    sizes = group_sizes(lengths[order].tolist(), most)
    if len(sizes) == 1:
        yield batch
        return
    for rows in np.split(order, np.cumsum(sizes)[:-1]):
        longest = int(lengths[rows].max())
        # Within a group the rows keep the order of the batch.
        index = torch.as_tensor(np.sort(rows), device=mask.device)
        yield {name: _rows(name, tensor[index], width, longest) for name, tensor in batch.items()}


def _rows(name: str, rows: torch.Tensor, width: int, longest: int) -> torch.Tensor:
    """Return the rows of a group, without the columns behind ``longest`` where its columns are the input's tokens."""
    # Labels may be one per row, or one number per class.
    per_token = name in _PER_TOKEN and rows.dim() == 2 and rows.shape[1] == width and not rows.is_floating_point()
    return rows[:, :longest] if per_token else rows


def group_sizes(lengths: Sequence[int], most: int) -> list[int]:
    """Return the sizes of the groups of least cost, which is their padded tokens plus `PASS_COST` per group.

    Args:
        lengths: tokens per row, the longest first.
        most: number of groups at most.
    """
    rows = len(lengths)
    # cost[end]: of the rows before `end` in the best cut so far; cuts[groups][end]: where its last group begins.
    cost = np.array([0.0, *[np.inf] * rows])
    starts, ends = np.arange(rows), np.arange(1, rows + 1)
    tokens = np.asarray(lengths, dtype=float)[:, None] * (ends[None, :] - starts[:, None]) + PASS_COST
    tokens[ends[None, :] <= starts[:, None]] = np.inf
    best, best_cuts, cuts = np.inf, [rows], []
    for _ in range(min(most, rows)):
        through = cost[:-1, None] + tokens
        cuts.append(through.argmin(axis=0))
        cost = np.array([np.inf, *through.min(axis=0)])
        if cost[rows] < best:
            best, best_cuts = cost[rows], _trace(cuts, rows)
    return best_cuts


def _trace(cuts: Sequence[np.ndarray], rows: int) -> list[int]:
    sizes, end = [], rows
    for starts in reversed(cuts):
        start = int(starts[end - 1])
        sizes.append(end - start)
        end = start
    return sizes[::-1]
