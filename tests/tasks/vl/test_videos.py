"""Questions about and captions of videos, from folders in the VALUE benchmark's layout."""

import numpy as np
import pytest

from parbench.bench.util.errors import UserError
from parbench.tasks import TASKS
from parbench.tasks.data.location import DataLocation
from parbench.tasks.metrics import java
from parbench.tasks.testing import check_task
from parbench.tasks.vl.videos import HOW2QA, TVC, TVQA, YC2C
from tests.support.value_files import CLIPS, read_lines, value_folder, write_features, write_lines

NAMES = ("vl/tvqa", "vl/how2qa", "vl/tvc", "vl/yc2c")
NEEDS_JAVA = pytest.mark.skipif(java.missing() is not None, reason="needs Java")
# A file of each task, of the entries that are trained on.
TRAIN = {
    "vl/tvqa": "ann/tvqa/tvqa_train.jsonl",
    "vl/how2qa": "ann/how2qa/how2qa_train_release.jsonl",
    "vl/tvc": "ann/tvc/tvc_train_release.jsonl",
    "vl/yc2c": "ann/yc2c/yc2c_train_release.jsonl",
}
FEATURES = {"vl/tvqa": "tv", "vl/how2qa": "how2", "vl/tvc": "tv", "vl/yc2c": "yc2"}


@pytest.fixture
def folder(tmp_path):
    return value_folder(tmp_path)


def source_of(name, folder):
    return DataLocation("hub", str(folder.parent / "lock.json"), str(folder.parent)).source(TASKS[name])


def splits_of(name, folder):
    return TASKS[name].splits(source_of(name, folder))


@pytest.mark.parametrize("name", ["vl/tvqa", "vl/how2qa", *(pytest.param(n, marks=NEEDS_JAVA) for n in NAMES[2:])])
def test_a_task_keeps_its_contract(folder, name):
    report = check_task(TASKS[name], source_of(name, folder))
    report.raise_for_failures()
    assert report.sizes["reported"] == 4
    assert 0 < report.sizes["selection"] < report.sizes["train"]


def test_prompts_are_put_as_in_the_published_code(folder):
    """Compared with what the code of VL-Adapter makes of the same entries, written down by hand."""
    first, second = splits_of("vl/tvqa", folder).train.select([0, 1])
    assert TVQA.prompt(second) == (
        f"[Subs] Said in {CLIPS[1]}. [Q] Why does number 1 sit? [TS] (nan-nan) [Choices] a0: Because of 1. "
        "a1: Because of 2. a2: Because of 3. a3: Because of 4. a4: Because of 5. tvqa: "
    )
    assert TVQA.prompt(first).startswith("[Subs]  [Q] Why does number 0 sit?")
    assert TVQA.response(second) == " a1"
    assert second["choices"] == ["a0", "a1", "a2", "a3", "a4"]
    (asked,) = splits_of("vl/how2qa", folder).train.select([2])
    assert HOW2QA.prompt(asked) == (
        "[Subs] Said in 2. Said in 2. [Q] Why does number 2 sit? [TS] (0.5-4.25) [Choices] a0: Because of 2. "
        "a1: Because of 3. a2: Because of 4. a3: Because of 5. how2qa: "
    )
    described = splits_of("vl/tvc", folder).train.select([2, 3])
    assert [TVC.prompt(row) for row in described] == [f"[Subs] Said in {CLIPS[1]}. [TS] ([0.5, 2.25]) tvc: "] * 2
    assert [TVC.response(row) for row in described] == [
        " person 1 puts the pan on stove 0.",
        " person 1 puts the pan on stove 1.",
    ]
    assert YC2C.prompt(splits_of("vl/yc2c", folder).train[1]) == "[Subs] Said in recipe-0_1. yc2c: "


def test_a_clip_is_validated_once_with_all_its_captions(folder):
    reported = splits_of("vl/tvc", folder).reported
    assert len(reported) == 4
    assert reported["references"][0] == [f"person 20 puts the pan on stove {one}." for one in (0, 1)]


