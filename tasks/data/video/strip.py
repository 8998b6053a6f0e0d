"""The frames of a clip as one small picture, for a report."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

# Of a clip's frames, and their height in pixels: a JPEG of these has a few kilobytes.
MOST_FRAMES, HEIGHT, MOST_WIDTH = 4, 56, 100


def strip(frames: np.ndarray) -> bytes:
    """Return the file of a JPEG with some frames side by side, in their order.

    Args:
        frames: uint8 of shape (frames, height, width, 3).
    """
    chosen = frames[np.linspace(0, len(frames) - 1, min(MOST_FRAMES, len(frames))).round().astype(int)]
    _, height, width, _ = chosen.shape
    size = (min(MOST_WIDTH, max(1, round(width * HEIGHT / height))), HEIGHT)
    row = np.concatenate([np.asarray(Image.fromarray(frame).resize(size)) for frame in chosen], axis=1)
    file = io.BytesIO()
    Image.fromarray(row).save(file, "JPEG", quality=70)
    return file.getvalue()
