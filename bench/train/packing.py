"""Puts several texts of a batch into one row, so that no padding is multiplied: an option for language models.

Each text keeps its own positions, from 0, and attends to itself alone: where there is no attention mask, transformers
finds the texts of a row by positions that start again. A model that does not is found out by its first batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from parbench.bench.util.errors import UserError
from parbench.tasks.inference import IGNORED

# Of the largest logit: float32 rounding of another order of sums stays far below, a text that sees another far above.
TOLERANCE = 1e-3


def pack(batch: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Return a batch of texts with several of them in a row, no row longer than the longest text.

    Args:
        batch: ``input_ids``, ``attention_mask`` and ``labels`` of shape (texts, tokens), padded on the right.

    Returns:
        ``input_ids``, ``position_ids`` and ``labels`` of shape (rows, tokens), and ``use_cache``, which is off: with a
        cache transformers does not look for packed texts.
    """
    ids, labels = batch["input_ids"], batch["labels"]
    lengths = [int(length) for length in batch["attention_mask"].sum(dim=1)]
    rows = rows_of(lengths, max(lengths))
    shape = (len(rows), max(lengths))
    packed = {
        # Padding behind the last text is a text of its own, which nothing is asked of.
        "input_ids": ids.new_full(shape, int(ids[0, 0])),
        "labels": labels.new_full(shape, IGNORED),
        "position_ids": ids.new_zeros(shape),
    }
    for row, texts in enumerate(rows):
        start = 0
        for text in texts:
            end = start + lengths[text]
            packed["input_ids"][row, start:end] = ids[text, : lengths[text]]
            packed["labels"][row, start:end] = labels[text, : lengths[text]]
            # The last token of the text before does not predict it.
            packed["labels"][row, start] = IGNORED
            packed["position_ids"][row, start:end] = torch.arange(lengths[text])
            start = end
        packed["position_ids"][row, start:] = torch.arange(shape[1] - start)
    return {**packed, "use_cache": False}


def rows_of(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Return which texts share a row of at most so many tokens: the longest first, into the first row with room."""
    rows: list[list[int]] = []
    room: list[int] = []
    for text in sorted(range(len(lengths)), key=lambda text: -lengths[text]):
        row = next((row for row, left in enumerate(room) if left >= lengths[text]), len(rows))
        if row == len(rows):
            rows.append([])
            room.append(most)
        rows[row].append(text)
        room[row] -= lengths[text]
    return rows


@torch.no_grad()
def check_packing(model: nn.Module, batch: dict[str, torch.Tensor]) -> None:
    """Make sure that the model computes for packed texts what it computes for each text by itself.

    Raises:
        UserError: it does not.
    """
    was_training = model.training
    model.eval()
    try:
        whole = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits
        packed = pack(batch)
        found = model(**{name: value for name, value in packed.items() if name != "labels"}).logits
    except TypeError as error:
        raise UserError(f"the model cannot be trained with train.packing ({error}); leave it out") from error
    finally:
        model.train(was_training)
    wanted = whole[:, :-1][batch["labels"][:, 1:] != IGNORED]
    # Rows are packed in another order: each prediction is found by its text again.
    lengths = [int(length) for length in batch["attention_mask"].sum(dim=1)]
    got = torch.cat(
        [found[row, place][: lengths[text] - 1][_asked(batch, text)] for text, row, place in _places(lengths)]
    )
    if got.shape != wanted.shape or (got - wanted).abs().max() > TOLERANCE * wanted.abs().max():
        raise UserError("the model mixes the texts of a row, so train.packing would change its loss; leave it out")


def _asked(batch: dict[str, torch.Tensor], text: int) -> torch.Tensor:
    length = int(batch["attention_mask"][text].sum())
    return batch["labels"][text, 1:length] != IGNORED


def _places(lengths: Sequence[int]) -> list[tuple[int, int, slice]]:
    """Return each text with its row and its place there, in the order of the texts."""
    found = []
    for row, texts in enumerate(rows_of(lengths, max(lengths))):
        start = 0
        for text in texts:
            found.append((text, row, slice(start, start + lengths[text])))
            start += lengths[text]
    return sorted(found, key=lambda place: place[0])
