"""Classification of, or regression on, a text or a pair of texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from parbench.bench.util.reference import Reference
from parbench.tasks.base import Collate, Head, Splits, Task
from parbench.tasks.data.findings import below_full_marks, empty_texts
from parbench.tasks.data.labels import class_ids
from parbench.tasks.data.source import DataRef, Reads
from parbench.tasks.data.values import check_columns, numbers_of, texts_of
from parbench.tasks.metrics.classification import METRICS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from parbench.tasks.inference import Predictor, Rows


@dataclass(frozen=True, kw_only=True)
class TextClassification(Task):
    """A task over one or two text columns with one label.

    Attributes:
        texts: names of the one or two text columns.
        labels: class names in the order of their ids; empty for a regression on a number.
        metrics: names of the metrics, the primary one first.
        label: name of the column with the label.
    """

    name: str
    reference: Reference
    data: DataRef
    texts: tuple[str, ...]
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    label: str = "label"

    @property
    def primary(self) -> str:  # type: ignore[override]
        """The first of the metrics."""
        return self.metrics[0]

    @property
    def head(self) -> Head:  # type: ignore[override]
        """A sequence-classification head with one output per class, or one output."""
        return Head("AutoModelForSequenceClassification", self.labels)

    @property
    def reads(self) -> Reads:
        """The texts and the label."""
        return Reads(self.texts, ((self.label,),))

    def check(self, dataset: Dataset, split: str) -> Dataset:
        """Return the text columns and ``label``: class ids, or floats for a regression."""
        from datasets import Dataset, Value

        where = f"the {split} split of {self.name}"
        check_columns(dataset, (*self.texts, self.label), where)
        columns = {name: texts_of(dataset, name, where) for name in self.texts}
        checked = Dataset.from_dict(columns)
        if self.labels:
            ids = class_ids(dataset, self.label, self.labels, where)
            return checked.add_column("label", ids, feature=Value("int64"))
        return checked.add_column("label", numbers_of(dataset, self.label, where), feature=Value("float32"))

    def findings(self, splits: Splits) -> list[str]:
        """Return in words what is suspicious about the data: absent classes, useless metrics, and empty texts."""
        metrics = {name: METRICS[name] for name in self.metrics}
        return [
            *super().findings(splits),
            *below_full_marks(metrics, splits.by_name),
            *empty_texts(self.texts, splits.by_name),
        ]

    def prepare(self, dataset: Dataset, processor: PreTrainedTokenizerBase, max_length: int) -> Dataset:
        """Return token ids, truncated to ``max_length``, not padded, with ``labels``.

        A text without any token, an empty one under a tokenizer without special tokens, is one token of padding that
        the model sees: there is nothing else to classify from.
        """
        from datasets import Dataset

        texts = [dataset[column][:] for column in self.texts]
        encoded = dict(processor(*texts, truncation=True, max_length=max_length))
        fill = {"input_ids": processor.pad_token_id, "attention_mask": 1}
        columns = {name: [row or [fill.get(name, 0)] for row in rows] for name, rows in encoded.items()}
        return Dataset.from_dict({**columns, "labels": dataset["label"][:]})

    def collate(self, processor: PreTrainedTokenizerBase) -> Collate:
        """Return dynamic padding to the longest of the batch."""
        from transformers import DataCollatorWithPadding

        padding = DataCollatorWithPadding(processor)

        def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
            return dict(padding(rows))

        return collate

    def loss(self, logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
        """Return cross-entropy, or the mean squared error for a regression, which has no classes to smooth."""
        from torch.nn import functional

        from parbench.tasks.inference import at_least_float32

        values = at_least_float32(logits)
        if self.labels:
            return functional.cross_entropy(values, labels, label_smoothing=label_smoothing)
        return functional.mse_loss(values.squeeze(-1), labels.to(values.dtype))

    def predict(self, predictor: Predictor, examples: Dataset, inputs: Rows) -> pd.DataFrame:
        """Return one row per example; see `predictions`."""
        return self.predictions(examples, predictor.logits(inputs))

    def predictions(self, dataset: Dataset, logits: np.ndarray) -> pd.DataFrame:
        """Return one row per example; the prediction is a class id, or the number itself for a regression."""
        import pandas as pd

        return pd.DataFrame(
            {
                "example": dataset["example"][:],
                "subset": dataset["subset"][:],
                "label": dataset["label"][:],
                "prediction": logits.argmax(axis=-1) if self.labels else logits[:, 0],
                "logits": list(logits),
            }
        )

    def score(self, predictions: pd.DataFrame) -> Mapping[str, float]:
        """Return each metric; over subsets its unweighted mean, and each subset's own as ``metric_subset``."""
        by_subset = {
            str(subset): {
                name: METRICS[name](rows["label"].to_numpy(), rows["prediction"].to_numpy()) for name in self.metrics
            }
            for subset, rows in predictions.groupby("subset")
        }
        means = {name: sum(scores[name] for scores in by_subset.values()) / len(by_subset) for name in self.metrics}
        parts = {
            f"{name}_{subset}": score
            for subset, scores in by_subset.items()
            for name, score in scores.items()
            if len(by_subset) > 1
        }
        return {**means, **parts}
