"""Clips of a handwritten digit that moves: made by rule from scikit-learn's digits.

Each of the 1,797 images moves once across a black picture: to the right, left, bottom or top, from one side to the
other, at a place across that is drawn. A clip's class is the digit and the direction. The same clip backwards is one of
the opposite direction, so that nothing in its frames but their order tells the two apart.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parbench.tasks.data.digits import digit_images, drawn
from parbench.tasks.data.source import DataRef
from parbench.tasks.data.split import CUT_SEED
from parbench.tasks.data.video.decoding import require_decoder

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset

DIRECTIONS = ("right", "left", "down", "up")
LABELS = tuple(f"{digit} {direction}" for digit in range(10) for direction in DIRECTIONS)
# Of a clip, a picture and a digit.
FRAMES, SIDE, DIGIT = 12, 16, 8
TRAIN_CLIPS, SELECTION_CLIPS = 900, 250


@dataclass(frozen=True)
class MovingDigitsSource:
    """The clips, in three splits of their own."""

    def missing(self, data: DataRef) -> str | None:
        """Return ``None``: scikit-learn is always installed."""
        return None

    def describe(self, data: DataRef) -> str:
        """Return where the images are, and what became of them."""
        return "scikit-learn's digits (UCI), made to move by rule"

    def revision(self, data: DataRef) -> str:
        """Return the hash of all frames and labels, which does not depend on how they are encoded."""
        clips, labels = moving_digits()
        return f"sha256:{hashlib.sha256(clips.tobytes() + labels.tobytes()).hexdigest()}"

    def load(self, data: DataRef) -> dict[str, Dataset]:
        """Return the clips as video files without loss, with labels.

        Raises:
            UserError: there is nothing to encode them with.
        """
        from datasets import Dataset

        clips, labels = moving_digits()
        whole = Dataset.from_dict({"video": [_encoded(clip) for clip in clips], "label": labels.tolist()})
        rows = {data.train: TRAIN_CLIPS, data.selection or "selection": SELECTION_CLIPS}
        (reported,) = data.reported.values()
        return {name: whole.select(part) for name, part in drawn(labels, rows, reported).items()}


def moving_digits() -> tuple[np.ndarray, np.ndarray]:
    """Return the clips, uint8 of shape (1797, frames, side, side), and the places of their classes in `LABELS`."""
    import numpy as np

    images, digits = digit_images()
    draw = np.random.default_rng(CUT_SEED)
    # Every direction as often with every digit.
    order = draw.permutation(len(digits))
    directions = np.empty(len(digits), dtype=np.int64)
    for digit in range(10):
        members = order[digits[order] == digit]
        directions[members] = np.arange(len(members)) % len(DIRECTIONS)
    across = draw.integers(SIDE - DIGIT, size=len(digits), endpoint=True)
    along = np.round(np.linspace(0, SIDE - DIGIT, FRAMES)).astype(int)
    clips = np.zeros((len(digits), FRAMES, SIDE, SIDE), dtype=np.uint8)
    for clip, image, direction, place in zip(clips, images, directions, across, strict=True):
        forwards = DIRECTIONS[direction] in ("right", "down")
        for frame, moved in zip(clip, along if forwards else along[::-1], strict=True):
            top, left = (place, moved) if DIRECTIONS[direction] in ("right", "left") else (moved, place)
            frame[top : top + DIGIT, left : left + DIGIT] = image
    return clips, digits * len(DIRECTIONS) + directions


def _encoded(clip: np.ndarray) -> bytes:
    """Return a clip as a file: its pixels as they are, in Matroska."""
    av = require_decoder()
    file = io.BytesIO()
    # Without what differs from file to file, such as a random identity.
    with av.open(file, "w", format="matroska", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("rawvideo", rate=FRAMES)
        stream.height, stream.width = clip.shape[1:]
        stream.pix_fmt = "gray"
        for frame in clip:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
        container.mux(stream.encode())
    return file.getvalue()
