"""Pixels as processors and timm make them, the rows that hold them, and their augmentation."""

import pickle
import random

import numpy as np
import pytest
import torch
from PIL import Image as Pil

from parbench.bench.util.errors import UserError
from parbench.tasks.data.image_rows import AugmentedRows, ImageRows
from parbench.tasks.data.images import checked_images
from parbench.tasks.data.preprocessing import Preprocessing
from parbench.tasks.data.trial_picture import trial_picture
from tests.support.pictures import encoded, images, picture


def vit(**settings):
    from transformers import ViTImageProcessorPil

    return ViTImageProcessorPil(**{"size": {"height": 24, "width": 24}, **settings})


def bit(**settings):
    from transformers import BitImageProcessorPil

    crop = {"height": 24, "width": 24}
    return BitImageProcessorPil(**{"size": {"shortest_edge": 32}, "crop_size": crop, **settings})


def deit(**settings):
    from transformers import DeiTImageProcessorPil

    crop = {"height": 24, "width": 24}
    return DeiTImageProcessorPil(**{"size": {"height": 28, "width": 28}, "crop_size": crop, **settings})


@pytest.mark.parametrize("make", [vit, bit, deit])
@pytest.mark.parametrize("size", [(40, 40), (60, 40), (40, 70)])
@pytest.mark.parametrize("settings", [{}, {"resample": Pil.Resampling.LANCZOS}, {"do_normalize": False}])
def test_pixels_are_those_of_transformers_processors(make, size, settings):
    processor = make(**settings)
    image = picture(*size)
    ours = Preprocessing.of(processor).evaluation()(image)
    theirs = torch.as_tensor(np.asarray(processor(image)["pixel_values"][0]))
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() < 1e-5


def test_pixels_are_those_of_timms_processor():
    from transformers import TimmWrapperImageProcessor

    config = {"input_size": (3, 24, 24), "crop_pct": 0.9, "interpolation": "bicubic", "mean": (0.1, 0.2, 0.3)}
    processor = TimmWrapperImageProcessor(pretrained_cfg=config)
    image = picture(61, 40)
    theirs = processor(image)["pixel_values"][0]
    assert torch.equal(Preprocessing.of(processor).evaluation()(image), theirs)


@pytest.mark.parametrize(
    ("processor", "complaint"),
    [
        (vit(do_resize=False), "does not resize"),
        (vit(rescale_factor=1 / 127.5), "scales pixels by"),
        (bit(do_center_crop=False), "does not make images of one size"),
    ],
)
def test_processors_that_do_something_else_are_refused(processor, complaint):
    with pytest.raises(UserError, match=complaint):
        Preprocessing.of(processor)


@pytest.mark.parametrize("kind", ["LevitImageProcessor", "MobileViTImageProcessor", "EfficientNetImageProcessor"])
def test_a_processor_that_does_more_than_its_settings_state_is_refused(kind):
    """LeViT's resizes to 8/7 of its size, MobileViT's swaps red and blue, EfficientNet's normalises twice."""
    import transformers

    with pytest.raises(UserError, match=f"{kind} does more than resize, crop and normalise"):
        Preprocessing.of(getattr(transformers, kind)())


@pytest.mark.parametrize(
    "kind", ["BeitImageProcessor", "CLIPImageProcessor", "DINOv3ViTImageProcessor", "MobileNetV2ImageProcessor"]
)
@pytest.mark.parametrize("side", [48, 97])
def test_libraries_that_resize_or_crop_a_little_differently_agree(kind, side):
    import transformers

    made = getattr(transformers, kind)
    settings = {"size": {"height": side, "width": side}, "do_center_crop": False}
    if kind == "MobileNetV2ImageProcessor":
        settings = {"size": {"shortest_edge": side + 10}, "crop_size": {"height": side, "width": side}}
    processor = made(**settings)
    image = trial_picture(side, side)
    ours = Preprocessing.of(processor).evaluation()(image)
    theirs = torch.as_tensor(np.asarray(processor(image, return_tensors="pt")["pixel_values"][0]))
    assert (ours - theirs).abs().mean() < 0.1


