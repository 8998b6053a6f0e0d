"""Video data sets as their publishers arrange them; which clips are in a split is torchvision's own reading."""

import json
from pathlib import Path

import pytest
from torchvision import datasets as torchvision_datasets

from parbench.bench.util.errors import UserError
from parbench.tasks.data.source import DataRef
from parbench.tasks.data.video.layouts import Clip, Hmdb51, SomethingSomething2, Ucf101, set_apart
from parbench.tasks.video import HMDB51, SSV2, UCF101


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"clip")
    return path


def hmdb51(folder):
    """Write two classes with clips of several films each, and lists of three splits as the publishers do."""
    uses = {"1": lambda film, clip: (1, 1, 1, 2, 0)[film], "2": lambda film, clip: (2, 1, 1, 1, 0)[film]}
    for name in ("brush_hair", "wave"):
        clips = [f"Film_{film}_{name}_u_nm_np1_ba_goo_{clip}.avi" for film in range(5) for clip in range(4)]
        for clip in clips:
            touch(folder / "hmdb51_org" / name / clip)
        for split, use in uses.items():
            lines = [f"{clip} {use(number // 4, number % 4)} \n" for number, clip in enumerate(clips)]
            touch(folder / "testTrainMulti_7030_splits" / f"{name}_test_split{split}.txt").write_text("".join(lines))
    return folder


def ucf101(folder, split=1):
    lists = folder / "ucfTrainTestlist"
    names = ["ApplyEyeMakeup", "YoYo"]
    touch(lists / "classInd.txt").write_text("".join(f"{n} {name}\r\n" for n, name in enumerate(names, start=1)))
    train, test = [], []
    for number, name in enumerate(names, start=1):
        for group in range(1, 13):
            for clip in (1, 2):
                path = f"{name}/v_{name}_g{group:02d}_c{clip:02d}.avi"
                touch(folder / "UCF-101" / path)
                if group <= 3:
                    test.append(path)
                else:
                    train.append(f"{path} {number}")
    (lists / f"trainlist{split:02d}.txt").write_text("\n".join(train) + "\n")
    (lists / f"testlist{split:02d}.txt").write_text("\n".join(test) + "\n")
    return folder


def ssv2(folder, old_names=True):
    """Write two classes whose brackets and numbers are as published, and lists under either publisher's names."""
    labels = {"Holding something next to something": "1", "Approaching something with your camera": "0"}
    entries = {
        "train": [
            {
                "id": "78687",
                "label": "holding potato next to lamp",
                "template": "Holding [something] next to [something]",
            },
            {"id": "42326", "label": "approaching sand", "template": "Approaching [something] with your camera"},
        ],
        "validation": [
            {"id": "74225", "label": "approaching tv", "template": "Approaching [something] with your camera"}
        ],
    }
    for split, found in {"labels": labels, **entries}.items():
        name = f"something-something-v2-{split}.json" if old_names else f"labels/{split}.json"
        touch(folder / name).write_text(json.dumps(found))
    for identity in ("78687", "42326", "74225"):
        touch(folder / "20bn-something-something-v2" / f"{identity}.webm")
    return folder


def loaded(kind, folder, *split):
    """Return the splits of a data set in a folder."""
    return kind(folder.parent, *split).load(DataRef(folder.name, "train", {"": "test"}))


def paths(splits, *names):
    return sorted(video["path"] for name in names for video in splits[name]["video"])


@pytest.mark.parametrize("split", [1, 2])
def test_hmdb51_is_split_as_torchvision_splits_it(tmp_path, split):
    hmdb51(tmp_path)
    every = sorted(map(str, (tmp_path / "hmdb51_org").glob("*/*.avi")))
    splits = loaded(Hmdb51, tmp_path, split)
    for train, names in ((True, ("train", "selection")), (False, ("test",))):
        lists = str(tmp_path / "testTrainMulti_7030_splits")
        places = torchvision_datasets.HMDB51._select_fold(torchvision_datasets.HMDB51, every, lists, split, train)
        assert paths(splits, *names) == [every[place] for place in places]
    assert splits["test"].features["label"].names == ["brush_hair", "wave"]


def test_ucf101_is_split_as_torchvision_splits_it(tmp_path):
    ucf101(tmp_path)
    every = sorted(map(str, (tmp_path / "UCF-101").glob("*/*.avi")))
    splits = loaded(Ucf101, tmp_path, 1)
    reader = torchvision_datasets.UCF101.__new__(torchvision_datasets.UCF101)
    reader.root = str(tmp_path / "UCF-101")
    for train, names in ((True, ("train", "selection")), (False, ("test",))):
        places = reader._select_fold(every, str(tmp_path / "ucfTrainTestlist"), 1, train)
        assert paths(splits, *names) == [every[place] for place in places]
    labels = splits["test"]["label"][:]
    assert [Path(video["path"]).parent.name for video in splits["test"]["video"]] == [
        splits["test"].features["label"].names[label] for label in labels
    ]


