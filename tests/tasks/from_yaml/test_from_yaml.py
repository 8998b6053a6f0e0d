import json

import numpy as np
import pytest

from parbench.tasks.data.folder import FolderSource
from parbench.tasks.data.hub import HubSource
from parbench.tasks.data.images import decoded
from parbench.tasks.from_yaml import defined_task, read_definition, task_of_file
from tests.support.yaml_files import (
    CHOICES,
    DATA,
    IMAGES,
    QUESTIONS,
    REVIEWS,
    TEXTS,
    both,
    loaded,
    png,
    task_file,
    unusable,
    write,
)

# What a file may say


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".json", ".parquet"])
@pytest.mark.parametrize("named", [True, False])
def test_every_kind_of_file_reads_the_same(tmp_path, ending, named):
    both(tmp_path, REVIEWS, ending)
    data = {"train": f"train{ending}", "reported": f"test{ending}"} if named else DATA
    task, splits = loaded(task_file(tmp_path, TEXTS, data=data))
    assert splits.sizes == {"train": 18, "selection": 2, "reported": 8}
    assert splits.reported["review"][:] == [row["review"] for row in REVIEWS[:8]]
    assert splits.reported["label"][:] == [0, 1] * 4
    assert (task.primary, task.head.labels) == ("accuracy", ("bad", "good"))


@pytest.mark.parametrize(
    ("labels", "in_file", "ids"),
    [
        (["bad", "good"], ["bad", "good"], [0, 1]),
        (["bad", "good"], [0, 1], [0, 1]),
        ([1, 2], [1, 2], [0, 1]),
        (["2", "1"], [1, 2], [1, 0]),
        (["false", "true"], [False, True], [0, 1]),
        (["True", "False"], [False, True], [1, 0]),
    ],
)
def test_a_label_is_a_name_or_where_no_name_is_a_number_its_place(tmp_path, labels, in_file, ids):
    rows = [{"review": f"film {n}", "stars": in_file[n % 2], "label": "of something else"} for n in range(20)]
    for ending in (".csv", ".parquet"):
        folder = both(tmp_path / ending, rows, ending)
        _, splits = loaded(task_file(folder, TEXTS, labels=labels))
        assert splits.reported["label"][:] == ids * 4


def test_subsets_a_selection_split_and_a_folder_below(tmp_path):
    for name in ("train", "dev", "easy", "hard"):
        write(tmp_path / "files" / "v1" / f"{name}.jsonl", REVIEWS)
    data = {"folder": "files/v1", "train": "train", "selection": "dev", "reported": {"e": "easy", "h": "hard"}}
    task, splits = loaded(task_file(tmp_path, TEXTS, data=data))
    assert splits.sizes == {"train": 20, "selection": 20, "reported": 40}
    assert set(splits.reported["subset"]) == {"e", "h"}
    assert task.describe(task.own_source) == "local folder files/v1"


def test_a_regression(tmp_path):
    both(tmp_path, [{"a": f"x {n}", "b": "y", "score": n / 4} for n in range(20)], ".csv")
    fields = {**{k: TEXTS[k] for k in ("name", "reference", "data")}, "kind": "regression", "texts": ["a", "b"]}
    task, splits = loaded(task_file(tmp_path, fields, label="score"))
    assert task.head.labels == ()
    assert splits.reported["label"][:] == [n / 4 for n in range(8)]
    assert task.primary == "pearson"


@pytest.mark.parametrize("kind", ["folders", "parquet"])
def test_images(tmp_path, kind):
    colours = {"dog": "red", "cat": "blue"}
    for split in ("train", "test"):
        if kind == "folders":
            for name, colour in colours.items():
                (tmp_path / split / name).mkdir(parents=True)
                for number in range(10):
                    (tmp_path / split / name / f"{number}.png").write_bytes(png(colour))
        else:
            rows = [{"image": png(colours[name]), "label": name} for name in ("cat", "dog") for _ in range(10)]
            write(tmp_path / f"{split}.parquet", rows)
    task, splits = loaded(task_file(tmp_path, IMAGES))
    assert splits.sizes == {"train": 18, "selection": 2, "reported": 20}
    assert sorted(splits.reported["label"][:]) == [0] * 10 + [1] * 10
    assert task.revision(task.own_source).startswith("sha256:")


