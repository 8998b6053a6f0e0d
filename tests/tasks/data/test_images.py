import pickle
import random

import numpy as np
import pyarrow as pa
import pytest
import torch
from datasets import Dataset
from PIL import Image as Pil
from pyarrow import parquet

from parbench.bench.util.errors import UserError
from parbench.tasks.data.digits import DigitsSource
from parbench.tasks.data.folder import FolderSource
from parbench.tasks.data.image_rows import AugmentedRows, ImageRows
from parbench.tasks.data.images import MOST_RATIO, checked_images, decoded
from parbench.tasks.data.preprocessing import Preprocessing
from parbench.tasks.data.source import DataRef
from parbench.tasks.vision import DIGITS
from tests.support.pictures import EPS, WAV, encoded, images, picture, png_header

SMALL = Preprocessing((8, 8), (0.5,) * 3, (0.5,) * 3, "bilinear", 1.0, "squash")
DATA = DataRef("pets", "train", {"": "test"})


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
def test_what_is_no_image_is_found_before_anything_is_decoded(file, complaint):
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


def test_pixels_of_which_nothing_says_what_is_white_are_refused():
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


def write_folder(root, classes=("cat", "dog"), splits=("train", "test"), each=2):
    for split in splits:
        for name in classes:
            folder = root / "pets" / split / name
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(each):
                (folder / f"{number}.png").write_bytes(encoded(picture(seed=number)))
    return FolderSource(root)


def test_class_folders_are_read_by_path_and_numbered_by_name(tmp_path):
    source = write_folder(tmp_path, ("10", "9", "1"))
    (tmp_path / "pets" / "train" / "1" / ".DS_Store").write_bytes(b"junk")
    loaded = source.load(DATA)
    assert source.missing(DATA) is None
    assert loaded["train"].features["label"].names == ["1", "9", "10"]
    assert loaded["train"]["label"][:] == [0, 0, 1, 1, 2, 2]
    assert loaded["test"][0]["image"]["bytes"] is None
    checked = checked_images(loaded["test"], "image", "it")
    assert decoded(checked[0]["image"], "it").size == (12, 9)


def test_the_revision_of_class_folders_is_names_and_contents(tmp_path):
    source = write_folder(tmp_path)
    found = {source.revision(DATA)}
    file = tmp_path / "pets" / "train" / "cat" / "0.png"
    file.write_bytes(encoded(picture(seed=9)))
    found.add(source.revision(DATA))
    file.rename(file.with_name("2.png"))
    found.add(source.revision(DATA))
    assert len(found) == 3


def test_a_class_that_training_lacks_is_refused(tmp_path):
    source = write_folder(tmp_path)
    write_folder(tmp_path, ("horse",), ("test",))
    with pytest.raises(UserError, match=r'test" has the class "horse", which ".*train" does not have'):
        source.load(DATA)


def test_images_outside_of_class_folders_are_refused(tmp_path):
    source = write_folder(tmp_path)
    (tmp_path / "pets" / "train" / "a.png").write_bytes(encoded(picture()))
    with pytest.raises(UserError, match=r'a.png" is in no class folder; images belong into train/CLASS/'):
        source.load(DATA)


def test_an_empty_split_folder_is_refused(tmp_path):
    source = write_folder(tmp_path, splits=("train",))
    (tmp_path / "pets" / "test").mkdir()
    with pytest.raises(UserError, match='test" is empty'):
        source.load(DATA)


def write_list(root, lines, split="train"):
    (root / "pets" / "images").mkdir(parents=True, exist_ok=True)
    (root / "pets" / "images" / "a b.png").write_bytes(encoded(picture()))
    (root / "pets" / f"{split}.txt").write_text(lines)
    return FolderSource(root)


def test_a_list_names_images_and_classes(tmp_path):
    source = write_list(tmp_path, "images/a b.png 3\n")
    write_list(tmp_path, "images/a b.png 1\n", "test")
    loaded = source.load(DATA)
    assert loaded["train"]["label"][:] == [3]
    assert decoded(checked_images(loaded["test"], "image", "it")[0]["image"], "it").size == (12, 9)
    before = source.revision(DATA)
    (tmp_path / "pets" / "images" / "a b.png").write_bytes(encoded(picture(seed=5)))
    assert source.revision(DATA) != before


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ("images/a.png\n", "line 1 of .* is .images/a.png., and not an image's path"),
        ("images/a.png 1\nimages/a.png cat\n", "line 2 of"),
        ("../../secret.png 1\n", "outside its folder; refusing"),
        ("/etc/passwd 1\n", "outside its folder; refusing"),
    ],
)
def test_lists_of_another_form_are_refused(tmp_path, lines, complaint):
    write_list(tmp_path, "images/a b.png 1\n", "test")
    with pytest.raises(UserError, match=complaint):
        write_list(tmp_path, lines).load(DATA)


def test_images_in_parquet_are_read_with_their_class_names(tmp_path):
    """As `datasets` writes them, and as plain bytes."""
    folder = tmp_path / "pets"
    folder.mkdir()
    images([1, 0], names=["cat", "dog"]).to_parquet(folder / "train.parquet")
    parquet.write_table(pa.table({"image": [encoded(picture())], "label": [1]}), folder / "test.parquet")
    loaded = FolderSource(tmp_path).load(DATA)
    assert loaded["train"].features["label"].names == ["cat", "dog"]
    for dataset in loaded.values():
        assert decoded(checked_images(dataset, "image", "it")[0]["image"], "it").size == (12, 9)
    (folder / "test.parquet").write_bytes((folder / "train.parquet").read_bytes()[:-20])
    with pytest.raises(UserError, match=r"cannot be read as \.parquet"):
        FolderSource(tmp_path).load(DATA)


def test_the_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    loaded = DigitsSource().load(DIGITS.data)["all"]
    bunch = load_digits()
    assert loaded["label"][:] == bunch.target.tolist()
    pixels = np.asarray(decoded({"bytes": loaded[7]["image"]}, "it"))
    assert np.round(pixels[..., 0] / 255 * 16).tolist() == bunch.images[7].tolist()
    assert DigitsSource().revision(DIGITS.data) == DigitsSource().revision(DIGITS.data)
