import gzip
import json

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from parbench.bench.util.errors import UserError
from parbench.tasks.data.folder import FolderSource
from parbench.tasks.data.hub import HubSource
from parbench.tasks.from_yaml import defined_task, read_definition, task_of_file
from parbench.tasks.kinds.text_generation import Template
from tests.support.yaml_files import (
    ASKED,
    CHOICES,
    DATA,
    IMAGES,
    QUESTIONS,
    RANKED,
    REVIEWS,
    TEXTS,
    both,
    loaded,
    png,
    task_file,
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
def test_a_definition_scores_without_the_data_and_tells_nothing_of_the_machine(tmp_path, absolute):
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


# What it may not say


def refused(path):
    with pytest.raises(UserError) as error:
        task_of_file(path)
    said = str(error.value)
    assert "\n" not in said
    assert str(path) in said
    return said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a\n- b\n", "holds a list"),
        ("", "holds nothing"),
        ("just words", "holds a str"),
        ("a: !!python/object/apply:os.system ['true']", "not plain YAML"),
        ("a: !!python/name:os.system", "not plain YAML"),
        ("a: &x [1]\nb: *x\n", "aliases (*name) are not allowed (line 2)"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "aliases"),
        ("a: {<<: &x {b: 1}, c: 2}\nd: {<<: *x}", "aliases"),
        ("name: a\nname: b\n", '"name" is given twice'),
        ("a: 1\n--- \nb: 2\n", "not plain YAML"),
        ("a: [1, 2\n", "not plain YAML"),
        ("a: \x07\n", "not plain YAML"),
        ("a: 2026-99-99\n", "not plain YAML"),
        ("3: a\n", "the field 3"),
        ("[" * 5000 + "]" * 5000, "nested too deeply"),
        ("a: " + "x" * 300_000, "bytes"),
        ("name: a", "needs a kind"),
        ("name: a\nkind: 3", "there is no kind 3"),
    ],
)
def test_what_is_no_task_file(tmp_path, text, said):
    path = tmp_path / "task.yaml"
    path.write_text(text, encoding="utf-8")
    assert said in refused(path)


def test_a_file_that_is_not_there_or_not_utf_8(tmp_path):
    assert "there is no task file" in refused(tmp_path / "task.yaml")
    (tmp_path / "task.yaml").write_bytes("name: café".encode("latin-1"))
    assert "not in UTF-8" in refused(tmp_path / "task.yaml")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": "classificaton"}, 'did you mean "classification"'),
        ({"metric": ["accuracy"]}, 'there is no field "metric"; did you mean "metrics"'),
        ({"reference": None}, "reference"),
        ({"data": {"train": "train"}}, 'field "data.reported": field required'),
        ({"data": None}, "data"),
        ({"name": "glue/sst2"}, "which a task of parbench has"),
        ({"name": "glue"}, "which a task of parbench has"),
        ({"name": "../x"}, 'field "name"'),
        ({"name": "a/b/c"}, 'field "name"'),
        ({"name": "a b"}, 'field "name"'),
        ({"name": "a.yaml"}, "must not end like a file's"),
        ({"data": {**DATA, "folder": "../other"}}, "must not leave its folder"),
        ({"data": {**DATA, "folder": "a/../../b"}}, "must not leave its folder"),
        ({"data": {**DATA, "train": "../train"}}, "must not leave its folder"),
        ({"data": {**DATA, "train": "/etc/passwd"}}, "must be a relative path"),
        ({"data": {**DATA, "train": "..\\train"}}, "must be a relative path"),
        ({"data": {"train": "all", "reported": "all"}}, 'the split "all" is named twice'),
        ({"data": {**DATA, "hub": {"repository": "a/b", "revision": "main"}}}, "data.hub.revision"),
        ({"labels": [False, True]}, 'field "labels.0'),
        ({"labels": ["a", "a"]}, "different from each other"),
        ({"labels": ["a"]}, 'field "labels"'),
        ({"labels": ["a", "b", "c"]}, "f1 is of two classes"),
        ({"texts": ["a", "b", "c"]}, 'field "texts"'),
        ({"metrics": ["rouge_l"]}, 'field "metrics.0"'),
        ({"metrics": []}, 'field "metrics"'),
    ],
)
def test_what_a_file_may_not_say(tmp_path, changes, said):
    assert said in refused(task_file(tmp_path, TEXTS, **changes))