@pytest.mark.parametrize("old_names", [True, False])
def test_ssv2_has_templates_for_classes(tmp_path, old_names):
    splits = loaded(SomethingSomething2, ssv2(tmp_path, old_names))
    assert {name: split["label"][:] for name, split in splits.items()} == {"train": [1, 0], "validation": [0]}
    assert [Path(video["path"]).name for video in splits["train"]["video"]] == ["78687.webm", "42326.webm"]
    assert splits["train"].features["label"].names[1] == "Holding something next to something"


@pytest.mark.parametrize(("write", "kind"), [(hmdb51, Hmdb51), (ucf101, Ucf101)])
def test_no_recording_is_in_train_and_selection(tmp_path, write, kind):
    splits = loaded(kind, write(tmp_path))
    recordings = {
        name: {path.rpartition("_c" if write is ucf101 else "_u_nm")[0] for path in paths(splits, name)}
        for name in ("train", "selection")
    }
    assert recordings["train"].isdisjoint(recordings["selection"])
    for label in (0, 1):
        sizes = {name: splits[name]["label"][:].count(label) for name in recordings}
        # One recording, the least that can be set apart: four of twelve clips, or two of eighteen.
        assert sizes == ({"train": 16, "selection": 2} if write is ucf101 else {"train": 8, "selection": 4})


def test_which_recordings_are_set_apart_depends_on_names_only():
    clips = [Clip(Path(f"{n}"), "a", f"film {n // 3}") for n in range(30)]
    first, second = set_apart(clips), set_apart(clips[::-1])
    assert {clip.path for clip in first["selection"]} == {clip.path for clip in second["selection"]}
    assert len(first["selection"]) == 3
    assert set_apart(clips[:3])["selection"] == []


@pytest.mark.parametrize(("task", "write"), [(HMDB51, hmdb51), (UCF101, ucf101), (SSV2, ssv2)])
def test_a_data_root_has_the_publishers_folder_as_it_is(tmp_path, task, write):
    source = task.in_folder(tmp_path)
    assert "there is no folder" in source.missing(task.data)
    write(tmp_path / task.data.folder)
    assert source.missing(task.data) is None
    before = source.revision(task.data)
    assert before == source.revision(task.data)
    Path(source.load(task.data)["train"][0]["video"]["path"]).write_bytes(b"another clip")
    assert source.revision(task.data) != before


def test_a_task_reads_the_split_that_its_option_names(tmp_path):
    assert HMDB51.in_folder(tmp_path) == Hmdb51(tmp_path, 1)
    assert HMDB51.configured({"split": 2}).in_folder(tmp_path) == Hmdb51(tmp_path, 2)
    assert UCF101.configured({"split": 3}).in_folder(tmp_path) == Ucf101(tmp_path, 3)
    with pytest.raises(UserError, match="split"):
        HMDB51.configured({"split": 4})


@pytest.mark.parametrize(
    ("write", "task", "file", "content", "reason"),
    [
        (hmdb51, HMDB51, "testTrainMulti_7030_splits/wave_test_split1.txt", "a.avi 3\n", "0, 1 or 2"),
        (hmdb51, HMDB51, "testTrainMulti_7030_splits/wave_test_split1.txt", "gone.avi 1\n", "not there"),
        (hmdb51, HMDB51, "testTrainMulti_7030_splits/wave_test_split1.txt", "../../x.avi 1\n", "outside its folder"),
        (ucf101, UCF101, "ucfTrainTestlist/classInd.txt", "1 YoYo\n3 ApplyEyeMakeup\n", "the name of a class"),
        (ucf101, UCF101, "ucfTrainTestlist/testlist01.txt", "Unknown/v_c01.avi\n", "classInd"),
        (ucf101, UCF101, "ucfTrainTestlist/testlist01.txt", "YoYo/../../x.avi\n", "outside its folder"),
        (ssv2, SSV2, "something-something-v2-train.json", "[", "not JSON"),
        (ssv2, SSV2, "something-something-v2-train.json", "{}", "a dict, and not a list"),
        (ssv2, SSV2, "something-something-v2-train.json", '[{"id": 3, "template": "x"}]', "id and template"),
        (ssv2, SSV2, "something-something-v2-train.json", '[{"id": "3", "template": "x"}]', "among the labels"),
        (ssv2, SSV2, "something-something-v2-labels.json", '{"x": "7"}', "number its classes"),
    ],
)
def test_lists_in_another_form_are_refused(tmp_path, write, task, file, content, reason):
    folder = write(tmp_path / task.data.folder)
    (folder / file).write_text(content)
    with pytest.raises(UserError, match=reason) as caught:
        task.in_folder(tmp_path).load(task.data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("write", "task", "split", "lacking"),
    [(hmdb51, HMDB51, 3, "test_split3"), (ucf101, UCF101, 2, "trainlist02")],
)
def test_a_split_without_lists_is_missing(tmp_path, write, task, split, lacking):
    write(tmp_path / task.data.folder)
    source = task.configured({"split": split}).in_folder(tmp_path)
    assert lacking in source.missing(task.data)
    with pytest.raises(UserError, match=lacking):
        source.load(task.data)
