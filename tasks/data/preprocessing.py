"""How images are resized and normalised for a model, and augmented for training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Self

from parbench.bench.util.errors import UserError
from parbench.tasks.data.trial_picture import check_pixels

if TYPE_CHECKING:
    from PIL.Image import Image
    from torchvision.transforms import Compose

Augmentation = Literal["none", "flip", "crop_flip"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
ImageFit = Literal["model", "squash", "crop"]
# Where along its longer side an image is cropped.
Place = Literal["start", "middle", "end"]

# Of the resized image, what the usual crop keeps: 224 of 256 pixels.
USUAL_CROP = 0.875


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
            UserError: it does something else, or does not describe it.
        """
        if hasattr(processor, "data_config"):
            return cls._of_timm(processor.data_config)
        kind = type(processor).__name__
        size = _plain(getattr(processor, "size", None))
        if not size or not getattr(processor, "do_resize", False):
            raise UserError(f"the image processor {kind} does not resize: an image task needs images of one size")
        factor = 255 * getattr(processor, "rescale_factor", 1 / 255)
        # ViViT's: into -1 to 1, and then by mean and standard deviation once more.
        centred = kind.startswith("Vivit") and abs(factor - 2) < 1e-6 and getattr(processor, "offset", True)
        if abs(factor - 1) > 1e-6 and not centred:
            raise UserError(f"the image processor {kind} scales pixels by {processor.rescale_factor}, and not by 1/255")
        resized = (size.get("height"), size.get("width"))
        edge = size.get("shortest_edge")
        crop = _plain(processor.crop_size) if getattr(processor, "do_center_crop", False) else None
        if None in resized and (edge is None or crop is None):
            raise UserError(f"the image processor {kind} does not make images of one size (its size is {size})")
        height, width = (crop["height"], crop["width"]) if crop else (size["height"], size["width"])
        normalises = getattr(processor, "do_normalize", False)
        mean = tuple(processor.image_mean) if normalises else (0.0, 0.0, 0.0)
        std = tuple(processor.image_std) if normalises else (1.0, 1.0, 1.0)
        found = cls(
            size=(height, width),
            mean=tuple((1 + value) / 2 for value in mean) if centred else mean,
            std=tuple(value / 2 for value in std) if centred else std,
            interpolation=_interpolation(processor.resample),
            crop_pct=_kept(height, edge if edge is not None else size["height"]),
            crop_mode="center" if edge is not None else "squash",
        )
        check_pixels(processor, found.evaluation(), found.size, found.std)
        return found

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

    def changed(self, image_size: int | None, interpolation: Interpolation | None, fit: ImageFit) -> Preprocessing:
        """Return it with what a task's options change."""
        fits: dict[ImageFit, dict[str, Any]] = {
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

    def divided(self, parts: int) -> Preprocessing:
        """Return it for one of ``parts`` times ``parts`` pictures that together have the size of one.

        Raises:
            UserError: its size cannot be divided so.
        """
        height, width = self.size
        if height % parts or width % parts:
            raise UserError(
                f"a grid of {parts} by {parts} frames does not fit into {height} x {width} pixels; give an image_size "
                f"that is a multiple of {parts}"
            )
        return replace(self, size=(height // parts, width // parts))

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

    def at(self, place: Place) -> Compose:
        """Return a transform that resizes the shorter side to the crop's, and crops the longer one at a place.

        All three places see the whole image, where it is not longer than three crops.
        """
        from torchvision import transforms

        resize, _, *rest = replace(self, crop_pct=1.0, crop_mode="center").evaluation().transforms
        return transforms.Compose([resize, _CropAt(self.size, place), *rest])

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
class _CropAt:
    """Crops an image at one end of what it has too much, or in the middle."""

    size: tuple[int, int]
    place: Place

    def __call__(self, image: Image) -> Image:
        height, width = self.size
        left, top = image.width - width, image.height - height
        share = {"start": 0.0, "middle": 0.5, "end": 1.0}[self.place]
        x, y = int(share * left), int(share * top)
        return image.crop((x, y, x + width, y + height))


def _plain(size: Any) -> dict[str, int]:
    """Return a processor's size as a plain mapping, without what is not set."""
    if size is None or isinstance(size, int):
        return {"height": size, "width": size} if size else {}
    return {name: value for name, value in dict(size).items() if value is not None}


def _kept(cropped: int, resized: int) -> float:
    """Return the share that makes timm resize to ``resized``: it divides and rounds down, so it needs some room."""
    return 1.0 if cropped == resized else cropped / (resized + 0.5)


def _interpolation(resample: Any) -> str:
    from PIL.Image import Resampling

    return Resampling(int(resample)).name.lower()
