"""Which frames of a clip are read: a part of a task's definition, whatever decodes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sampling:
    """Frames of a clip by their numbers from 0 in the order in which they are shown; time stamps do not matter.

    With a ``stride``, the frames are so many apart, from the middle of the clip or, where they are drawn, from anywhere
    in it. In a clip that is shorter the last frame stands for all that would come after it. Without one, the clip is
    cut into as many equal parts as frames are read, and of each part the middle frame is taken or, where they are
    drawn, any (temporal segments, Wang et al., 2016); in a clip with fewer frames some are taken several times.

    Of several views of a clip each is another choice of frames, at even distances: with a ``stride`` they begin where
    mmaction2's ``SampleFrames`` has them, by which Video Swin was tested (Liu et al., 2021); without one, each takes
    another frame of every part.

    Attributes:
        frames: how many are read.
        stride: distance from one to the next; ``None`` spreads them over the whole clip.
        view: which of the views, from 0.
        views: how many there are.
    """

    frames: int
    stride: int | None = None
    view: int = 0
    views: int = 1

    def numbers(self, total: int, draw: np.random.Generator | None = None) -> tuple[int, ...]:
        """Return the numbers of the frames in a clip of ``total`` frames, ascending.

        Args:
            total: frames of the clip, one at least.
            draw: draws the place of the frames, for training; ``None`` takes the middle, or the view's, for evaluation.
        """
        places = np.arange(self.frames)
        if self.stride is None:
            within = (self.view + 0.5) / self.views if draw is None else draw.random(self.frames)
            found = np.floor((places + within) * total / self.frames).astype(int)
        else:
            room = max(0, total - (self.frames - 1) * self.stride - 1)
            start = self._start(total, room) if draw is None else int(draw.integers(room, endpoint=True))
            found = start + self.stride * places
        return tuple(np.minimum(found, total - 1).tolist())

    def _start(self, total: int, room: int) -> int:
        if self.views == 1 or self.stride is None:
            return room // 2
        return int((self.view + 0.5) * max(0, total - self.frames * self.stride + 1) / self.views)
