"""VTAB-1k: its splits, how its images are resized, and its averages."""

import pytest

from parbench.bench.util.errors import UserError
from parbench.tasks import vtab
from parbench.tasks.data.folder import FolderSource
from tests.support.image_models import ALL
from tests.support.pictures import encoded, picture


def write_vtab(root, task, sizes):
    folder = root / task.data.folder
    (folder / "images").mkdir(parents=True)
    number = 0
    for split, size in sizes.items():
        lines = []
        for label in range(size):
            (folder / "images" / f"{number}.png").write_bytes(encoded(picture(seed=number)))
            lines.append(f"images/{number}.png {label % len(task.labels)}\n")
            number += 1
        (folder / f"{split}.txt").write_text("".join(lines))


def test_vtab_trains_on_800_or_on_1000_and_is_never_split_again(tmp_path):
    sizes = {"train800": 8, "val200": 2, "train800val200": 10, "test": 5}
    write_vtab(tmp_path, vtab.CIFAR100, sizes)
    assert (tmp_path / "vtab-1k" / "cifar" / "train800.txt").is_file()
    found = {
        train: vtab.CIFAR100.configured({"train": train}).splits(FolderSource(tmp_path)) for train in ("800", "1000")
    }
    assert found["800"].sizes == {"train": 8, "selection": 2, "reported": 5}
    assert found["1000"].sizes == {"train": 10, "selection": 2, "reported": 5}
    assert found["800"].train["example"][0] == "train800:0"
    assert found["1000"].train["example"][0] == "train800val200:0"
    assert vtab.CIFAR100.configured({"image_size": 32}).data == vtab.CIFAR100.data
    with pytest.raises(UserError, match="an option of vtab/cifar100"):
        vtab.CIFAR100.configured({"train": "900"})


def test_vtab_resizes_the_whole_image():
    assert all(task.options.fit == "squash" for task in ALL if task.name.startswith("vtab/"))


def test_both_vtab_averages():
    assert {group: len(names) for group, names in vtab.GROUPS.items()} == {
        "natural": 7,
        "specialized": 4,
        "structured": 8,
    }
    scores = {name: {"natural": 0.8, "specialized": 0.9, "structured": 0.6}[group]
              for group, names in vtab.GROUPS.items() for name in names}  # fmt: skip
    found = vtab.vtab_averages({f"vtab/{name}": score for name, score in scores.items()})
    assert found == vtab.vtab_averages(scores)
    assert found.over_tasks == pytest.approx((7 * 0.8 + 4 * 0.9 + 8 * 0.6) / 19)
    assert found.over_groups == pytest.approx((0.8 + 0.9 + 0.6) / 3)
    assert (found.natural, found.specialized, found.structured) == pytest.approx((0.8, 0.9, 0.6))


def test_an_average_over_fewer_tasks_is_none():
    scores = dict.fromkeys(vtab.NAMES, 0.5)
    with pytest.raises(UserError, match="vision/cifar10 is not a task of VTAB-1k"):
        vtab.vtab_averages({**scores, "vision/cifar10": 0.5})
    del scores["svhn"]
    with pytest.raises(UserError, match="svhn is missing"):
        vtab.vtab_averages(scores)
