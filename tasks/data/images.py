"""Image files: what may be opened, and how it becomes a picture in RGB."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parbench.bench.util.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset
    from PIL.Image import Image

# What PIL may open. Others of its formats start programs (EPS), or hold no picture in the usual sense.
FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
# An image of a few kilobytes can claim to be larger than any memory; PIL's own warning starts at about the same.
MOST_PIXELS = 80_000_000
# The shorter side is resized to hundreds of pixels: the longer one of a mere line would fill the memory.
MOST_RATIO = 200

# What PIL raises on broken files; `struct.error` and `SyntaxError` come from some formats' headers.
_BROKEN = (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, struct.error, Warning)


def checked_images(dataset: Dataset, column: str, where: str) -> Dataset:
    """Return ``dataset`` with the encoded images of ``column`` in ``image``; each header is read, no pixel decoded.

    Args:
        dataset: ``column`` holds a file's bytes, or is an `Image` feature of `datasets` (bytes, or a path).
        column: its name.
        where: the split in words, for an error.

    Raises:
        UserError: the column is of another type, or a row of it is missing, no image, or too large.
    """
    from datasets import Image

    _check_kind(dataset.data.schema.field(column).type, column, where)
    if column != "image":
        dataset = dataset.rename_column(column, "image")
    dataset = dataset.cast_column("image", Image(decode=False))
    for row, example in enumerate(dataset.select_columns("image")):
        _opened(example["image"], f"row {row + 1} of {where}").close()
    return dataset


def checked_image_columns(dataset: Dataset, columns: Sequence[str], where: str) -> Dataset:
    """Return the encoded images of some columns as ``image_1``, ``image_2``, ...; each header is read once per file.

    A column holds one image per row, as in `checked_images`, or a list of one or more.

    Raises:
        UserError: as `checked_images`.
    """
    import pyarrow as pa
    from datasets import Image, List

    renamed = {column: f"image_{number}" for number, column in enumerate(columns, start=1)}
    dataset = dataset.select_columns(list(columns)).rename_columns(renamed)
    for column, name in renamed.items():
        kind = dataset.data.schema.field(name).type
        several = pa.types.is_list(kind) or pa.types.is_large_list(kind)
        _check_kind(kind.value_type if several else kind, column, where)
        dataset = dataset.cast_column(name, List(Image(decode=False)) if several else Image(decode=False))
    known: set[str] = set()
    for row, example in enumerate(dataset, start=1):
        images = images_of(example)
        if not images:
            raise UserError(f"row {row} of {where} has no image; give one, or remove the row")
        for image in images:
            if image and image.get("path") in known and not image.get("bytes"):
                continue
            _opened(image, f"row {row} of {where}").close()
            known.add(image["path"])
    return dataset


def images_of(example: Mapping[str, Any]) -> list[Any]:
    """Return the encoded images of an example in their order: its ``image``, or ``image_1``, ``image_2`` and so on."""
    if "image" in example:
        return [example["image"]]
    found: list[Any] = []
    number = 1
    while (name := f"image_{number}") in example:
        value = example[name]
        found += value if isinstance(value, list) else [value]
        number += 1
    return found


def decoded(encoded: Mapping[str, Any] | None, name: str) -> Image:
    """Return an image in RGB, upright.

    Transparency is dropped, greys of 16 bits keep their upper 8, of an animation the first picture is shown.

    Args:
        encoded: ``bytes`` of a file, or its ``path``.
        name: its name in an error.

    Raises:
        UserError: it is missing, broken, no image, or too large.
    """
    import numpy as np
    from PIL import Image, ImageOps

    image = _opened(encoded, name)
    with _explained(encoded, name):
        image.load()
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I;16"):
            # PIL would clip all that is brighter than 255.
            image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
        elif image.mode in ("I", "F"):
            raise ValueError("its pixels have 32 bits, and nothing defines which value is white")
        elif "transparency" in image.info:
            image = image.convert("RGBA")
        return image if image.mode == "RGB" and type(image) is Image.Image else image.convert("RGB")


def _check_kind(kind: pa.DataType, column: str, where: str) -> None:
    """Check that a column's type is that of image files.

    Raises:
        UserError: it is not.
    """
    import pyarrow as pa

    is_struct = pa.types.is_struct(kind)
    fields = {field.name: field.type for field in kind} if is_struct else {"bytes": kind}
    held, path = fields.get("bytes", pa.bool_()), fields.get("path", pa.string())
    is_bytes = pa.types.is_binary(held) or pa.types.is_large_binary(held) or (is_struct and pa.types.is_null(held))
    if not is_bytes or not any(test(path) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_null)):
        raise UserError(f"{where} has {kind} in column {column}, not images: it must hold the bytes of image files")


def _opened(encoded: Mapping[str, Any] | None, name: str) -> Image:
    """Read an image's header."""
    from PIL import Image

    if not encoded or (not encoded.get("bytes") and not encoded.get("path")):
        raise UserError(f"{name} has no image; give one, or remove the row")
    with _explained(encoded, name), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        image = Image.open(_source(encoded), formats=FORMATS)
        width, height = image.size
        if width * height > MOST_PIXELS:
            raise ValueError(f"it has {width} x {height} pixels, and more than {MOST_PIXELS:,} are not decoded")
        if max(width, height) > MOST_RATIO * min(width, height):
            raise ValueError(f"it has {width} x {height} pixels, and one side is over {MOST_RATIO} times the other")
        return image


def _source(encoded: Mapping[str, Any]) -> io.BytesIO | Path:
    if encoded.get("bytes"):
        return io.BytesIO(encoded["bytes"])
    path = Path(encoded["path"])
    if not path.is_file():
        raise OSError("there is no such file")
    return path


@contextmanager
def _explained(encoded: Mapping[str, Any] | None, name: str) -> Iterator[None]:
    from PIL import Image

    try:
        yield
    except (*_BROKEN, Image.DecompressionBombError) as error:
        path = encoded.get("path") if encoded else None
        called = f'{name} ("{path}")' if path else name
        unknown = isinstance(error, Image.UnidentifiedImageError)
        reason = f"it is none of {', '.join(FORMATS)}" if unknown else " ".join(str(error).split())
        raise UserError(f"{called} cannot be read as an image: {reason}; replace or remove it") from error
