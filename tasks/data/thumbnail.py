"""The images of an example as one small picture, for a report."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from PIL import Image

from parbench.tasks.data.images import decoded, images_of

# Pixels of a picture's longer side; a JPEG of it has two or three kilobytes.
PICTURE_SIDE = 112


def thumbnail(example: Mapping[str, Any]) -> bytes:
    """Return the file of a JPEG with the images of an example beside each other."""
    images = [decoded(image, f"an image of example {example['example']}") for image in images_of(example)]
    width = max(PICTURE_SIDE // len(images), PICTURE_SIDE // 4)
    images = [_fitted(image, width) for image in images]
    sheet = Image.new("RGB", (sum(image.width for image in images), max(image.height for image in images)), "white")
    at = 0
    for image in images:
        sheet.paste(image, (at, 0))
        at += image.width
    file = io.BytesIO()
    sheet.save(file, "JPEG", quality=80)
    return file.getvalue()


def _fitted(image: Image.Image, width: int) -> Image.Image:
    """Return an image of at most this width and `PICTURE_SIDE`; one of few pixels is enlarged, so that it is seen."""
    if (times := PICTURE_SIDE // (2 * max(image.size))) > 1:
        image = image.resize((times * image.width, times * image.height), Image.Resampling.NEAREST)
    image.thumbnail((width, PICTURE_SIDE))
    return image
