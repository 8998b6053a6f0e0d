"""The contract of a task: its data and metrics, and what training needs of them."""

from __future__ import annotations

import dataclasses
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self

from parbench.bench.util.errors import UserError
from parbench.bench.util.reference import Reference
from parbench.bench.util.validation import validated
from parbench.tasks.data.findings import class_findings
from parbench.tasks.data.folder import FolderSource
from parbench.tasks.data.labels import in_one_order
from parbench.tasks.data.source import DataRef, DataSource, Reads
from parbench.tasks.data.split import CutSplits, capped, cut_splits
from parbench.tasks.metrics.units import RAW, UNITS, Unit, unit_among
from parbench.tasks.options import NoOptions, TaskOptions

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import pandas as pd
    import torch
    from datasets import Dataset

    from parbench.tasks.inference import Predictor, Rows

Collate = Callable[[list[dict[str, Any]]], dict[str, "torch.Tensor"]]


# The kinds of tasks that need training values of their own: an encoder's, an image model's, a video model's, a language
# model's, and those of a language model that sees images, or is given features of a video.
Kind = Literal["text", "image", "video", "language_model", "image_text", "features_text"]


class Modality(StrEnum):
    """What a model reads, and so what prepares its inputs: a tokenizer, a processor of images or clips, or of both.

    Features are arrays that another model has made of a video.
    """

    TEXT = "text"
    IMAGE = "image"
    VIDEO = "video"
    IMAGE_TEXT = "image_text"
    FEATURES_TEXT = "features_text"

    @property
    def has_text(self) -> bool:
        """Whether there is a tokenizer, alone or beside an image processor, and a greatest number of tokens."""
        return self in (Modality.TEXT, Modality.IMAGE_TEXT, Modality.FEATURES_TEXT)


_OF_LANGUAGE_MODELS = ("AutoModelForCausalLM", "AutoModelForImageTextToText", "AutoModelForSeq2SeqLM")


@dataclass(frozen=True)
class Head:
    """The head that a task puts on a base model.

    Attributes:
        auto_class: name of the transformers auto class.
        labels: class names in the order of their ids; empty for a regression, and where the model's own head is kept.
    """

    auto_class: str
    labels: tuple[str, ...] = ()

    @property
    def is_new(self) -> bool:
        """Whether the head is made for the task; a language model keeps its own, also one that sees images."""
        return self.auto_class not in _OF_LANGUAGE_MODELS

    @property
    def num_labels(self) -> int:
        """Outputs of a new head: one for a regression."""
        return len(self.labels) or 1


LANGUAGE_MODEL = Head("AutoModelForCausalLM")
IMAGE_TEXT_MODEL = Head("AutoModelForImageTextToText")
FEATURES_TEXT_MODEL = Head("AutoModelForSeq2SeqLM")


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

    def capped(self, limit: int | None) -> Splits:
        """Return at most so many examples of the selection split and of each reported subset, always the same ones."""
        return Splits(self.train, capped(self.selection, limit), capped(self.reported, limit))

    @property
    def by_name(self) -> dict[str, Dataset]:
        """The splits by their names."""
        return {"train": self.train, "selection": self.selection, "reported": self.reported}

    @property
    def sizes(self) -> dict[str, int]:
        """Number of examples by split."""
        return {name: len(split) for name, split in self.by_name.items()}


class Evaluation(Protocol):
    """How a model is scored on a split. A task is its own evaluation; see also `Task.selected_by`."""

    @property
    def primary(self) -> str:
        """The metric that ranks; larger is better."""

    def predict(self, predictor: Predictor, examples: Dataset, inputs: Rows) -> pd.DataFrame:
        """Return the per-example rows of a split."""

    def score(self, predictions: pd.DataFrame) -> Mapping[str, float]:
        """Return every metric, from the per-example rows alone."""