def test_options_change_what_they_name():
    own = Preprocessing.of(bit())
    assert own.changed(None, None, "model") == own
    squash = own.changed(16, "bicubic", "squash")
    assert (squash.size, squash.interpolation, squash.mean) == ((16, 16), "bicubic", own.mean)
    wide = Pil.new("RGB", (80, 16), "black")
    wide.paste("white", (0, 0, 8, 16))
    assert squash.evaluation()(wide)[0, 8, 0] == pytest.approx(1, abs=2)
    lit = [own.changed(16, None, fit).evaluation()(wide)[0].max() for fit in ("squash", "crop")]
    assert lit[0] > lit[1]  # the bright edge is cropped away


def rows(count=6, side=40):
    dataset = images(
        [number % 2 for number in range(count)], files=[encoded(picture(side, side, n)) for n in range(count)]
    )
    checked = checked_images(dataset, "image", "it")
    return ImageRows(checked, Preprocessing.of(bit()))


def test_rows_keep_files_and_can_be_pickled_and_selected():
    some = rows()
    again = pickle.loads(pickle.dumps(some))  # noqa: S301 - our own
    picked = some.select([4, 1])
    assert len(picked) == 2
    for row, number in enumerate((4, 1)):
        assert torch.equal(picked[row]["pixel_values"], some[number]["pixel_values"])
        assert torch.equal(again[number]["pixel_values"], some[number]["pixel_values"])
        assert picked[row]["labels"] == number % 2
    # Forty by forty pixels as float32 are four times a random PNG.
    assert len(pickle.dumps(some)) < 6 * 24 * 24 * 3 * 4


def test_augmentation_depends_on_seed_epoch_and_row_alone():
    def pixels(seed, epoch, row):
        augmented = AugmentedRows(rows(), "crop_flip", seed)
        augmented.set_epoch(epoch)
        return augmented[row]["pixel_values"]

    first = pixels(1, 0, 2)
    random.seed(5)
    torch.manual_seed(5)
    assert torch.equal(pixels(1, 0, 2), first)
    assert not torch.equal(pixels(2, 0, 2), first)
    assert not torch.equal(pixels(1, 1, 2), first)
    assert torch.equal(AugmentedRows(rows().select([3, 4]), "flip", 1).select([0])[0]["pixel_values"], _flip_of(3))


def _flip_of(number):
    return AugmentedRows(rows().select([number]), "flip", 1)[0]["pixel_values"]


def test_augmentation_leaves_all_other_draws_alone():
    augmented = AugmentedRows(rows(), "crop_flip", 1)
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    augmented[0]
    assert torch.equal(torch.rand(2), expected)


def test_a_flip_is_a_mirror_and_happens_every_other_time():
    plain = rows()[0]["pixel_values"]
    augmented = AugmentedRows(rows(), "flip", 3)
    flipped = 0
    for epoch in range(40):
        augmented.set_epoch(epoch)
        pixels = augmented[0]["pixel_values"]
        assert torch.equal(pixels, plain) or torch.equal(pixels, plain.flip(2))
        flipped += torch.equal(pixels, plain.flip(2))
    assert 10 < flipped < 30  # of 40 throws of a coin, beyond three standard deviations


def test_a_crop_is_taken_anywhere():
    preprocessing = Preprocessing.of(bit())
    resized = preprocessing.training("crop_flip").transforms[0]
    assert resized(picture(40, 40)).size == (32, 32)
    augmented = AugmentedRows(rows(), "crop_flip", 3)
    found = set()
    for epoch in range(30):
        augmented.set_epoch(epoch)
        pixels = augmented[0]["pixel_values"]
        assert pixels.shape == (3, 24, 24)
        found.add(tuple(pixels[0, 0, :3].tolist()))
    assert len(found) > 20  # of 2 x 81 that there are
