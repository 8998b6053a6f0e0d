"""Images as rows of a data set: decoded and transformed one by one, on access."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from parbench.tasks.data.images import decoded
from parbench.tasks.data.preprocessing import Augmentation, Preprocessing

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from torchvision.transforms import Compose


@dataclass(frozen=True)
class ImageRows:
    """Rows that are decoded on access: only the encoded files, or their paths, are kept.

    Attributes:
        dataset: columns ``image`` (not decoded), ``label`` and, for errors, ``example``.
        preprocessing: turns an image into pixels.
    """

    dataset: Dataset
    preprocessing: Preprocessing

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: int) -> dict[str, Any]:
        """Return ``pixel_values`` of shape (3, height, width) and ``labels``."""
        return self.transformed(row, self._transform)

    def select(self, indices: Sequence[int]) -> ImageRows:
        """Return the rows at ``indices``, in that order."""
        return replace(self, dataset=self.dataset.select(indices))

    def transformed(self, row: int, transform: Compose) -> dict[str, Any]:
        """Return a row under another transform.

        Raises:
            UserError: the image cannot be decoded.
        """
        example = self.dataset[row]
        image = decoded(example["image"], f"image {example.get('example', row)}")
        return {"pixel_values": transform(image), "labels": example["label"]}

    @cached_property
    def _transform(self) -> Compose:
        return self.preprocessing.evaluation()


class AugmentedRows:
    """Rows under random transforms that depend on the seed, the epoch and the row, and on nothing else."""

    def __init__(self, rows: ImageRows, augmentation: Augmentation, seed: int) -> None:
        self._rows = rows
        self._augmentation: Augmentation = augmentation
        self._seed = seed
        self._epoch = 0
        self._transform = rows.preprocessing.training(augmentation)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> dict[str, Any]:
        """Return ``pixel_values`` of shape (3, height, width) and ``labels``."""
        with drawn_by(self._seed, self._epoch, row):
            return self._rows.transformed(row, self._transform)

    def set_epoch(self, epoch: int) -> None:
        """Draw again: another epoch, another crop."""
        self._epoch = epoch

    def select(self, indices: Sequence[int]) -> AugmentedRows:
        """Return the rows at ``indices``, in that order; each is then augmented by its new number."""
        return AugmentedRows(self._rows.select(indices), self._augmentation, self._seed)


@contextmanager
def drawn_by(*seed: int) -> Iterator[None]:
    """Seed torch's generator of the CPU for a block; the training's own draws are not affected."""
    import numpy as np
    import torch

    # Not `torch.manual_seed`, which would seed a GPU as well and so repeat its dropout.
    generator: torch.Generator = torch.default_generator
    before = generator.get_state()
    generator.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
    try:
        yield
    finally:
        generator.set_state(before)