@pytest.mark.parametrize(
    "template", ["{q.__class__}", "{q[0]}", "{q!r}", "{q:>99}", "{}", "{0}", "{q", "q}", "{q{a}}", "{q:{a}}"]
)
def test_a_template_has_nothing_but_columns(tmp_path, template):
    with pytest.raises(UserError, match="template"):
        Template(template)
    assert "template" in refused(task_file(tmp_path, QUESTIONS, prompt=template))


def test_a_template_shows_what_is_in_the_columns_and_no_more():
    template = Template("{{{a b}}} {a b}{c}")
    assert template.columns == ("a b", "c")
    assert template.filled({"a b": "{c}", "c": 3, "d": 1}) == "{{c}} {c}3"


def test_a_link_does_not_lead_out_of_the_folder(tmp_path):
    outside = both(tmp_path / "outside", REVIEWS)
    home = tmp_path / "home"
    home.mkdir()
    (home / "data").symlink_to(outside)
    path = task_file(home, TEXTS, data={**DATA, "folder": "data"})
    assert "leads by a link" in refused(path)
    assert loaded(task_file(home, TEXTS, data={**DATA, "folder": str(outside)}))[1].sizes["reported"] == 8


def test_a_link_among_images_does_not_either(tmp_path):
    (tmp_path / "secret.png").write_bytes(png("red"))
    home = tmp_path / "home"
    for split in ("train", "test"):
        (home / split / "cat").mkdir(parents=True)
    (home / "test" / "cat" / "1.png").symlink_to(tmp_path / "secret.png")
    assert 'leads by a link to "1.png"' in refused(task_file(home, IMAGES))


# What its data may not be


def unusable(path):
    with pytest.raises(UserError) as error:
        loaded(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_files_that_are_not_there_or_not_readable(tmp_path):
    path = task_file(tmp_path, TEXTS)
    assert "there is no train file" in unusable(path)
    both(tmp_path, REVIEWS)
    write(tmp_path / "train.csv", REVIEWS)
    assert 'the split "train" could be any of train.jsonl, train.csv' in unusable(path)
    (tmp_path / "train.jsonl").unlink()
    (tmp_path / "train.csv").write_bytes("review,stars\ncafé,bad\n".encode("latin-1"))
    assert "not in UTF-8" in unusable(path)
    (tmp_path / "train.csv").unlink()
    (tmp_path / "train.jsonl").write_bytes('{"review": "café", "stars": "bad"}\n'.encode("latin-1"))
    assert "not in UTF-8" in unusable(path)
    (tmp_path / "train.jsonl").unlink()
    whole = write(tmp_path / "train.parquet", REVIEWS).read_bytes()
    (tmp_path / "train.parquet").write_bytes(whole[: len(whole) // 2])
    assert "cannot be read as .parquet" in unusable(path)
    (tmp_path / "train.parquet").unlink()
    (tmp_path / "train.json").write_text("[1, 2]")
    assert "list of something else" in unusable(path)
    (tmp_path / "train.json").write_text('[{"review": ')
    assert "cannot be read as JSON" in unusable(path)
    (tmp_path / "train.json").unlink()
    (tmp_path / "train.jsonl.gz").write_bytes(gzip.compress(b'{"review": "a"}\n' * 99)[:-9])
    assert "cannot be read as .jsonl.gz" in unusable(path)
    assert "no known kind" in unusable(task_file(tmp_path, TEXTS, data={"train": "task.yaml", "reported": "test"}))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "is empty"),
        ([{"review": "a"}], "no column stars"),
        ([{"stars": "bad"}], "no column review"),
        ([{"review": "a", "stars": "bad"}, {"review": "b", "stars": None}], "no label in row 2"),
        ([{"review": "a", "stars": "fine"}], "unknown label 'fine' in row 1; it may be bad, good"),
        ([{"review": "a", "stars": 2}], "unknown label 2"),
        ([{"review": None, "stars": "bad"}], "no text in column review, row 1"),
    ],
)
def test_rows_that_are_no_classification(tmp_path, rows, said):
    both(tmp_path, REVIEWS)
    parquet.write_table(
        pa.Table.from_pylist(rows) if rows else pa.table({"review": [""], "stars": [""]}).slice(0, 0),
        tmp_path / "test.parquet",
    )
    (tmp_path / "test.jsonl").unlink()
    found = unusable(task_file(tmp_path, TEXTS))
    assert said in found
    assert "the test split of my/reviews" in found


