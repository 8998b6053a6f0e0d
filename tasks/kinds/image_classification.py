"""Classification of images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, cast

from pydantic import Field

from parbench.bench.util.reference import Reference
from parbench.tasks.base import Head, Modality
from parbench.tasks.data.image_rows import AugmentedRows, ImageRows
from parbench.tasks.data.images import checked_images
from parbench.tasks.data.preprocessing import Augmentation, ImageFit, Interpolation, Preprocessing
from parbench.tasks.data.source import DataRef, DataSource, Reads
from parbench.tasks.kinds.visual_classification import VisualClassification
from parbench.tasks.options import TaskOptions

if TYPE_CHECKING:
    from datasets import Dataset

    from parbench.tasks.inference import Rows


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
class ImageClassification(VisualClassification):
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
    image_columns: tuple[str, ...] = ("image",)
    options: ImageOptions = field(default_factory=ImageOptions)
    own_source: DataSource | None = None
    modality = Modality.IMAGE

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
        image, ids = self.labelled(dataset, self.image_columns, "images", where)
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
