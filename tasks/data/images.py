"""Images as they are in files: read lazily, opened with suspicion, resized and normalised as the model wants them."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from parbench.bench.util.errors import UserError

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from PIL.Image import Image
    from torchvision.transforms import Compose

Augmentation = Literal["none", "flip", "crop_flip"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
Fit = Literal["model", "squash", "crop"]

# What PIL may open. Others of its formats start programs (EPS), or hold no picture in the usual sense.
FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
# An image of a few kilobytes can claim to be larger than any memory; PIL's own warning starts at about the same.
MOST_PIXELS = 80_000_000
# The shorter side is resized to hundreds of pixels: the longer one of a mere line would fill the memory.
MOST_RATIO = 200
# Of the resized image, what the usual crop keeps: 224 of 256 pixels.
USUAL_CROP = 0.875

# What PIL raises on broken files; `struct.error` and `SyntaxError` come from some formats' headers.
_BROKEN = (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, struct.error, Warning)


def checked_images(dataset: Dataset, column: str, where: str) -> Dataset:
    """Return ``dataset`` with the encoded images of ``column`` in ``image``; each header is read, no pixel decoded.

    Args:
        dataset: ``column`` holds a file's bytes, or is an `Image` feature of `datasets` (bytes, or a path).
        column: its name.
        where: the split in words, for a complaint.

    Raises:
        UserError: the column is of another type, or a row of it is missing, no image, or too large.
    """
    import pyarrow as pa
    from datasets import Image

    kind = dataset.data.schema.field(column).type
    is_struct = pa.types.is_struct(kind)
    fields = {field.name: field.type for field in kind} if is_struct else {"bytes": kind}
    held, path = fields.get("bytes", pa.bool_()), fields.get("path", pa.string())
    is_bytes = pa.types.is_binary(held) or pa.types.is_large_binary(held) or (is_struct and pa.types.is_null(held))
    if not is_bytes or not any(test(path) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_null)):
        raise UserError(f"{where} has {kind} in column {column}, not images: it must hold the bytes of image files")
    if column != "image":
        dataset = dataset.rename_column(column, "image")
    dataset = dataset.cast_column("image", Image(decode=False))
    for row, example in enumerate(dataset.select_columns("image")):
        _opened(example["image"], f"row {row + 1} of {where}").close()
    return dataset


def decoded(encoded: Mapping[str, Any] | None, name: str) -> Image:
    """Return an image in RGB, upright.

    Transparency is dropped, greys of 16 bits keep their upper 8, of an animation the first picture is shown.

    Args:
        encoded: ``bytes`` of a file, or its ``path``.
        name: what a complaint calls it.

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
            raise ValueError("its pixels have 32 bits, of which nothing says what is white")
        elif "transparency" in image.info:
            image = image.convert("RGBA")
        return image if image.mode == "RGB" and type(image) is Image.Image else image.convert("RGB")


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


