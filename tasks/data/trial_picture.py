"""Whether a processor makes the pixels that its description promises, tried on a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from parbench.bench.util.errors import UserError

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

# Rounding differs between libraries by less than one of the 255 steps of brightness, on the mean over the pixels.
_MOST_STEPS = 1.0


def check_pixels(processor: Any, ours: Any, size: tuple[int, int], std: tuple[float, ...]) -> None:
    """Check that a processor of images or videos gives a trial picture the pixels that a transform gives it.

    Some processors do more than their sizes, means and crops state: LeViT's resizes to 8/7 of its size, MobileViT's
    turns the colours round, EfficientNet's normalises twice.

    Args:
        processor: of transformers.
        ours: the transform, of an image into a float tensor of shape (3, height, width).
        size: height and width that the transform makes.
        std: of the normalisation, per channel: what a step of brightness is divided by.

    Raises:
        UserError: it fails on the picture, or gives it other pixels.
    """
    import torch

    kind = type(processor).__name__
    picture = trial_picture(*size)
    expected = ours(picture)
    try:
        found = _pixels(processor, picture)
    except (LookupError, TypeError, ValueError, RuntimeError, ImportError) as error:
        raise UserError(f"the image processor {kind} cannot process a picture: {str(error).strip()}") from error
    if found.numel() == expected.numel():
        scale = 255 * torch.tensor(std)
        if _steps_apart(found.reshape(expected.shape), expected, scale) <= _MOST_STEPS:
            return
    raise UserError(
        f"the image processor {kind} does more than resize, crop and normalise images as its settings state, which is "
        "not done here, and the model would see other images than it was trained on; give another base model"
    )


def trial_picture(height: int, width: int) -> Image:
    """Return an oblong picture of waves, larger than ``height`` and ``width``, in which no colour or side is another's.

    It is smooth, so that libraries that resize a little differently agree on it.
    """
    import numpy as np
    from PIL import Image

    rows, columns = round(1.25 * height), round(1.5 * width)
    y, x = np.mgrid[0:rows, 0:columns] / np.array([rows, columns]).reshape(2, 1, 1) * 4 * np.pi
    waves = [110 + 20 * colour + 80 * np.sin(x + colour) * np.cos(0.8 * y + 2 * colour) for colour in range(3)]
    return Image.fromarray(np.stack(waves, axis=-1).astype(np.uint8))


def _steps_apart(found: torch.Tensor, expected: torch.Tensor, scale: torch.Tensor) -> float:
    """Return by how many steps of brightness two pictures differ, on the mean over the pixels of the worst colour.

    One may be a pixel beside the other: half a pixel that a crop leaves over goes to either side.
    """
    shifts = [(down, right) for down in (0, -1, 1) for right in (0, -1, 1)]
    inside = (slice(None), slice(1, -1), slice(1, -1))
    apart = [(found.roll(shift, (1, 2)) - expected)[inside].abs().mean(dim=(1, 2)) * scale for shift in shifts]
    return min(float(steps.max()) for steps in apart)


def _pixels(processor: Any, picture: Image) -> torch.Tensor:
    """Return what a processor makes of a picture; of a processor of videos, of a clip with one frame."""
    import numpy as np
    import torch
    from transformers.video_processing_utils import BaseVideoProcessor

    is_of_videos = isinstance(processor, BaseVideoProcessor)
    made = processor([np.asarray(picture)[None]] if is_of_videos else picture, return_tensors="pt")
    name = next(name for name in processor.model_input_names if name.startswith("pixel_values"))
    return torch.as_tensor(np.asarray(made[name]), dtype=torch.float32)
