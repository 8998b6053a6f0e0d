import random

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset
from PIL import Image as Pil

from parbench.bench.util.errors import UserError
from parbench.tasks.data.image_rows import ImageRows
from parbench.tasks.data.images import MOST_RATIO, checked_images, decoded
from parbench.tasks.data.preprocessing import Preprocessing
from tests.support.pictures import EPS, WAV, encoded, images, picture, png_header

SMALL = Preprocessing((8, 8), (0.5,) * 3, (0.5,) * 3, "bilinear", 1.0, "squash")


def read(file, name="image train:0"):
    return decoded({"bytes": file, "path": None}, name)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_every_mode_is_shown_in_rgb(mode):
    kind = "JPEG" if mode in ("CMYK", "YCbCr") else "PNG"
    image = read(encoded(picture(12, 9).convert(mode), kind))
    assert (image.mode, image.size) == ("RGB", (12, 9))


@pytest.mark.parametrize("kind", ["BMP", "GIF", "JPEG", "JPEG2000", "PPM", "TIFF", "WEBP"])
def test_every_format_is_read(kind):
    plain = Pil.new("RGB", (12, 9), (200, 30, 90))
    image = read(encoded(plain, kind))
    assert image.size == (12, 9)
    assert np.asarray(image)[4, 6].tolist() == pytest.approx([200, 30, 90], abs=12)  # some compress with loss


def test_the_first_picture_of_an_animation_is_shown():
    frames = [Pil.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    image = read(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert image.getpixel((0, 0)) == (255, 0, 0)


def test_a_palette_with_transparency_is_shown_without_a_warning(recwarn):
    image = picture(4, 4).convert("P")
    assert read(encoded(image, transparency=bytes([0, 128] * 8))).mode == "RGB"
    assert not [warning for warning in recwarn if issubclass(warning.category, UserWarning)]


def test_sixteen_bits_keep_what_is_bright():
    grey = Pil.fromarray(np.array([[0, 257, 32896, 65535]], dtype=np.uint16))
    assert np.asarray(read(encoded(grey)))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_a_photograph_is_turned_upright():
    image = Pil.new("RGB", (8, 4), "black")
    image.paste("red", (0, 0, 4, 4))
    exif = Pil.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees to the right: what is left goes up
    upright = read(encoded(image, exif=exif))
    assert upright.size == (4, 8)
    assert upright.getpixel((2, 0)) == (255, 0, 0)
    assert upright.getpixel((2, 7)) == (0, 0, 0)


def test_one_pixel_is_an_image():
    dataset = checked_images(images([0], files=[encoded(picture(1, 1))]), "image", "the train split")
    pixels = ImageRows(dataset.add_column("number", [0]), SMALL).dataset[0]["image"]
    assert SMALL.evaluation()(decoded(pixels, "it")).shape == (3, 8, 8)


@pytest.mark.parametrize(
    ("file", "complaint"),
    [
        (b"a text", "it is none of BMP, GIF"),
        (WAV, "it is none of BMP, GIF"),
        (EPS, "it is none of BMP, GIF"),
        (b"", "has no image"),
        (png_header(10_000, 8_001), "10000 x 8001 pixels, and more than 80,000,000 are not decoded"),
        (png_header(50_000, 50_000), "2500000000 pixels. exceeds limit"),
        (png_header(30_000, 10), f"one side is over {MOST_RATIO} times the other"),
        (encoded(picture())[:20], "cannot be read as an image"),
    ],
)
def test_what_is_not_an_image_is_found_before_anything_is_decoded(file, complaint):
    dataset = images([0, 0], files=[encoded(picture()), file])
    with pytest.raises(UserError, match=f"row 2 of the test split.*{complaint}") as caught:
        checked_images(dataset, "image", "the test split")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_an_image_that_is_cut_off_is_named_when_it_is_needed(kind):
    whole = encoded(picture(64, 64), kind)
    dataset = images([0], files=[whole[: len(whole) * 2 // 3]]).cast_column("image", images([0]).features["image"])
    rows = ImageRows(
        dataset.cast_column("image", type(dataset.features["image"])(decode=False)).add_column("example", ["train:7"]),
        SMALL,
    )
    with pytest.raises(UserError, match="image train:7 cannot be read as an image"):
        rows[0]


@pytest.mark.filterwarnings("ignore")  # of what PIL thinks of broken EXIF data
def test_a_broken_file_is_an_image_or_a_sentence():
    draw = random.Random(0)
    whole = [encoded(picture(40, 30), kind) for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "JPEG2000")]
    outcomes = set()
    for _ in range(500):
        file = bytearray(draw.choice(whole))
        for _ in range(draw.choice((1, 5))):
            file[draw.randrange(min(len(file), draw.choice((60, 2000))))] = draw.randrange(256)
        try:
            outcomes.add(read(bytes(file)).mode)
        except UserError:
            outcomes.add("refused")
    assert outcomes == {"RGB", "refused"}


def test_pixels_without_a_defined_white_are_refused():
    with pytest.raises(UserError, match="32 bits"):
        read(encoded(Pil.fromarray(np.ones((4, 4), dtype=np.float32)), "TIFF"))


@pytest.mark.parametrize(
    ("column", "complaint"),
    [
        (pa.array(["a.png"]), "has string in column image, not images"),
        (pa.array([1]), "has int64 in column image"),
        (pa.array([None], pa.binary()), "row 1 of it has no image"),
        (pa.array([{"bytes": None, "path": "gone.png"}]), "gone.png.*there is no such file"),
        (pa.array([{"bytes": None, "path": "/dev/zero"}]), "/dev/zero.*there is no such file"),
    ],
)
def test_columns_without_images_are_refused(column, complaint):
    with pytest.raises(UserError, match=complaint):
        checked_images(Dataset(pa.table({"image": column})), "image", "it")


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_plain_bytes_are_images(kind):
    table = pa.table({"picture": pa.array([encoded(picture())], kind)})
    assert decoded(checked_images(Dataset(table), "picture", "it")[0]["image"], "it").size == (12, 9)
