"""VQA v2, GQA, NLVR2 and COCO's captions, read from their publishers' files."""

import json

import numpy as np
import pandas as pd
import pytest

from parbench.bench.util.errors import UserError
from parbench.tasks import TASKS
from parbench.tasks.data.location import DataLocation
from parbench.tasks.vl.nlvr2 import NLVR2
from parbench.tasks.vl.questions import VQA_V2
from tests.support import vl_files

WRITERS = {
    "vl/vqa_v2": vl_files.vqa_v2,
    "vl/gqa": vl_files.gqa,
    "vl/nlvr2": vl_files.nlvr2,
    "vl/coco_caption": vl_files.coco,
}
SIZES = {
    "vl/vqa_v2": {"train": 8, "selection": 2, "reported": 2},
    "vl/gqa": {"train": 2, "selection": 2, "reported": 2},
    "vl/nlvr2": {"train": 3, "selection": 3, "reported": 3},
    "vl/coco_caption": {"train": 16, "selection": 2, "reported": 2},
}


def source_of(name, root):
    return DataLocation("hub", str(root / "lock.json"), str(root)).source(TASKS[name])


@pytest.mark.parametrize("name", WRITERS)
def test_the_publishers_files_are_read(tmp_path, name):
    WRITERS[name](tmp_path)
    source, task = source_of(name, tmp_path), TASKS[name]
    assert task.missing(source) is None
    splits = task.splits(source)
    assert splits.sizes == SIZES[name]
    assert task.revision(source).startswith("sha256:")
    assert task.describe(source).startswith("local folder")


@pytest.mark.parametrize("name", WRITERS)
def test_what_is_not_there_is_named(tmp_path, name):
    task = TASKS[name]
    assert f'there is no folder "{task.data.folder}"' in task.missing(source_of(name, tmp_path))
    folder = WRITERS[name](tmp_path)
    gone = sorted(folder.glob("*.json"))[0]
    content = gone.read_text()
    gone.unlink()
    assert f'there is no file "{gone.name}"' in task.missing(source_of(name, tmp_path))
    gone.write_text(content[: len(content) // 2])
    with pytest.raises(UserError, match=gone.name):
        task.splits(source_of(name, tmp_path))


@pytest.mark.parametrize("name", WRITERS)
def test_an_image_that_is_not_there_is_named(tmp_path, name):
    folder = WRITERS[name](tmp_path)
    next(path for path in sorted(folder.rglob("*")) if path.suffix in (".jpg", ".png")).unlink()
    with pytest.raises(UserError, match="there is no image"):
        TASKS[name].splits(source_of(name, tmp_path))


def test_a_name_of_an_image_may_not_lead_elsewhere(tmp_path):
    folder = vl_files.coco(tmp_path)
    entries = json.loads((folder / "dataset_coco.json").read_text())
    entries["images"][0]["filename"] = "../../outside.jpg"
    (folder / "dataset_coco.json").write_text(json.dumps(entries))
    with pytest.raises(UserError, match="which is no file's name"):
        TASKS["vl/coco_caption"].splits(source_of("vl/coco_caption", tmp_path))


def test_vqa_takes_karpathys_splits_and_is_trained_on_the_most_frequent_answer(tmp_path):
    vl_files.vqa_v2(tmp_path)
    splits = VQA_V2.splits(source_of("vl/vqa_v2", tmp_path))
    assert splits.reported["question"][:] == ["How many cats in 100?", "How many cats in 110?"]
    assert VQA_V2.response(splits.train[0]) == " 2"
    frame = VQA_V2.predictions(splits.reported, ["two", "three cats"])
    # "two" becomes 2, which eight of ten wrote.
    assert frame["vqa_accuracy"].tolist() == [1.0, 0.0]
    assert VQA_V2.score(frame) == {"vqa_accuracy": 0.5}
    assert VQA_V2.leave_one_out(frame, "vqa_accuracy").tolist() == [0.0, 1.0]
    assert VQA_V2.reference_scores(splits.reported) == {"vqa_accuracy": 1.0}


def test_nlvr2_counts_examples_and_statements(tmp_path):
    """As the publishers' script: a statement counts if it is judged right for every pair of images."""
    vl_files.nlvr2(tmp_path)
    splits = NLVR2.splits(source_of("vl/nlvr2", tmp_path))
    assert splits.reported["label"][:] == [1, 0, 1]
    assert splits.reported["group"][:] == ["test1-12-0", "test1-12-0", "test1-12-1"]
    frame = NLVR2.predictions(splits.reported, np.array([0.0, 1.0, 0.0, 1.0, 0.0, 1.0]))
    assert NLVR2.score(frame) == pytest.approx({"accuracy": 2 / 3, "consistency": 1 / 2})
    assert NLVR2.leave_one_out(frame, "accuracy").tolist() == pytest.approx([0.5, 1.0, 0.5])
    without = [NLVR2.score(frame.drop(index=row))["consistency"] for row in range(3)]
    assert NLVR2.leave_one_out(frame, "consistency").tolist() == pytest.approx(without)
    many = pd.concat([frame] * 3, ignore_index=True).assign(group=["a", "b", "c", "a", "b", "c", "d", "d", "a"])
    without = [NLVR2.score(many.drop(index=row))["consistency"] for row in range(9)]
    assert NLVR2.leave_one_out(many, "consistency").tolist() == pytest.approx(without)
