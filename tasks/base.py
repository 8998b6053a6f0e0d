"""What a task is: the contract between data with its metrics and whoever trains on it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.reference import Reference
from tasks.data.source import DataRef, Source
from tasks.data.split import Cut, cut_splits

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

Collate = Callable[[list[dict[str, Any]]], dict[str, "torch.Tensor"]]


@dataclass(frozen=True)
class Head:
    """The head that a task puts on a base model.

    Attributes:
        auto_class: name of the transformers auto class.
        labels: class names in the order of their ids; empty for a regression.
    """

    auto_class: str
    labels: tuple[str, ...]

    @property
    def num_labels(self) -> int:
        """Outputs of the head: one for a regression."""
        return len(self.labels) or 1


@dataclass(frozen=True)
class Splits:
    """A task's data, cut by the protocol.

    Attributes:
        train: what the trainer sees.
        selection: what hyper-parameters are chosen on; cut from the official training split, the same for all seeds.
        reported: what is scored once, at the end; the trainer never gets it.
    """

    train: Dataset
    selection: Dataset
    reported: Dataset

    @property
    def sizes(self) -> dict[str, int]:
        """Number of examples by split."""
        return {"train": len(self.train), "selection": len(self.selection), "reported": len(self.reported)}


class Task(ABC):
    """Data, preprocessing, head and metrics under one name. It knows nothing of methods, plans or stores.

    Attributes:
        name: ``group/name``.
        reference: where the task was published.
        data: where its data is, in every kind of source.
        head: the model head it needs.
        primary: the metric that ranks; larger is better.
        own_source: where the task's data comes from unless the user names a folder: for data that is generated, or
            shipped with an outside package; ``None`` leaves it to the suite.
    """

    name: str
    reference: Reference
    data: DataRef
    head: Head
    primary: str
    own_source: Source | None = None

    def splits(self, source: Source, limit: int | None = None) -> Splits:
        """Load the data and cut it; with ``limit``, at most so many examples of each split, always the same ones.

        Raises:
            UserError: the source does not hold this task's data, or what it holds is not in this task's form.
        """
        raw = {name: self.check(dataset, name) for name, dataset in source.load(self.data).items()}
        cut = cut_splits(raw, self.data, limit, stratify=bool(self.head.labels))
        return Splits(**{name: getattr(cut, name) for name in Cut._fields})

    @abstractmethod
    def check(self, dataset: Dataset, split: str) -> Dataset:
        """Return the columns the task uses, labels as ids.

        Raises:
            UserError: a column is missing or of the wrong type, a label is unknown.
        """

    @abstractmethod
    def prepare(self, dataset: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Dataset:
        """Return model inputs, one row an example, in the order of ``dataset``."""

    @abstractmethod
    def collate(self, tokenizer: PreTrainedTokenizerBase) -> Collate:
        """Return the function that makes a batch of prepared rows, padded to its longest."""

    @abstractmethod
    def loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of a batch; ``logits`` of shape (batch, outputs), ``labels`` of shape (batch,)."""

    @abstractmethod
    def predictions(self, dataset: Dataset, logits: np.ndarray) -> pd.DataFrame:
        """Return one row an example: ``example``, ``subset``, ``label``, ``prediction``, ``logits``."""

    @abstractmethod
    def score(self, predictions: pd.DataFrame) -> Mapping[str, float]:
        """Return every metric, from the per-example rows alone."""