class Task(ABC):
    """Data, preprocessing, head and metrics under one name. It knows nothing of methods, plans or stores.

    A task that has options is a dataclass with a field ``options``.

    Attributes:
        name: ``group/name``.
        reference: where the task was published.
        data: where its data is, in every kind of source.
        head: the model head it needs.
        primary: the metric that ranks; larger is better.
        units: of its metrics, where they are not among `parbench.tasks.metrics.units.UNITS`; undeclared metrics are
            shown as they are.
        modality: the kind of its model's inputs.
        options: its options.
        own_source: where the task's data comes from unless the user names a folder: for data that is generated, or
            shipped with an outside package; ``None`` leaves it to the suite.
        definition: the content of the YAML file that defines the task; ``None`` for registered tasks. It goes into the
            records, so that they can be scored again without the file.
    """

    name: str
    reference: Reference
    data: DataRef
    head: Head
    primary: str
    units: ClassVar[Mapping[str, Unit]] = MappingProxyType({})
    modality: Modality = Modality.TEXT
    options: TaskOptions = NoOptions()
    own_source: DataSource | None = None
    definition: Mapping[str, Any] | None = None

    def configured(self, options: Mapping[str, Any]) -> Self:
        """Return the task under other options.

        Raises:
            UserError: there is no such option, or a value is wrong.
        """
        if not options:
            return self
        values = {**self.options.model_dump(), **options}
        changed = validated(type(self.options), values, f"an option of {self.name}")
        return dataclasses.replace(self, options=changed)  # type: ignore[type-var]

    @property
    def kind(self) -> Kind:
        """The kind of model that it needs; suites have default values for each."""
        if self.modality is Modality.IMAGE_TEXT:
            return "image_text"
        if self.modality is Modality.FEATURES_TEXT:
            return "features_text"
        if self.modality is Modality.VIDEO:
            return "video"
        if not self.head.is_new:
            return "language_model"
        return "image" if self.modality is Modality.IMAGE else "text"

    @property
    def reads(self) -> Reads | None:
        """The columns of a file that `check` uses; ``None`` for all of them, in the types of their values."""
        return self.data.reads

    @property
    def refs(self) -> tuple[DataRef, ...]:
        """All the data it reads, where that is more than ``data``."""
        return (self.data,)

    def in_folder(self, root: Path) -> DataSource:
        """Return where its data is below a root of local files."""
        return FolderSource(root)

    def missing(self, source: DataSource) -> str | None:
        """Return why the data is not available from ``source``, or ``None`` if it is, without downloading it."""
        return next((reason for ref in self.refs if (reason := source.missing(ref))), None)

    def describe(self, source: DataSource) -> str:
        """Return where the data comes from, in words for a table."""
        return "; ".join(dict.fromkeys(source.describe(ref) for ref in self.refs))

    def revision(self, source: DataSource) -> str:
        """Return the commit or content hash that fixes the data.

        Raises:
            UserError: it is not there.
        """
        found = list(dict.fromkeys(source.revision(ref) for ref in self.refs))
        return found[0] if len(found) == 1 else f"sha256:{hashlib.sha256(' '.join(found).encode()).hexdigest()}"

    def splits(self, source: DataSource, limit: int | None = None) -> Splits:
        """Load the data and cut it; with ``limit``, at most so many examples of each split, always the same ones.

        Raises:
            UserError: the source does not hold this task's data, or what it holds is not in this task's form.
        """
        raw = load_checked(source, dataclasses.replace(self.data, reads=self.reads), self.check)
        cut = cut_splits(raw, self.data, limit, stratify=bool(self.head.labels))
        return Splits(**{name: getattr(cut, name) for name in CutSplits._fields})

    def findings(self, splits: Splits) -> list[str]:
        """Return in words what is suspicious about the data and does not prevent its use, such as absent classes."""
        return class_findings(self.head.labels, splits.by_name) if self.head.labels else []

    @abstractmethod
    def check(self, dataset: Dataset, split: str) -> Dataset:
        """Return the columns the task uses, labels as ids.

        Raises:
            UserError: a column is missing or of the wrong type, a label is unknown.
        """

    def check_metrics(self, reported: Dataset) -> None:  # noqa: B027  (most metrics need no check)
        """Check, before a run, that the metrics can distinguish right from wrong predictions on the reported split.

        Raises:
            UserError: one cannot.
        """

    @abstractmethod
    def prepare(self, dataset: Dataset, processor: Any, max_length: int) -> Rows:
        """Return model inputs with ``labels``, one row per example, in the order of ``dataset``.

        Args:
            processor: the base model's tokenizer or image processor, by `modality`.
            max_length: tokens; not used for images.
        """

    def augmented(self, inputs: Rows, seed: int) -> Rows:
        """Return prepared rows as they are trained on, where that is not as they are evaluated (augmented images).

        What is returned may have ``set_epoch(epoch)``, which the trainer then calls; a row must depend on
        ``seed``, the epoch and its number only, or a resumed training would differ.
        """
        return inputs

    @abstractmethod
    def collate(self, processor: Any) -> Collate:
        """Return the function that makes a batch of prepared rows, padded to its longest."""

    @abstractmethod
    def loss(self, logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
        """Return the mean loss over the labels of a batch that are not `parbench.tasks.inference.IGNORED`.

        Args:
            logits: (batch, outputs); of a language model (batch, tokens, vocabulary).
            labels: (batch,); of a language model (batch, tokens), not shifted.
            label_smoothing: share of the target that is spread evenly over all classes.
        """

    @abstractmethod
    def predict(self, predictor: Predictor, examples: Dataset, inputs: Rows) -> pd.DataFrame:
        """Return one row per example: ``example``, ``subset``, and all that `score` needs.

        Where a prediction is one number, it is in ``prediction`` beside its ``label``; a metric that is the mean over
        the examples may have its values in a column of its own name.

        Args:
            predictor: the model.
            examples: the split, with the columns that `check` has left and ``example`` and ``subset``.
            inputs: the same rows as `prepare` made them.
        """

    @abstractmethod
    def score(self, predictions: pd.DataFrame) -> Mapping[str, float]:
        """Return every metric, from the per-example rows alone."""

    def unit(self, metric: str) -> Unit:
        """Return the unit of a metric of this task, a subset's included."""
        return unit_among({**UNITS, **self.units}, metric) or RAW

    def leave_one_out(self, predictions: pd.DataFrame, metric: str) -> np.ndarray | None:
        """Return ``metric`` without each of the examples in turn, of shape (examples,), or ``None`` if not known.

        The intervals and tests of a report are made of it. Asked only for rows of one subset, and only for metrics
        that are not among `tasks.metrics.classification`. Here: that of a mean over a column of the metric's name.
        """
        if metric not in predictions:
            return None
        values = predictions[metric].to_numpy(dtype="float64")
        return (values.sum() - values) / (len(values) - 1)

    @property
    def selected_by(self) -> Evaluation:
        """How settings and epochs are compared on the selection split: by the reported metrics, unless slow."""
        return self


def load_checked(source: DataSource, data: DataRef, check: Callable[[Dataset, str], Dataset]) -> dict[str, Dataset]:
    """Return the official splits of ``data`` as ``check`` leaves them; it is given a split's rows and its name.

    Raises:
        UserError: the source does not hold the data, or ``check`` refuses it. The local file is then named.
    """
    found = {}
    for name, dataset in in_one_order(source.load(data)).items():
        try:
            found[name] = check(dataset, name)
        except UserError as error:
            if not isinstance(source, FolderSource):
                raise
            raise UserError(f'in "{source.file_of(data, name)}", {error}') from error
    return found
