"""Clips as rows of a data set: decoded and transformed on access, those of a batch at the same time."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import torch
from PIL import Image

from parbench.tasks.data.image_rows import drawn_by
from parbench.tasks.data.preprocessing import Augmentation, Place, Preprocessing
from parbench.tasks.data.video.columns import VIDEO
from parbench.tasks.data.video.decoding import encoded, facts, read_frames
from parbench.tasks.data.video.frame_cache import FrameCache
from parbench.tasks.data.video.sampling import Sampling

if TYPE_CHECKING:
    from datasets import Dataset
    from torchvision.transforms import Compose

# More clips than these are not decoded at the same time, for their memory.
MOST_THREADS = 8
# How a model gets the frames of a clip: one after the other, or side by side in one picture.
Layout = Literal["frames", "grid"]
Result = TypeVar("Result")


@dataclass(frozen=True)
class ClipRows:
    """Rows that are decoded on access: only the files, or their paths, are kept in memory.

    Attributes:
        dataset: columns ``video`` (bytes or path of a file), ``label`` and, for errors, ``example``.
        preprocessing: turns a frame into pixels.
        sampling: which frames.
        layout: how the model gets them.
        cache: of decoded frames.
        crop: where frames are cropped in evaluation; ``None`` as the preprocessing does.
    """

    dataset: Dataset
    preprocessing: Preprocessing
    sampling: Sampling
    layout: Layout
    cache: FrameCache
    crop: Place | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: int) -> dict[str, Any]:
        """Return ``labels`` and ``pixel_values``: (frames, 3, height, width), of a grid (3, height, width)."""
        return self.__getitems__([row])[0]

    def __getitems__(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Return several rows, as torch's data loader asks for those of a batch."""
        return self.transformed(rows)

    def transformed(
        self, rows: Sequence[int], draws: Sequence[np.random.Generator] | None = None
    ) -> list[dict[str, Any]]:
        """Return rows under the transform of evaluation; see `each`."""
        transform = self._transform

        def pixels(frames: np.ndarray) -> list[torch.Tensor]:
            return [transform(Image.fromarray(frame)) for frame in frames]

        return [self.row(row, found) for row, found in zip(rows, self.each(rows, pixels, draws), strict=True)]

    def select(self, indices: Sequence[int]) -> ClipRows:
        """Return the rows at ``indices``, in that order."""
        return replace(self, dataset=self.dataset.select(indices))

    def views(self, times: int, crops: int) -> Iterator[ClipRows]:
        """Yield the same rows as each of their views in evaluation shows them.

        Args:
            times: choices of frames, see `parbench.tasks.data.video.sampling.Sampling`.
            crops: of each: 1, as the preprocessing does, or 3, along the longer side.
        """
        places: dict[int, tuple[Place | None, ...]] = {1: (None,), 3: ("start", "middle", "end")}
        for view in range(times):
            sampling = replace(self.sampling, view=view, views=times)
            yield from (replace(self, sampling=sampling, crop=place) for place in places[crops])

    def row(self, row: int, frames: Sequence[torch.Tensor]) -> dict[str, Any]:
        """Return a row with the pixels of its frames in the layout of the model."""
        pixels = torch.stack(list(frames))
        return {
            "pixel_values": in_grid(pixels) if self.layout == "grid" else pixels,
            "labels": self.dataset[row]["label"],
        }

    def each(
        self,
        rows: Sequence[int],
        change: Callable[[np.ndarray], Result],
        draws: Sequence[np.random.Generator] | None = None,
    ) -> Iterator[Result]:
        """Yield what becomes of the frames of clips, several of which are read at the same time.

        Args:
            rows: which clips.
            change: gets a clip's frames, uint8 of shape (frames, height, width, 3); it must not draw.
            draws: draw which frames of each; ``None`` takes those of evaluation, which are kept on the disk.

        Raises:
            UserError: a clip cannot be decoded.
        """
        examples = [self.dataset[row] for row in rows]
        names = [f"clip {example.get('example', row)}" for row, example in zip(rows, examples, strict=True)]
        drawn: Sequence[np.random.Generator | None] = draws or [None] * len(rows)
        jobs = list(zip([example[VIDEO] for example in examples], names, drawn, strict=True))
        size = min(MOST_THREADS, len(os.sched_getaffinity(0)))
        # Decoders and image libraries work outside of Python's lock.
        with ThreadPoolExecutor(max_workers=size) as threads:
            for start in range(0, len(jobs), size):
                yield from list(threads.map(lambda job: change(self._frames(*job)), jobs[start : start + size]))

    def _frames(self, clip: Mapping[str, Any], name: str, draw: np.random.Generator | None) -> np.ndarray:
        content = encoded(clip, name)
        digest = hashlib.sha256(content).hexdigest()
        total = self.cache.facts(digest, lambda: facts(content, clip, name)).frames
        numbers = self.sampling.numbers(total, draw)

        def read() -> np.ndarray:
            return read_frames(content, numbers, clip, name)

        return read() if draw else self.cache.frames(digest, numbers, read)

    @cached_property
    def _transform(self) -> Compose:
        return self.preprocessing.at(self.crop) if self.crop else self.preprocessing.evaluation()


class DrawnClips:
    """Rows under random frames and transforms that depend on the seed, the epoch and the row, and on nothing else.

    All frames of a clip are cropped and mirrored alike.
    """

    def __init__(self, rows: ClipRows, augmentation: Augmentation, jitter: bool, seed: int) -> None:
        self._rows = rows
        self._augmentation: Augmentation = augmentation
        self._jitter = jitter
        self._seed = seed
        self._epoch = 0
        self._transform = rows.preprocessing.training(augmentation)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> dict[str, Any]:
        """Return ``labels`` and ``pixel_values``, see `ClipRows`."""
        return self.__getitems__([row])[0]

    def __getitems__(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Return several rows, as torch's data loader asks for those of a batch."""
        seeds = [(self._seed, self._epoch, row) for row in rows]
        draws = [np.random.default_rng(seed) for seed in seeds] if self._jitter else None
        if self._augmentation == "none":
            return self._rows.transformed(rows, draws)
        found = []
        for row, seed, frames in zip(rows, seeds, self._rows.each(rows, lambda frames: frames, draws), strict=True):
            pixels = []
            for frame in frames:
                with drawn_by(*seed):
                    pixels.append(self._transform(Image.fromarray(frame)))
            found.append(self._rows.row(row, pixels))
        return found

    def set_epoch(self, epoch: int) -> None:
        """Draw again: another epoch, other frames and crops."""
        self._epoch = epoch

    def select(self, indices: Sequence[int]) -> DrawnClips:
        """Return the rows at ``indices``, in that order; each is then drawn by its new number."""
        return DrawnClips(self._rows.select(indices), self._augmentation, self._jitter, self._seed)


def grid_side(frames: int) -> int:
    """Return how many frames are side by side in the square grid that holds so many."""
    return math.isqrt(frames - 1) + 1


def in_grid(frames: torch.Tensor) -> torch.Tensor:
    """Return the frames of a clip as one square picture: row by row, from the first at the top left.

    Places without a frame are zero, the mean colour.

    Args:
        frames: shape (frames, 3, height, width).

    Returns:
        shape (3, side * height, side * width).
    """
    count, channels, height, width = frames.shape
    side = grid_side(count)
    padded = torch.cat([frames, frames.new_zeros(side * side - count, channels, height, width)])
    cells = padded.view(side, side, channels, height, width)
    return cells.permute(2, 0, 3, 1, 4).reshape(channels, side * height, side * width)