@pytest.mark.parametrize("number", [None, "high", float("nan"), float("inf"), True])
def test_a_regression_needs_numbers(tmp_path, number):
    rows = [{"a": "x", "label": number} for _ in range(20)]
    write(tmp_path / "train.parquet", rows)
    write(tmp_path / "test.parquet", rows)
    fields = {**{k: TEXTS[k] for k in ("name", "reference", "data")}, "kind": "regression", "texts": ["a"]}
    assert "no number as its label in row 1" in unusable(task_file(tmp_path, fields))


def test_images_that_are_none(tmp_path):
    good = [{"image": png("red"), "label": name} for name in ("cat", "dog") for _ in range(6)]
    path = task_file(tmp_path, IMAGES)
    write(tmp_path / "test.parquet", good)
    for wrong in (b"RIFF\x24\x00\x00\x00WAVEfmt ", png("red")[:20], b""):
        write(tmp_path / "train.parquet", [*good, {"image": wrong, "label": "cat"}])
        assert "row 13 of the train split of my/images" in unusable(path)
    write(tmp_path / "train.parquet", [{"image": 3, "label": "cat"}])
    assert "not images" in unusable(path)
    write(tmp_path / "train.parquet", [*good, {"image": png("red"), "label": "cow"}])
    assert "unknown label 'cow'" in unusable(path)
    (tmp_path / "train.parquet").unlink()
    (tmp_path / "test.parquet").unlink()
    for split, names in (("train", ("cat", "dog")), ("test", ("cat", "cow"))):
        for name in names:
            (tmp_path / split / name).mkdir(parents=True)
            (tmp_path / split / name / "1.png").write_bytes(png("red"))
    assert 'has the class "cow"' in unusable(path)


def test_a_template_needs_its_columns(tmp_path):
    both(tmp_path, ASKED)
    assert "no column topic; it has question, answer" in unusable(task_file(tmp_path, QUESTIONS, prompt="{topic}"))
    both(tmp_path, [{"question": None, "answer": "a"}, *ASKED])
    assert "no text in column question, row 1 (it is missing)" in unusable(task_file(tmp_path, QUESTIONS))
    both(tmp_path, [*ASKED[:3], {"question": "a", "answer": " "}])
    assert "no text to respond with, row 4" in unusable(task_file(tmp_path, QUESTIONS))


@pytest.mark.parametrize("label", [3, -1, "D", "purple", None, True, 0.5])
def test_a_choice_that_is_not_there(tmp_path, label):
    write(tmp_path / "train.jsonl", RANKED)
    write(tmp_path / "test.jsonl", [{**RANKED[0], "right": label}])
    assert f"row 1 has the unknown label {label!r}" in unusable(task_file(tmp_path, CHOICES))


def test_class_folders_need_no_labels(tmp_path):
    """They are in the definition all the same, so that a record tells them."""
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
    said = unusable(task_file(tmp_path, fields, label="score"))
    assert f'in "{tmp_path / "test.csv"}", the test split of my/reviews, column score,' in said
    assert "row 2 (it is 'n.a.')" in said


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


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("labels: [No, Yes]", "put it in quotes"),
        ("labels: [1.5, 2.5]", "is 1.5 in YAML"),
        ("labels: [2024-01-31, a]", "is 2024-01-31 in YAML"),
        ("labels: [null, a]", "is null in YAML"),
        ("label: on", "is true in YAML"),
    ],
)
def test_what_yaml_takes_for_something_else_is_to_be_quoted(tmp_path, line, said):
    path = task_file(tmp_path, {key: value for key, value in TEXTS.items() if key != line.partition(":")[0]})
    path.write_text(path.read_text() + line + "\n")
    assert said in refused(path)
