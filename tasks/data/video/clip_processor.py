"""What a base model asks of clips: how many frames, and what each of them is like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ClipProcessor:
    """How clips are prepared for a base model.

    Attributes:
        image: its image or video processor, for `parbench.tasks.data.preprocessing.Preprocessing.of`.
        frames: how many frames it was made for; ``None`` of a model of images.
        fixed: whether it takes no other number.
    """

    image: Any
    frames: int | None = None
    fixed: bool = False
