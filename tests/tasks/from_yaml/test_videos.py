"""A user's own clips by a YAML file: in class folders, named by a list, or in a parquet file."""

import pytest
import yaml

from parbench.bench.util.errors import UserError
from parbench.tasks.data.preprocessing import Preprocessing
from parbench.tasks.data.video.clip_processor import ClipProcessor
from parbench.tasks.from_yaml import defined_task, task_of_file
from parbench.tasks.leaks import leaks
from parbench.tasks.testing.inspection import check_files, shown
from tests.support.clips import clip
from tests.support.image_models import processor
from tests.support.yaml_files import DATA, REFERENCE, loaded, task_file, unusable, write

VIDEOS = {
    "name": "my/clips",
    "kind": "video_classification",
    "reference": REFERENCE,
    "data": DATA,
    "labels": ["sit", "walk"],
    "metrics": ["accuracy", "mean_per_class_accuracy"],
    "options": {"frames": 4, "stride": 2, "jitter": False},
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PARBENCH_CACHE", str(tmp_path / "cache"))


def lengths(split, name):
    """Return the frames of the clips of a class in a split, all of them different."""
    first = 12 if split == "train" else 40
    return range(first + (name == "walk"), first + 20, 2)


def class_folders(folder):
    for split in ("train", "test"):
        for name in VIDEOS["labels"]:
            for length in lengths(split, name):
                path = folder / split / name / f"{length}.mkv"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(clip(length))


def parquet(folder):
    for split in ("train", "test"):
        rows = [{"video": clip(n), "label": name} for name in VIDEOS["labels"] for n in lengths(split, name)]
        write(folder / f"{split}.parquet", rows)


def lists(folder):
    class_folders(folder / "files")
    for split in ("train", "test"):
        lines = [
            f"files/{split}/{name}/{length}.mkv {number}\n"
            for number, name in enumerate(VIDEOS["labels"])
            for length in lengths(split, name)
        ]
        (folder / f"{split}.txt").write_text("".join(lines))


@pytest.mark.parametrize("write_clips", [class_folders, parquet, lists])
def test_clips_are_read_from_every_place(tmp_path, write_clips):
    write_clips(tmp_path)
    task, splits = loaded(task_file(tmp_path, VIDEOS))
    assert splits.sizes == {"train": 18, "selection": 2, "reported": 20}
    assert sorted(splits.reported["label"][:]) == [0] * 10 + [1] * 10
    assert task.kind == "video"
    assert task.options.stride == 2
    assert task.revision(task.own_source).startswith("sha256:")
    rows = task.prepare(splits.reported, ClipProcessor(processor(8)), 0)
    assert rows[0]["pixel_values"].shape == (4, 3, 8, 8)
    assert isinstance(rows.preprocessing, Preprocessing)
    check_files(splits)
    assert "frames of 64 x 16 pixels" in shown(task, splits.reported[0])["video"]
    assert leaks(task, splits).reported == 0


def test_the_names_of_class_folders_are_labels(tmp_path):
    class_folders(tmp_path)
    fields = {key: value for key, value in VIDEOS.items() if key != "labels"}
    task, _ = loaded(task_file(tmp_path, fields))
    assert task.labels == ("sit", "walk")
    again = defined_task(task.definition)
    assert (again.labels, again.options, again.metrics) == (task.labels, task.options, task.metrics)


def test_the_same_clip_in_two_splits_is_a_leak(tmp_path):
    class_folders(tmp_path)
    copied = next((tmp_path / "train" / "sit").iterdir()).read_bytes()
    (tmp_path / "test" / "sit" / "copy.mkv").write_bytes(copied)
    task, splits = loaded(task_file(tmp_path, VIDEOS))
    assert leaks(task, splits).reported == 1


def test_a_clip_that_is_broken_behind_its_header_is_found_by_a_check(tmp_path):
    class_folders(tmp_path)
    content = clip(50)
    (tmp_path / "test" / "sit" / "cut.mkv").write_bytes(content[: len(content) // 2])
    _, splits = loaded(task_file(tmp_path, VIDEOS))
    with pytest.raises(UserError, match=r'clip test:\d+ \(".*cut.mkv"\) cannot be read as a video: it is cut off'):
        check_files(splits)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("train/sit/notes.txt", b"taken in May", "is none of MP4"),
        ("train/sit/empty.mkv", b"", "it is empty"),
        ("train/clip.mkv", b"", "videos belong into train/CLASS/"),
    ],
)
def test_what_is_no_clip_is_one_sentence(tmp_path, name, content, reason):
    class_folders(tmp_path)
    (tmp_path / name).write_bytes(content)
    assert reason in unusable(task_file(tmp_path, VIDEOS))


@pytest.mark.parametrize(
    "changes",
    [
        {"options": {"frames": 0}},
        {"options": {"stride": -1}},
        {"options": {"fusion": "sum"}},
        {"metrics": ["f1"]},
        {"labels": ["one"]},
        {"image": "frame"},
    ],
)
def test_wrong_fields_are_refused(tmp_path, changes):
    with pytest.raises(UserError, match="the task file"):
        task_of_file(task_file(tmp_path, VIDEOS, **changes))


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    class_folders(tmp_path / "task")
    (tmp_path / "outside.mkv").write_bytes(clip(9))
    (tmp_path / "task" / "train" / "sit" / "link.mkv").symlink_to(tmp_path / "outside.mkv")
    (tmp_path / "task" / "task.yaml").write_text(yaml.safe_dump(VIDEOS))
    with pytest.raises(UserError, match="leads by a link"):
        task_of_file(tmp_path / "task" / "task.yaml")
