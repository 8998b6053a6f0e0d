"""What the operating system refuses is one sentence."""

import errno
import json
import os
from pathlib import Path

import pytest

from parbench.bench.util.errors import UserError
from parbench.bench.util.file_errors import reading, writing
from parbench.tasks.data.lock import RevisionLock
from parbench.tasks.from_yaml import task_of_file
from tests.support.yaml_files import DATA, IMAGES, TEXTS, task_file, unusable

LONG = "long" * 200


@pytest.mark.parametrize(
    "data",
    [
        {**DATA, "folder": LONG},
        {**DATA, "folder": f"/{LONG}"},
        {**DATA, "folder": "/abc" * 2000},
        {**DATA, "train": LONG},
        {**DATA, "train": f"{LONG}.csv"},
        {**DATA, "reported": f"below/{LONG}/x"},
    ],
)
def test_a_name_that_is_too_long(tmp_path, data):
    (tmp_path / "below").mkdir()
    assert "cannot be read (File name too long); correct the name" in unusable(task_file(tmp_path, TEXTS, data=data))


def test_class_folders_under_a_name_that_is_too_long(tmp_path):
    fields = {name: value for name, value in IMAGES.items() if name != "labels"}
    message = unusable(task_file(tmp_path, fields, data={**DATA, "folder": LONG}))
    assert "cannot be read (File name too long); correct the name" in message


def test_a_task_file_with_a_name_that_is_too_long(tmp_path):
    with pytest.raises(UserError, match="File name too long"):
        task_of_file(tmp_path / f"{LONG}.yaml")


def test_a_link_that_leads_to_itself_is_not_a_folder(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert 'there is no folder "loop"' in unusable(task_file(tmp_path, TEXTS, data={**DATA, "folder": "loop"}))
    (tmp_path / "train.csv").symlink_to(tmp_path / "train.csv")
    assert "there is no train.csv file" in unusable(task_file(tmp_path, TEXTS, data={**DATA, "train": "train.csv"}))


def test_a_lock_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r'cannot write to ".*file": File exists; free or allow it'):
        RevisionLock(tmp_path / "file" / "lock.json").put("model", "a/b", "c" * 40)
    lock = RevisionLock(tmp_path / "store" / "lock.json")
    lock.put("model", "a/b", "c" * 40)

    def full(descriptor):
        os.ftruncate(descriptor, 5)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    # What a disk has no room for fails at the latest when it is flushed.
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        lock.put("model", "d/e", "f" * 40)
    # What was locked before still is, and nothing half is left.
    assert json.loads(lock.path.read_text()) == {"model:a/b": "c" * 40}
    assert [path.name for path in sorted(lock.path.parent.iterdir())] == [".lock.json.lock", "lock.json"]


def test_a_lock_under_a_name_that_is_too_long():
    lock = RevisionLock(Path(LONG) / "lock.json")
    with pytest.raises(UserError, match="File name too long"):
        lock.get("model", "a/b")
    with pytest.raises(UserError, match="File name too long"):
        lock.put("model", "a/b", "c" * 40)


def test_other_mistakes_are_left_alone(tmp_path):
    with pytest.raises(UserError, match="mine"), reading(tmp_path):
        raise UserError("mine")
    with pytest.raises(ZeroDivisionError), writing(tmp_path):
        1 / 0  # noqa: B018
    with pytest.raises(UserError, match=r'"x" cannot be read \(TimeoutError\)'), reading(Path("x")):
        raise TimeoutError