def test_where_names_of_images_are_numbers_the_numbers_of_a_file_are_names(tmp_path):
    rows = [{"image": png("red"), "label": 1 + n % 2} for n in range(20)]
    both(tmp_path, rows, ".parquet")
    _, splits = loaded(task_file(tmp_path, IMAGES, labels=[2, 1]))
    assert splits.reported["label"][:] == [1, 0] * 4


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_a_table_of_images_may_name_their_files(tmp_path, ending):
    (tmp_path / "pictures").mkdir()
    rows = []
    for number in range(20):
        (tmp_path / "pictures" / f"{number}.png").write_bytes(png((9 * number, 0, 0)))
        rows.append({"image": f"pictures/{number}.png", "label": ("cat", "dog")[number % 2]})
    write(tmp_path / f"train{ending}", rows)
    write(tmp_path / f"test{ending}", rows[:8])
    path = task_file(tmp_path, IMAGES)
    task, splits = loaded(path)
    assert splits.sizes == {"train": 18, "selection": 2, "reported": 8}
    assert splits.reported["label"][:] == [0, 1] * 4
    reds = [decoded(image, "a row").getpixel((0, 0))[0] for image in splits.reported["image"][:]]
    assert reds == [9 * number for number in range(8)]
    before = task.revision(task.own_source)
    (tmp_path / "pictures" / "7.png").write_bytes(png((0, 0, 0)))
    assert task.revision(task.own_source) != before
    (tmp_path / "pictures" / "7.png").unlink()
    assert 'names the image "pictures/7.png", and there is no such file' in unusable(path)


def test_the_revision_is_that_of_names_and_contents(tmp_path):
    both(tmp_path, REVIEWS)
    task = task_of_file(task_file(tmp_path, TEXTS))
    before = task.revision(task.own_source)
    assert task.revision(task.own_source) == before
    write(tmp_path / "test.jsonl", REVIEWS[:7])
    assert task.revision(task.own_source) != before


def test_a_data_root_replaces_the_folder_of_the_file(tmp_path):
    both(tmp_path / "elsewhere" / "reviews", REVIEWS)
    task = task_of_file(task_file(tmp_path, TEXTS, data={**DATA, "folder": "reviews"}))
    assert "no folder" in task.missing(task.own_source)
    source = FolderSource(tmp_path / "elsewhere")
    assert task.missing(source) is None
    assert task.splits(source).sizes["reported"] == 8


def test_data_on_the_hub_is_pinned_or_locked_beside_the_file(tmp_path):
    hub = {"repository": "someone/reviews", "config": "plain", "revision": "a" * 40}
    task = task_of_file(task_file(tmp_path, TEXTS, data={**DATA, "hub": hub}))
    assert isinstance(task.own_source, HubSource)
    assert task.revision(task.own_source) == "a" * 40
    del hub["revision"]
    task = task_of_file(task_file(tmp_path, TEXTS, data={**DATA, "hub": hub}))
    task.own_source.lock.put("dataset", "someone/reviews", "b" * 40)
    assert (tmp_path / "task.lock.json").is_file()
    assert task.revision(task.own_source) == "b" * 40


# What a record keeps


@pytest.mark.parametrize("absolute", [False, True])
def test_a_definition_scores_without_the_data_and_contains_nothing_of_the_machine(tmp_path, absolute):
    both(tmp_path / "reviews", REVIEWS)
    folder = str(tmp_path / "reviews") if absolute else "reviews"
    path = task_file(tmp_path, TEXTS, data={**DATA, "folder": folder}, licence="CC0")
    task, splits = loaded(path)
    definition = read_definition(path)
    assert definition == dict(task.definition)
    assert definition["data"]["folder"] == "reviews"
    assert definition["licence"] == "CC0"
    written = json.dumps(definition)
    assert str(tmp_path) not in written
    again = defined_task(json.loads(written))
    assert again.own_source is None
    assert again.definition == definition
    rows = task.predictions(splits.reported, np.eye(2)[[0, 1, 0, 1, 1, 1, 0, 0]])
    assert again.score(rows) == task.score(rows) == {"accuracy": 0.75, "f1": pytest.approx(0.75)}


