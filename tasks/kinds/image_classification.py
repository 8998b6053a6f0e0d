"""Classification of images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, cast

from pydantic import Field

from parbench.bench.util.errors import UserError
from parbench.bench.util.reference import Reference
from parbench.tasks.base import Collate, Head, Modality, Task
from parbench.tasks.data.image_rows import AugmentedRows, ImageRows
from parbench.tasks.data.images import checked_images
from parbench.tasks.data.labels import class_ids
from parbench.tasks.data.preprocessing import Augmentation, ImageFit, Interpolation, Preprocessing
from parbench.tasks.data.source import DataRef, DataSource, Reads
from parbench.tasks.metrics.classification import METRICS
from parbench.tasks.metrics.subsets import over_subsets
from parbench.tasks.options import TaskOptions

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch
    from datasets import Dataset

    from parbench.tasks.inference import Predictor, Rows

MEAN_PER_CLASS = "mean_per_class_accuracy"


class ImageOptions(TaskOptions):
    """What may be set of how images are read. Mean and standard deviation are always the model's own."""

    for_a_model: ClassVar[frozenset[str]] = frozenset({"image_size", "interpolation"})

    image_size: int | None = Field(
        default=None, ge=1, le=2048, description="height and width in pixels; the model's own if not given"
    )
    interpolation: Interpolation | None = Field(
        default=None, description="of the resizing; the model's own if not given"
    )
    fit: ImageFit = Field(
        default="model",
        description="how an oblong image becomes square: as the model has it; squash: resized as a whole; crop: the "
        "middle 7/8 of it, resized by its shorter side",
    )
    augmentation: Augmentation = Field(
        default="none", description="of training images: mirrored at random (flip), and cropped at random (crop_flip)"
    )


@dataclass(frozen=True, kw_only=True)
class ImageClassification(Task):
    """A task over images with one label each.

    Labels are class names or numbers; see `parbench.tasks.data.labels.class_ids`.

    Attributes:
        labels: class names in the order of their ids; see `parbench.tasks.data.labels.numbered`.
        image_columns: names that the column of images may have.
        label_columns: names that the column of labels may have.
        metrics: names of the metrics, the primary one first.
    """

    name: str
    reference: Reference
    data: DataRef
    labels: tuple[str, ...]
    image_columns: tuple[str, ...] = ("image",)
    label_columns: tuple[str, ...] = ("label",)
    metrics: tuple[str, ...] = ("accuracy", MEAN_PER_CLASS)
    options: ImageOptions = field(default_factory=ImageOptions)
    own_source: DataSource | None = None
    modality = Modality.IMAGE

    @property
    def primary(self) -> str:  # type: ignore[override]
        """The first of the metrics."""
        return self.metrics[0]

    @property
    def head(self) -> Head:  # type: ignore[override]
        """An image-classification head with one output per class."""
        return Head("AutoModelForImageClassification", self.labels)

    @property
    def reads(self) -> Reads:
        """The image and the label, by the names that either may have."""
        return Reads(others=(self.image_columns, self.label_columns))

    def check(self, dataset: Dataset, split: str) -> Dataset:
        """Return the columns ``image``, not decoded, and ``label``; of every image the header is read."""
        where = f"the {split} split of {self.name}"
        if not len(dataset):
            raise UserError(f"{where} is empty; give a file with examples, or a folder with images")
        image, label = (
            next((name for name in names if name in dataset.column_names), None)
            for names in (self.image_columns, self.label_columns)
        )
        if image is None or label is None:
            lacking = self.image_columns if image is None else self.label_columns
            raise UserError(f"{where} has no column {' or '.join(lacking)}; it has {', '.join(dataset.column_names)}")
        ids = class_ids(dataset, label, self.labels, where)
        return checked_images(dataset.select_columns(image), image, where).add_column("label", ids)

    def prepare(self, dataset: Dataset, processor: Any, max_length: int) -> ImageRows:
        """Return rows that are decoded one by one, on access."""
        options = self.options
        own = Preprocessing.of(processor)
        return ImageRows(dataset, own.changed(options.image_size, options.interpolation, options.fit))

    def augmented(self, inputs: Rows, seed: int) -> Rows:
        """Return the rows under the option ``augmentation``."""
        if self.options.augmentation == "none":
            return inputs
        return AugmentedRows(cast(ImageRows, inputs), self.options.augmentation, seed)

    def collate(self, processor: Any) -> Collate:
        """Return plain stacking: all images have one size."""

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

        logits = predictor.logits(inputs)
        return pd.DataFrame(
            {
                "example": examples["example"][:],
                "subset": examples["subset"][:],
                "label": examples["label"][:],
                "prediction": logits.argmax(axis=-1),
                "logits": list(logits),
            }
        )

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
    labels, predictions = rows["label"].to_numpy(), rows["prediction"].to_numpy()
    if metric != MEAN_PER_CLASS:
        return METRICS[metric](labels, predictions)
    import numpy as np
    from sklearn.metrics import recall_score

    # The mean recall over the classes that occur; scikit-learn's "balanced accuracy" is the same, with a warning.
    return float(recall_score(labels, predictions, labels=np.unique(labels), average="macro"))
