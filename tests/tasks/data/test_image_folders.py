"""Images in class folders, lists and Parquet files, and scikit-learn's digits."""

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from parbench.bench.util.errors import UserError
from parbench.tasks.data.digits import DigitsSource
from parbench.tasks.data.folder import FolderSource
from parbench.tasks.data.images import checked_images, decoded
from parbench.tasks.data.source import DataRef
from parbench.tasks.vision import DIGITS
from tests.support.pictures import encoded, images, picture

DATA = DataRef("pets", "train", {"": "test"})


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