@pytest.mark.parametrize(("name", "whole"), [("vl/tvqa", "_seg"), ("vl/yc2c", "_")])
def test_what_settings_are_chosen_on_shares_no_recording_with_training(folder, name, whole):
    splits = splits_of(name, folder)
    train, selection = (
        {path.rpartition("/")[2].rpartition(whole)[0] for path in split["features"][:]}
        for split in (splits.train, splits.selection)
    )
    assert selection
    assert not train & selection


def test_accuracy_is_that_of_the_benchmarks_evaluation(folder):
    """``evaluate_tvqa.py`` of VALUE-Leaderboard/EvaluationTools: the share of questions with the right number."""
    reported = splits_of("vl/tvqa", folder).reported
    submitted = [0, 1, 4, 3]
    likely = np.concatenate([np.eye(5)[answer] for answer in submitted])
    frame = TVQA.predictions(reported, likely)
    assert frame["prediction"].tolist() == submitted
    assert TVQA.score(frame) == {"accuracy": np.mean(np.array(submitted) == reported["label"][:])}
    assert reported["label"][:] == [0, 1, 2, 3]


@NEEDS_JAVA
def test_captions_are_scored_as_by_the_benchmarks_evaluation(folder):
    """Golden numbers of ``evaluate_tvc.py`` (VALUE-Leaderboard/EvaluationTools) for these captions and references."""
    path = folder / "ann/tvc/tvc_val_release.jsonl"
    entries = read_lines(path)
    for entry, texts in zip(entries, GOLDEN_REFERENCES, strict=True):
        entry["descs"] = [{"desc": text, "desc_id": 0, "type": "v"} for text in texts]
    write_lines(path, entries)
    frame = TVC.predictions(splits_of("vl/tvc", folder).reported, GOLDEN_CAPTIONS)
    scores = TVC.score(frame)
    assert {name: round(100 * value, 2) for name, value in scores.items()} == GOLDEN_SCORES


GOLDEN_CAPTIONS = [
    "Rachel walks up to Phoebe and turns around.",
    "Joey \N{EN DASH} rubs his leg with his right hand!",
    "the man is cooking",
    "Café owners talk, and Monica's friend leaves the room",
]
GOLDEN_REFERENCES = [
    ["Rachel walks up to Phoebe and Phoebe turns around.", "Phoebe turns to look at Rachel."],
    ["Joey rubs his leg.", "Joey touches his right leg with his hand and sits down."],
    ["A woman is cooking dinner in the kitchen.", "the woman stirs a pot"],
    ["The café's owner talks to Monica.", "Monica's friend leaves the room."],
]
GOLDEN_SCORES = {"cider": 305.02, "bleu_4": 54.67}


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_there_is_named(folder, name):
    task, place = TASKS[name], folder / TRAIN[name]
    content = place.read_text()
    place.unlink()
    assert f'there is no file "{TRAIN[name]}"' in task.missing(source_of(name, folder))
    place.write_text(content[: len(content) - 20])
    with pytest.raises(UserError, match=place.name):
        task.splits(source_of(name, folder))
    place.write_text(content)
    features = folder / "vis_features" / FEATURES[name] / "clip-vit"
    features.rename(features.with_name("other"))
    assert "video_features.compute(videos, folder)" in task.missing(source_of(name, folder))


def test_the_revision_is_that_of_the_annotations_and_features(folder):
    source = source_of("vl/tvqa", folder)
    before = TVQA.revision(source)
    assert before.startswith("sha256:")
    write_features(folder / f"vis_features/tv/clip-vit/{CLIPS[0]}.npz", seed=99)
    assert TVQA.revision(source) != before


