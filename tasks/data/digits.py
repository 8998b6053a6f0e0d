"""Handwritten digits that come with scikit-learn: 1,797 real images of 8 x 8 pixels in 17 greys."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parbench.tasks.data.source import DataRef
from parbench.tasks.data.split import CUT_SEED

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset

# The darkest of the 17 greys.
INK = 16
# To choose hyper-parameters on, where few images are trained on.
SELECTION_IMAGES = 250


@dataclass(frozen=True)
class DigitsSource:
    """scikit-learn's ``load_digits``: the test part of UCI's "Optical Recognition of Handwritten Digits".

    It has one split, which is cut in three; or three of its own, if there are to be few images to train on.

    Attributes:
        train: number of images to train on; ``None`` leaves the cut to the task.
    """

    train: int | None = None

    def missing(self, data: DataRef) -> str | None:
        """Return ``None``: scikit-learn is always installed."""
        return None

    def describe(self, data: DataRef) -> str:
        """Return where the images are."""
        return "scikit-learn's digits (UCI), re-split"

    def revision(self, data: DataRef) -> str:
        """Return the hash of pixels and labels, which does not depend on how they are encoded."""
        pixels, labels = digit_images()
        return f"sha256:{hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()}"

    def load(self, data: DataRef) -> dict[str, Dataset]:
        """Return all images as PNG files, with labels, as the one reported split, or as all three."""
        from datasets import Dataset

        pixels, labels = digit_images()
        whole = Dataset.from_dict({"image": [png(image) for image in pixels], "label": labels.tolist()})
        (split,) = data.reported.values()
        if self.train is None:
            return {split: whole}
        rows = {data.train: self.train, data.selection or "selection": SELECTION_IMAGES}
        return {name: whole.select(part) for name, part in drawn(labels, rows, split).items()}


def drawn(labels: np.ndarray, sizes: Mapping[str, int], rest: str) -> dict[str, list[int]]:
    """Return which images make up each split, by classes in equal parts; what is left is the split ``rest``."""
    from sklearn.model_selection import train_test_split

    left, found = list(range(len(labels))), {}
    for name, size in sizes.items():
        taken, left = train_test_split(left, train_size=size, random_state=CUT_SEED, stratify=labels[left])
        found[name] = sorted(taken)
    return {**found, rest: sorted(left)}


def digit_images() -> tuple[np.ndarray, np.ndarray]:
    """Return the images, uint8 of shape (1797, 8, 8) in 0 to 255, and their labels, int64 of shape (1797,)."""
    import numpy as np
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return np.round(bunch.images * (255 / INK)).astype(np.uint8), bunch.target.astype(np.int64)


def png(image: np.ndarray) -> bytes:
    """Return the file of an image, uint8 of shape (height, width)."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()
