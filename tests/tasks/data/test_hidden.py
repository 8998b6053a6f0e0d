"""What editors and systems leave in a folder is not data, at any depth; links are followed."""

import os

import pytest

from parbench.bench.util.errors import UserError
from parbench.tasks.data.folder import FolderSource
from parbench.tasks.data.hidden import walk
from parbench.tasks.data.source import DataRef
from tests.support.yaml_files import png

DATA = DataRef("pets", "train", {"": "test"})
HIDDEN = [
    "train/.ipynb_checkpoints/cat.png",
    "train/.DS_Store",
    "train/cat/.ipynb_checkpoints/1-checkpoint.png",
    "train/cat/.git/objects/a/b.png",
    "train/cat/._1.png",
    "train/cat/Thumbs.db",
    "train/dog/a/.cache/b/1.png",
    "train/dog/desktop.ini",
    "train/dog/@eaDir/1.png/thumb.png",
    "train/dog/#recycle/1.png",
    "train/@Recycle/1.png",
    "test/Temporary Items/folders.501/1.png",
    "train/__MACOSX/cat/1.png",
    "test/__MACOSX/._cat",
    "test/cat/THUMBS.DB",
]


@pytest.fixture
def pets(tmp_path):
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            for path in ("1.png", "2.png", "a/3.png"):
                put(tmp_path / "pets" / split / name / path)
    return FolderSource(tmp_path)


def put(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png("red"))


def test_hidden_files_are_neither_images_nor_classes(pets):
    before = pets.revision(DATA)
    for name in HIDDEN:
        put(pets.root / "pets" / name)
    loaded = pets.load(DATA)
    assert {name: len(rows) for name, rows in loaded.items()} == {"train": 6, "test": 6}
    assert loaded["train"].features["label"].names == ["cat", "dog"]
    assert pets.revision(DATA) == before
    assert pets.ignored(DATA) == len(HIDDEN)


def test_links_to_files_and_folders_are_followed(pets, tmp_path):
    put(tmp_path / "elsewhere" / "b" / "4.png")
    cats = pets.root / "pets" / "train" / "cat"
    (cats / "more").symlink_to(tmp_path / "elsewhere")
    (cats / "5.png").symlink_to(tmp_path / "elsewhere" / "b" / "4.png")
    assert [path.relative_to(cats).as_posix() for path in walk(cats).files] == [
        "1.png",
        "2.png",
        "5.png",
        "a/3.png",
        "more/b/4.png",
    ]


@pytest.mark.parametrize(
    ("target", "message"), [("gone", "leads to nothing"), ("..", "leads to a folder that it is in")]
)
def test_links_that_lead_nowhere_are_named(pets, target, message):
    (pets.root / "pets" / "train" / "cat" / "link").symlink_to(target)
    with pytest.raises(UserError, match=f'cat/link" {message}'):
        pets.load(DATA)


def test_what_is_not_a_file_is_named(pets):
    os.mkfifo(pets.root / "pets" / "train" / "cat" / "pipe")
    with pytest.raises(UserError, match='cat/pipe" is neither a file nor a folder'):
        pets.load(DATA)