HOSTILE = [
    ("vl/tvqa", "answer_idx", 5, "has the right answer 5, and answers 0 to 4"),
    ("vl/tvqa", "answer_idx", "2", 'no "answer_idx" as its publishers write it'),
    ("vl/how2qa", "answer_idx", -1, "has the right answer -1, and answers 0 to 3"),
    ("vl/tvqa", "ts", "3.5-1.5", 'the moment "3.5-1.5", which is not START-END in seconds'),
    ("vl/tvqa", "ts", "nan-3", 'the moment "nan-3", which is not'),
    ("vl/tvqa", "ts", "soon", 'the moment "soon", which is not'),
    ("vl/tvqa", "a3", None, 'no "a3" as its publishers write it'),
    ("vl/tvqa", "qid", 101, "two entries have the qid 101"),
    ("vl/tvc", "clip_id", 501, "two entries have the clip_id 501"),
    ("vl/tvc", "ts", [9.0, 12.0], r"has the moment \[9.0, 12.0\] of a video of 4.5 seconds"),
    ("vl/tvc", "ts", [-1.0, 2.0], "has the moment"),
    ("vl/tvc", "ts", [float("nan"), 2.0], "has the moment"),
    ("vl/tvc", "ts", [1.0], "has the moment"),
    ("vl/yc2c", "descs", [], "the clip 500 has no caption, or an empty one"),
    ("vl/yc2c", "descs", [{"desc": "  "}], "the clip 500 has no caption, or an empty one"),
    ("vl/yc2c", "vid_name", "../outside", "which is no file's name"),
    ("vl/yc2c", "vid_name", "unknown", 'there is no file of features "unknown.npz"'),
]


@pytest.mark.parametrize(("name", "key", "value", "reason"), HOSTILE, ids=[f"{n}-{k}" for n, k, _, _ in HOSTILE])
def test_an_entry_that_is_not_as_published_is_named(folder, name, key, value, reason):
    path = folder / TRAIN[name]
    entries = read_lines(path)
    entries[0][key] = value
    write_lines(path, entries)
    with pytest.raises(UserError, match=reason):
        splits_of(name, folder)


def test_subtitles_may_be_empty_but_not_missing_or_there_twice(folder):
    path = folder / "ann/yc2_subtitles.jsonl"
    entries = read_lines(path)
    assert entries[0]["sub"] == []
    write_lines(path, entries[1:])
    with pytest.raises(UserError, match='have no entry for the video "recipe-0_0", not even an empty one'):
        splits_of("vl/yc2c", folder)
    write_lines(path, [*entries, entries[3]])
    with pytest.raises(UserError, match='the video "recipe-1_1" is there twice'):
        splits_of("vl/yc2c", folder)
    write_lines(path, [{**entries[0], "sub": [{"text": None}]}, *entries[1:]])
    with pytest.raises(UserError, match='no "text" as its publishers write it'):
        splits_of("vl/yc2c", folder)


def test_a_moment_after_the_end_of_its_features_is_reported(folder):
    path = folder / TRAIN["vl/how2qa"]
    entries = read_lines(path)
    entries[0]["ts"] = "60.0-61.0"
    write_lines(path, entries)
    (finding,) = [text for text in HOW2QA.findings(splits_of("vl/how2qa", folder)) if "moment" in text]
    assert finding.startswith("1 of ")
    assert "about a moment after the last of their video's features" in finding


def test_a_broken_file_of_features_is_found_when_the_task_is_checked(folder):
    (folder / f"vis_features/tv/clip-vit/{CLIPS[0]}.npz").write_bytes(b"no archive")
    assert "cannot be read as features" in check_task(TVQA, source_of("vl/tvqa", folder)).faults[0]
    broken = np.full((3, 6), np.nan, dtype=np.float16)
    write_features(folder / f"vis_features/tv/clip-vit/{CLIPS[0]}.npz", features=broken)
    splits_of("vl/tvqa", folder)
    report = check_task(TVQA, source_of("vl/tvqa", folder))
    assert "the features of segment 0 are not finite" in report.faults[0]
