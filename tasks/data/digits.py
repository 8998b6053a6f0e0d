"""Handwritten digits that come with scikit-learn: 1,797 real images of 8 x 8 pixels in 17 greys."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parbench.tasks.data.source import DataRef

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset

# The darkest of the 17 greys.
INK = 16


@dataclass(frozen=True)
class DigitsSource:
    """scikit-learn's ``load_digits``: the test part of UCI's "Optical Recognition of Handwritten Digits".

    It has one split, which is cut in three.
    """

    def missing(self, data: DataRef) -> str | None:
        """Return ``None``: scikit-learn is always installed."""
        return None

    def describe(self, data: DataRef) -> str:
        """Return where the images are."""
        return "scikit-learn's digits (UCI), re-split"

    def revision(self, data: DataRef) -> str:
        """Return the hash of pixels and labels, which does not depend on how they are encoded."""
        pixels, labels = _digits()
        return f"sha256:{hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()}"

    def load(self, data: DataRef) -> dict[str, Dataset]:
        """Return all images as PNG files, with labels, as the one reported split."""
        from datasets import Dataset

        pixels, labels = _digits()
        (split,) = data.reported.values()
        return {split: Dataset.from_dict({"image": [_png(image) for image in pixels], "label": labels.tolist()})}


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """Return the images, uint8 of shape (1797, 8, 8) in 0 to 255, and their labels, int64 of shape (1797,)."""
    import numpy as np
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return np.round(bunch.images * (255 / INK)).astype(np.uint8), bunch.target.astype(np.int64)


def _png(image: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()
