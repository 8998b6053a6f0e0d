"""Applies a trained model to prepared rows, for every kind of evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import torch
from torch import nn
from transformers import DynamicCache

from parbench.bench.util.errors import DivergedError
from parbench.tasks import shared_prompts
from parbench.tasks.decoding import MustBeFinite, own_defaults_aside
from parbench.tasks.ending_rows import generate_greedily, rows_may_leave
from parbench.tasks.shared_prompts import Context, Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# The label of tokens that losses and likelihoods ignore.
IGNORED = -100


class Rows(Protocol):
    """Prepared rows: a `datasets.Dataset`, or anything that is indexed like one."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> dict[str, Any]: ...

    def select(self, indices: Sequence[int]) -> Rows:
        """Return the rows at ``indices``, in that order."""


@dataclass(frozen=True)
class Predictor:
    """A model ready to be applied.

    Attributes:
        model: the adapted model, on ``device``.
        processor: the tokenizer or image processor that prepared its inputs.
        collate: makes a batch of prepared rows.
        batch_size: rows per forward pass.
        device: where the model is.
        precision: ``float32`` or ``bfloat16`` (autocast).
        on_batch: called after every batch with the rows done: to report progress.
        base: loads the untuned base model onto ``device``, for comparisons with it or as a judge.
    """

    model: nn.Module
    processor: Any
    collate: Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]]
    batch_size: int
    device: torch.device
    precision: str = "float32"
    on_batch: Callable[[int], None] = field(default=lambda rows: None)
    base: Callable[[], nn.Module] | None = None

    @torch.no_grad()
    def logits(self, rows: Rows) -> np.ndarray:
        """Return the outputs of a classification or regression head, in the order of ``rows``.

        Returns:
            float32 array of shape (rows, outputs).

        Raises:
            DivergedError: a logit is not finite.
        """
        return self._by_row(rows, lambda outputs, labels: outputs.logits.float())

    @torch.no_grad()
    def log_likelihoods(self, rows: Rows) -> np.ndarray:
        """Return the likelihood of the labelled tokens of each row under a causal language model.

        What rows share before these tokens is computed once, if it is worth it; see `parbench.tasks.shared_prompts`.

        Returns:
            array of shape (rows, 2): sum of the tokens' natural log-likelihoods, and number of tokens; float32, or
            float64 for a model of float64.

        Raises:
            DivergedError: a logit is not finite.
        """
        if shared_prompts.shares_prompts(self.model) and (prompts := _prompts(rows)) is not None:
            return self._by_prompt(prompts, len(rows))
        return self._by_row(rows, lambda outputs, labels: _likelihoods(outputs.logits[:, :-1], labels[:, 1:]))

    @torch.no_grad()
    def generate(self, prompts: Sequence[Sequence[int]], **decoding: Any) -> list[list[int]]:
        """Return the tokens that a causal language model writes after each prompt, up to its end of text.

        How they are chosen is decided by ``decoding`` alone, and by no default of the model's checkpoint.

        Args:
            prompts: token ids, padded here on the left, or behind what all of them share; that is computed once. In
                greedy search a row that has ended leaves its batch; see `parbench.tasks.ending_rows`.
            decoding: arguments of transformers' ``generate``, such as ``num_beams`` and ``max_new_tokens``.

        Raises:
            DivergedError: a logit is not finite.
        """
        self.model.eval()
        tokenizer: PreTrainedTokenizerBase = self.processor
        leave = rows_may_leave(decoding)
        decoding["logits_processor"] = [MustBeFinite(), *decoding.get("logits_processor", ())]
        end, pad = decoding.pop("eos_token_id", tokenizer.eos_token_id), int(tokenizer.pad_token_id)
        ends = list(end) if isinstance(end, list) else [] if end is None else [int(end)]
        caches = shared_prompts.shares_prompts(self.model)
        shared = shared_prompts.common_head(prompts) if caches else []
        written: list[list[int]] = [[] for _ in prompts]
        with self._context():
            head = Context.of(self.model, shared, self.device)
        for places in _batches([len(prompt) for prompt in prompts], self.batch_size):
            ids, mask = _laid_out([prompts[place] for place in places], len(shared), pad, self.device)
            copies = head.copies(len(places) * decoding.get("num_beams", 1)).cache if shared else DynamicCache()
            with self._context(), own_defaults_aside(self.model):
                if caches and leave:
                    found = generate_greedily(self.model, copies, ids, mask, ends, pad, **decoding)
                else:
                    past = {"past_key_values": copies} if shared else {}
                    generated = cast(Any, self.model).generate(
                        input_ids=ids, attention_mask=mask, pad_token_id=pad, eos_token_id=end, **past, **decoding
                    )
                    found = generated[:, ids.shape[1] :].tolist()
            for place, tokens in zip(places, found, strict=True):
                stop = next((at for at, token in enumerate(tokens) if token in ends), len(tokens))
                written[place] = tokens[:stop]
            self.on_batch(len(places))
        return written

    def _by_row(self, rows: Rows, scored: Callable[[Any, torch.Tensor], torch.Tensor]) -> np.ndarray:
        self.model.eval()
        found: dict[int, np.ndarray] = {}
        for places in _batches(_lengths(rows), self.batch_size):
            batch = self.collate([rows[place] for place in places])
            labels = batch.pop("labels")
            with self._context():
                outputs = self.model(**{name: tensor.to(self.device) for name, tensor in batch.items()})
            found.update(zip(places, scored(outputs, labels).cpu().numpy(), strict=True))
            self.on_batch(len(places))
        return _finite([found[place] for place in range(len(rows))])

    def _by_prompt(self, prompts: Sequence[Prompt], rows: int) -> np.ndarray:
        self.model.eval()
        found: dict[int, np.ndarray] = {}
        with self._context():
            head = Context.of(self.model, shared_prompts.common_head([prompt.ids for prompt in prompts]), self.device)
        for batch in shared_prompts.batches(prompts, self.batch_size):
            continuations = [one for prompt in batch for one in prompt.continuations]
            with self._context():
                logits = shared_prompts.read_batch(head, batch)
            labels, _ = shared_prompts.padded([one.labels for one in continuations], logits.device, IGNORED)
            values = _likelihoods(logits, labels).cpu().numpy()
            found.update(zip((one.place for one in continuations), values, strict=True))
            self.on_batch(len(continuations))
        return _finite([found[place] for place in range(rows)])

    def _context(self) -> AbstractContextManager[Any]:
        return autocast(self.device, self.precision)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Return the context of a forward pass in ``precision``."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()