@dataclass(frozen=True)
class Preprocessing:
    """How images become a model's pixels, in timm's terms.

    Attributes:
        size: height and width that the model gets.
        mean: per channel, of pixels in 0 to 1.
        std: likewise.
        interpolation: of the resizing.
        crop_pct: share of the resized image's sides that the crop keeps.
        crop_mode: timm's: ``center`` keeps the aspect ratio and loses the borders of an oblong image, ``squash`` does
            not keep it and loses nothing, ``border`` keeps it and pads.
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop_pct: float
    crop_mode: str = "center"

    @classmethod
    def of(cls, processor: Any) -> Self:
        """Return what an image processor of transformers does, or timm's own one (``TimmWrapperImageProcessor``).

        Raises:
            UserError: it does something else, or does not say what.
        """
        if hasattr(processor, "data_config"):
            return cls._of_timm(processor.data_config)
        kind = type(processor).__name__
        size = _plain(getattr(processor, "size", None))
        if not size or not getattr(processor, "do_resize", False):
            raise UserError(f"the image processor {kind} does not resize: an image task needs images of one size")
        if abs(255 * getattr(processor, "rescale_factor", 1 / 255) - 1) > 1e-6:
            raise UserError(f"the image processor {kind} scales pixels by {processor.rescale_factor}, and not by 1/255")
        resized = (size.get("height"), size.get("width"))
        edge = size.get("shortest_edge")
        crop = _plain(processor.crop_size) if getattr(processor, "do_center_crop", False) else None
        if None in resized and (edge is None or crop is None):
            raise UserError(f"the image processor {kind} does not make images of one size (it says {size})")
        height, width = (crop["height"], crop["width"]) if crop else (size["height"], size["width"])
        normalises = getattr(processor, "do_normalize", False)
        return cls(
            size=(height, width),
            mean=tuple(processor.image_mean) if normalises else (0.0, 0.0, 0.0),
            std=tuple(processor.image_std) if normalises else (1.0, 1.0, 1.0),
            interpolation=_interpolation(processor.resample),
            crop_pct=_kept(height, edge if edge is not None else size["height"]),
            crop_mode="center" if edge is not None else "squash",
        )

    @classmethod
    def _of_timm(cls, config: Mapping[str, Any]) -> Self:
        _, height, width = config["input_size"]
        return cls(
            size=(height, width),
            mean=tuple(config["mean"]),
            std=tuple(config["std"]),
            interpolation=config["interpolation"],
            crop_pct=config["crop_pct"],
            crop_mode=config["crop_mode"],
        )

    def changed(self, image_size: int | None, interpolation: Interpolation | None, fit: Fit) -> Preprocessing:
        """Return it with what a task's options say otherwise."""
        fits: dict[Fit, dict[str, Any]] = {
            "model": {},
            "squash": {"crop_pct": 1.0, "crop_mode": "squash"},
            "crop": {"crop_pct": USUAL_CROP, "crop_mode": "center"},
        }
        changes = fits[fit]
        if image_size is not None:
            changes |= {"size": (image_size, image_size)}
        if interpolation is not None:
            changes |= {"interpolation": interpolation}
        return replace(self, **changes)

    def evaluation(self) -> Compose:
        """Return timm's transform of an image in RGB into a float tensor of shape (3, height, width)."""
        from timm.data import create_transform

        return create_transform(
            input_size=(3, *self.size),
            interpolation=self.interpolation,
            mean=self.mean,
            std=self.std,
            crop_pct=self.crop_pct,
            crop_mode=self.crop_mode,
        )

    def training(self, augmentation: Augmentation) -> Compose:
        """Return the same with chance, which is drawn from torch's generator of the CPU.

        ``flip`` mirrors every other image; ``crop_flip`` also crops anywhere instead of in the middle, as Visual Prompt
        Tuning does on FGVC (Jia et al., 2022; its code's ``get_transforms``). Where the crop keeps the whole resized
        image there is nothing to choose.
        """
        from torchvision import transforms

        if augmentation == "none":
            return self.evaluation()
        resize, crop, *rest = self.evaluation().transforms
        if augmentation == "crop_flip":
            fill = tuple(round(255 * value) for value in self.mean)
            crop = transforms.RandomCrop(self.size, pad_if_needed=True, fill=fill)
        return transforms.Compose([resize, crop, transforms.RandomHorizontalFlip(), *rest])


@dataclass(frozen=True)
class ImageRows:
    """Rows that are decoded when they are asked for: what is kept are the encoded files, or their paths.

    Attributes:
        dataset: columns ``image`` (not decoded), ``label`` and, for complaints, ``example``.
        preprocessing: what makes pixels of an image.
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
        """Return a row under a transform of one's own.

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
        with _drawn_by(self._seed, self._epoch, row):
            return self._rows.transformed(row, self._transform)

    def set_epoch(self, epoch: int) -> None:
        """Draw anew: another epoch, another crop."""
        self._epoch = epoch

    def select(self, indices: Sequence[int]) -> AugmentedRows:
        """Return the rows at ``indices``, in that order; each is then augmented as its new number has it."""
        return AugmentedRows(self._rows.select(indices), self._augmentation, self._seed)


@contextmanager
def _drawn_by(*seed: int) -> Iterator[None]:
    """Seed torch's generator of the CPU for a block; the training's own draws go on as if nothing had happened."""
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


def _plain(size: Any) -> dict[str, int]:
    """Return a processor's size as a plain mapping of what it says."""
    if size is None or isinstance(size, int):
        return {"height": size, "width": size} if size else {}
    return {name: value for name, value in dict(size).items() if value is not None}


def _kept(cropped: int, resized: int) -> float:
    """Return the share that makes timm resize to ``resized``: it divides and rounds down, so it needs some room."""
    return 1.0 if cropped == resized else cropped / (resized + 0.5)


def _interpolation(resample: Any) -> str:
    from PIL.Image import Resampling

    return Resampling(int(resample)).name.lower()
