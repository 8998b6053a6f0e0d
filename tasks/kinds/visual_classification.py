"""What the classification of images and that of videos have in common: one label each, and pixels of one shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from parbench.bench.util.errors import UserError
from parbench.tasks.base import Collate, Task
from parbench.tasks.data.labels import class_ids
from parbench.tasks.metrics.classification import METRICS
from parbench.tasks.metrics.subsets import over_subsets

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch
    from datasets import Dataset

    from parbench.tasks.inference import Predictor, Rows

MEAN_PER_CLASS = "mean_per_class_accuracy"


@dataclass(frozen=True, kw_only=True)
class VisualClassification(Task):
    """A task over images or videos with one label each.

    Attributes:
        labels: class names in the order of their ids; see `parbench.tasks.data.labels.numbered`.
        label_columns: names that the column of labels may have.
        metrics: names of the metrics, the primary one first.
    """

    labels: tuple[str, ...]
    label_columns: tuple[str, ...] = ("label",)
    metrics: tuple[str, ...] = ("accuracy", MEAN_PER_CLASS)

    @property
    def primary(self) -> str:  # type: ignore[override]
        """The first of the metrics."""
        return self.metrics[0]

    def labelled(self, dataset: Dataset, columns: Sequence[str], what: str, where: str) -> tuple[str, list[int]]:
        """Return the name of the column of images or videos, and the class id of every row.

        Args:
            dataset: a split.
            columns: names that the column may have.
            what: it holds, such as ``images``.
            where: the split in words, for an error.

        Raises:
            UserError: there are no rows, or no such column or labels, or a label that is no class.
        """
        if not len(dataset):
            raise UserError(f"{where} is empty; give a file with examples, or a folder with {what}")
        column, label = (
            next((name for name in names if name in dataset.column_names), None)
            for names in (columns, self.label_columns)
        )
        if column is None or label is None:
            lacking = columns if column is None else self.label_columns
            raise UserError(f"{where} has no column {' or '.join(lacking)}; it has {', '.join(dataset.column_names)}")
        return column, class_ids(dataset, label, self.labels, where)

    def collate(self, processor: Any) -> Collate:
        """Return plain stacking: all inputs have one shape."""

        def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
            import torch

            return {
                "pixel_values": torch.stack([row["pixel_values"] for row in rows]),
                "labels": torch.tensor([row["labels"] for row in rows]),
            }

        return collate

    def loss(self, logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
        """Return the cross-entropy."""
        from torch.nn import functional

        from parbench.tasks.inference import at_least_float32

        return functional.cross_entropy(at_least_float32(logits), labels, label_smoothing=label_smoothing)

    def predict(self, predictor: Predictor, examples: Dataset, inputs: Rows) -> pd.DataFrame:
        """Return one row per example: class ids in ``label`` and ``prediction``, and the ``logits``."""
        import pandas as pd

        logits = self.logits(predictor, inputs)
        return pd.DataFrame(
            {
                "example": examples["example"][:],
                "subset": examples["subset"][:],
                "label": examples["label"][:],
                "prediction": logits.argmax(axis=-1),
                "logits": list(logits),
            }
        )

    def logits(self, predictor: Predictor, inputs: Rows) -> np.ndarray:
        """Return the outputs for prepared rows, of shape (rows, classes)."""
        return predictor.logits(inputs)

    def score(self, predictions: pd.DataFrame) -> Mapping[str, float]:
        """Return each metric; over subsets its unweighted mean, and each subset's own as ``metric_subset``."""
        return over_subsets(predictions, lambda rows: {name: _scored(name, rows) for name in self.metrics})

    def leave_one_out(self, predictions: pd.DataFrame, metric: str) -> np.ndarray | None:
        """Return ``metric`` without each of the examples in turn; an example alone in its class takes the class away.

        A mean over one class with one example has nothing left: the value is NaN.
        """
        if metric != MEAN_PER_CLASS:
            return super().leave_one_out(predictions, metric)
        import numpy as np

        _, classes = np.unique(predictions["label"].to_numpy(), return_inverse=True)
        correct = (predictions["label"] == predictions["prediction"]).to_numpy(dtype="float64")
        sizes, hits = np.bincount(classes).astype("float64"), np.bincount(classes, weights=correct)
        others = (hits / sizes).sum() - (hits / sizes)[classes]
        left = sizes[classes] - 1
        own = np.divide(hits[classes] - correct, left, out=np.zeros_like(left), where=left > 0)
        count = len(sizes) - (left == 0)
        return np.divide(others + own, count, out=np.full_like(own, np.nan), where=count > 0)


def _scored(metric: str, rows: pd.DataFrame) -> float:
    if metric in rows:
        return float(rows[metric].mean())
    labels, predictions = rows["label"].to_numpy(), rows["prediction"].to_numpy()
    if metric != MEAN_PER_CLASS:
        return METRICS[metric](labels, predictions)
    import numpy as np
    from sklearn.metrics import recall_score

    # The mean recall over the classes that occur; scikit-learn's "balanced accuracy" is the same, with a warning.
    return float(recall_score(labels, predictions, labels=np.unique(labels), average="macro"))