def at_least_float32(logits: torch.Tensor) -> torch.Tensor:
    """Return logits in float32, or as they are where they are float64: 16 bits are too few for a loss."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _likelihoods(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the sum of log-likelihoods, and the number of targets that count, of each row.

    Args:
        logits: (rows, tokens, vocabulary).
        targets: (rows, tokens).
    """
    logits, targets = at_least_float32(logits), targets.to(logits.device)
    # As one long row of tokens: with their dimension behind the vocabulary's torch copies all logits once more.
    losses = nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none"
    ).view_as(targets)
    return torch.stack([-losses.sum(dim=1), (targets != IGNORED).sum(dim=1)], dim=1)


def _prompts(rows: Rows) -> list[Prompt] | None:
    """Return the rows by what they share, or ``None`` where that is too little, or not known from tokens alone."""
    dataset: Any = rows
    if not {"input_ids", "labels"} <= set(getattr(dataset, "column_names", ())):
        return None
    pairs = zip(dataset["input_ids"][:], dataset["labels"][:], strict=True)
    return shared_prompts.by_prompt(list(pairs), IGNORED)


def _laid_out(
    prompts: Sequence[Sequence[int]], shared: int, pad: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return prompts padded on the left, but for as many tokens as all share, and a mask: (rows, most tokens)."""
    longest = max(map(len, prompts))
    rows = [[*prompt[:shared], *[pad] * (longest - len(prompt)), *prompt[shared:]] for prompt in prompts]
    mask = torch.ones((len(prompts), longest), dtype=torch.int64)
    for row, prompt in enumerate(prompts):
        mask[row, shared : shared + longest - len(prompt)] = 0
    return torch.tensor(rows).to(device), mask.to(device)


def _finite(values: Sequence[np.ndarray]) -> np.ndarray:
    stacked = np.stack(values)
    if not np.isfinite(stacked).all():
        raise DivergedError("the trained model's outputs are not finite")
    return stacked


def _lengths(rows: Rows) -> list[int]:
    """Return the tokens of each row; images all have one size."""
    dataset: Any = rows
    if "input_ids" not in getattr(dataset, "column_names", ()):
        return [0] * len(rows)
    return [len(ids) for ids in dataset["input_ids"]]


def _batches(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Yield the places of each batch's rows; rows of similar length share a batch, which needs less padding."""
    order = np.argsort([-length for length in lengths], kind="stable").tolist()
    for start in range(0, len(order), size):
        yield order[start : start + size]
