"""Tables that name images beside them."""

import hashlib

import pytest

from parbench.bench.util.errors import UserError
from parbench.tasks.data.folder import FolderSource
from parbench.tasks.data.source import DataRef
from tests.support.pictures import encoded, picture
from tests.support.yaml_files import write

DATA = DataRef("shapes", "train", {"": "test"}, images=("image",))


def folder(root, ending=".csv", names=("a.png", "more/b.png")):
    for number, name in enumerate(("a.png", "more/b.png")):
        path = root / "shapes" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(picture(seed=number)))
    for split in ("train", "test"):
        write(root / "shapes" / f"{split}{ending}", [{"image": name, "question": "what?"} for name in names])
    return FolderSource(root)


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_names_become_the_images_beside_the_table(tmp_path, ending):
    rows = folder(tmp_path, ending).load(DATA)["test"]
    paths = [image["path"] for image in rows["image"]]
    assert paths == [str(tmp_path / "shapes" / "a.png"), str(tmp_path / "shapes" / "more" / "b.png")]


def test_a_row_may_name_several(tmp_path):
    source = folder(tmp_path, ".jsonl", names=(["a.png", "more/b.png"], ["a.png"]))
    assert [len(images) for images in source.load(DATA)["test"]["image"]] == [2, 1]


def test_the_revision_covers_the_images(tmp_path):
    source = folder(tmp_path)
    before = source.revision(DATA)
    assert source.revision(DATA) == before
    (tmp_path / "shapes" / "a.png").write_bytes(encoded(picture(seed=9)))
    assert source.revision(DATA) != before
    plain = DataRef("shapes", "train", {"": "test"})
    total = hashlib.sha256()
    for name in ("train.csv", "test.csv"):
        content = (tmp_path / "shapes" / name).read_bytes()
        total.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode())
    assert source.revision(plain) == f"sha256:{total.hexdigest()}"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../../etc/passwd", "names an image outside its folder"),
        ("/etc/passwd", "names an image outside its folder"),
        ("absent.png", 'names the image "absent.png", and there is no such file'),
        (" ", "names no image"),
    ],
)
def test_a_name_that_leads_nowhere_or_out_is_refused(tmp_path, name, reason):
    source = folder(tmp_path, ".jsonl", names=("a.png", name))
    with pytest.raises(UserError, match=f"row 2 of .* {reason}"):
        source.load(DATA)


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    source = folder(tmp_path, names=("a.png", "link.png"))
    (tmp_path / "outside.png").write_bytes(encoded(picture()))
    (tmp_path / "shapes" / "link.png").symlink_to(tmp_path / "outside.png")
    with pytest.raises(UserError, match="a link that leads out of its folder"):
        source.load(DATA)