def test_class_folders_need_no_labels(tmp_path):
    """They are in the definition all the same, so that a record contains them."""
    for split in ("train", "test"):
        for number, name in enumerate(("zebra", "ant")):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for copy in range(12):
                (folder / f"{copy}.png").write_bytes(png((90 * number, copy, 0)))
    fields = {key: value for key, value in IMAGES.items() if key != "labels"}
    path = task_file(tmp_path, fields)
    assert task_of_file(path).head.labels == ("ant", "zebra")
    assert read_definition(path)["labels"] == ["ant", "zebra"]


# Types that a file or a program guesses


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".json", ".csv.gz"])
def test_what_is_trained_on_and_scored_are_the_characters_of_the_file(tmp_path, ending):
    """The training file has a fraction in it, and the reported one only whole numbers."""
    train = [{"question": f"{n}", "answer": "7.50" if n == 3 else str(n)} for n in range(20)]
    write(tmp_path / f"train{ending}", train)
    write(tmp_path / f"test{ending}", [{"question": "02116", "answer": "26"}, {"question": "0x1F", "answer": "True"}])
    task, splits = loaded(task_file(tmp_path, QUESTIONS))
    answers = dict(zip(splits.train["question"], map(task.response, splits.train), strict=True))
    assert answers.get("3", " 7.50") == " 7.50"
    assert answers.get("4", " 4") == " 4"
    assert [task.prompt(example) for example in splits.reported] == ["02116 ?", "0x1F ?"]
    assert splits.reported["references"][:] == [[" 26"], [" True"]]
    assert task.score(task.predictions(splits.reported, [" 26", "True"]))["exact_match"] == 1.0


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_a_choice_that_is_a_number_is_a_text_first(tmp_path, ending):
    rows = [{"question": f"q {n}", "a": "1", "b": "2", "c": "3", "right": str(1 + n % 3)} for n in range(20)]
    both(tmp_path, rows, ending)
    _, splits = loaded(task_file(tmp_path, CHOICES, choices=["a", "b", "c"]))
    assert splits.reported["label"][:] == [n % 3 for n in range(8)]


def test_the_file_the_row_the_column_and_the_value_are_named(tmp_path):
    both(tmp_path, [{"a": "x", "score": "2.5"} for _ in range(20)], ".csv")
    (tmp_path / "test.csv").write_text("a,score\nx,1\nx,n.a.\n")
    fields = {**{k: TEXTS[k] for k in ("name", "reference", "data")}, "kind": "regression", "texts": ["a"]}
    message = unusable(task_file(tmp_path, fields, label="score"))
    assert f'in "{tmp_path / "test.csv"}", the test split of my/reviews, column score,' in message
    assert "row 2 (it is 'n.a.')" in message


@pytest.mark.parametrize("names", [["pos", "neg"], ["neg", "pos"]])
def test_the_class_names_of_a_parquet_file_count(tmp_path, names):
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"review": Value("string"), "stars": ClassLabel(names=names)})
    rows = {"review": [f"film {n}" for n in range(20)], "stars": [("neg", "pos")[n % 2] for n in range(20)]}
    for split in ("train", "test"):
        Dataset.from_dict(rows, features=features).to_parquet(tmp_path / f"{split}.parquet")
    _, splits = loaded(task_file(tmp_path, TEXTS, labels=["neg", "pos"]))
    assert splits.reported["label"][:] == [0, 1] * 10
    assert "has 2 classes" in unusable(task_file(tmp_path, TEXTS, labels=["neg", "pos", "x"], metrics=["accuracy"]))
