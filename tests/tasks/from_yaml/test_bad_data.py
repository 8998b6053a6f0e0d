"""Data that no task can use is one sentence for every kind of task file, whatever is wrong with it."""

from __future__ import annotations

import io
import json
import os
import wave

import pyarrow as pa
import pytest
from pyarrow import parquet

from parbench.tasks.testing.inspection import check_files
from tests.support.yaml_files import (
    ASKED,
    CHOICES,
    DATA,
    IMAGES,
    QUESTIONS,
    RANKED,
    REVIEWS,
    TEXTS,
    loaded,
    png,
    task_file,
    unusable,
    write,
)

NUMBERS = {**{key: TEXTS[key] for key in ("name", "reference", "data")}, "kind": "regression", "texts": ["review"]}
# For each kind: the content of the file, its rows, and the columns of labels and inputs.
KINDS = {
    "classification": (TEXTS, REVIEWS, "stars", "review"),
    "regression": (NUMBERS, [{"review": f"film {n}", "label": n / 4} for n in range(20)], "label", "review"),
    "text_generation": (QUESTIONS, ASKED, "answer", "question"),
    "multiple_choice": (CHOICES, RANKED, "right", "question"),
    "image_classification": (
        IMAGES,
        [{"image": png((9 * n, 0, 0)), "label": ("cat", "dog")[n % 2]} for n in range(20)],
        "label",
        "image",
    ),
}
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)
EITHER_SPLIT = pytest.mark.parametrize("split", ["train", "test"])


def sound() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(8000)
        written.writeframes(b"\0\0" * 80)
    return file.getvalue()


def in_parquet(table: pa.Table) -> bytes:
    file = io.BytesIO()
    parquet.write_table(table, file)
    return file.getvalue()


@pytest.fixture
def given(tmp_path, kind, split):
    """Return the error message for a task with one given split and a correct other one."""

    def call(content, ending=".parquet"):
        fields, rows, _, _ = KINDS[kind]
        write(tmp_path / f"{'test' if split == 'train' else 'train'}.parquet", rows)
        (tmp_path / f"{split}{ending}").write_bytes(content)
        return unusable(task_file(tmp_path, fields))

    return call


@pytest.fixture
def changed(kind, given):
    """Return the error message for a task with one given column in one split."""

    def call(of_labels, values):
        _, rows, label, text = KINDS[kind]
        table = pa.Table.from_pylist(rows)
        name = label if of_labels else text
        column = values if isinstance(values, pa.Array) else pa.array([values] * len(rows))
        return given(in_parquet(table.set_column(table.column_names.index(name), name, column)))

    return call


@EVERY_KIND
@EITHER_SPLIT
def test_a_file_that_was_cut_or_spoilt(given, kind):
    whole = in_parquet(pa.Table.from_pylist(KINDS[kind][1]))
    for content in (whole[: len(whole) // 2], whole[:-20], b"", sound()):
        assert 'parquet" cannot be read as .parquet (' in given(content)


@EVERY_KIND
@EITHER_SPLIT
def test_a_split_without_rows_or_columns(given, kind):
    table = pa.Table.from_pylist(KINDS[kind][1])
    assert "is empty; give a file with examples" in given(in_parquet(table.slice(0, 0)))
    assert "is empty; give a file with examples" in given(in_parquet(pa.table({})))
    for column in KINDS[kind][2:]:
        assert f"has no column {column}" in given(in_parquet(table.drop_columns([column])))


@EVERY_KIND
@EITHER_SPLIT
@pytest.mark.parametrize("values", [pa.nulls(20), [1], {"a": 1}, b"\xff", float("nan")])
def test_labels_that_are_missing_or_none(changed, kind, values):
    message = changed(True, values)
    assert "row 1" in message
    whats = ("no label", "unknown label", "no number as its label", "no text")
    assert any(what in message for what in whats)


@pytest.mark.parametrize("kind", ["classification", "multiple_choice", "image_classification"])
@EITHER_SPLIT
@pytest.mark.parametrize("values", ["cow", 99, -1, 0.5, True, 2**63, "-1", " "])
def test_classes_that_are_unknown(changed, kind, values):
    assert f"the unknown label {values!r}" in changed(
        True, pa.array([values] * 20, pa.uint64()) if values == 2**63 else values
    )


@pytest.mark.parametrize("kind", ["regression"])
@EITHER_SPLIT
def test_a_number_that_no_model_sees(changed):
    assert "no number as its label in row 1 (it is 1e+300)" in changed(True, 1e300)
    assert "it is -1e+39" in changed(True, -1e39)


def test_a_number_of_64_bits_without_sign_is_one(tmp_path):
    rows = [{"review": "a", "label": n} for n in range(20)]
    large = pa.array([2**63 + n for n in range(20)], pa.uint64())
    for split in ("train", "test"):
        (tmp_path / f"{split}.parquet").write_bytes(
            in_parquet(pa.Table.from_pylist(rows).set_column(1, "label", large))
        )
    _, splits = loaded(task_file(tmp_path, NUMBERS))
    assert splits.reported["label"][0] == 2.0**63


@EVERY_KIND
@EITHER_SPLIT
@pytest.mark.parametrize(
    "values",
    [
        pa.nulls(20),
        ["a"],
        {"a": "b"},
        True,
        b"\xff\xfe",
        sound(),
        {"bytes": sound(), "path": "a.wav"},
        {"bytes": 3, "path": "a"},
        {"bytes": None, "path": None},
    ],
)
def test_sounds_images_and_others_in_place_of_what_is_read(changed, kind, values):
    message = changed(False, values)
    whats = ("no text in column", "not images", "cannot be read as an image", "no image", "there is no such file")
    assert any(what in message for what in whats)


@EVERY_KIND
@EITHER_SPLIT
@pytest.mark.parametrize("feature", ["Audio", "Image", "Video"])
def test_what_datasets_would_decode_is_left_alone(given, kind, feature):
    """No decoder is asked for, be it there or not."""
    _, rows, _, text = KINDS[kind]
    table = pa.Table.from_pylist(rows)
    column = pa.array([{"bytes": sound(), "path": "a.wav"}] * len(rows))
    table = pa.table({text: column} | {name: table[name] for name in table.column_names if name != text})
    kinds = {name: {"_type": "Value", "dtype": str(table.schema.field(name).type)} for name in table.column_names}
    kinds = {name: one for name, one in kinds.items() if "list" not in one["dtype"]} | {text: {"_type": feature}}
    if len(kinds) < len(table.column_names):
        kinds["options"] = {"_type": "List", "feature": {"_type": "Value", "dtype": "string"}}
    described = {b"huggingface": json.dumps({"info": {"features": kinds}}).encode()}
    message = given(in_parquet(table.replace_schema_metadata(described)))
    assert any(what in message for what in ("no text", "cannot be read as an image"))


@EVERY_KIND
@EITHER_SPLIT
def test_a_description_that_datasets_does_not_read(given, kind):
    _, rows, label, _ = KINDS[kind]
    table = pa.Table.from_pylist(rows)
    unknown = json.dumps({"info": {"features": {label: {"_type": "Nonsense"}}}}).encode()
    for described in (b"{nonsense", unknown):
        message = given(in_parquet(table.replace_schema_metadata({b"huggingface": described})))
        assert "describes its columns in a way that datasets does not read" in message


@EVERY_KIND
@EITHER_SPLIT
def test_files_that_are_named_and_not_held(changed, kind, tmp_path):
    """No revision would cover them, and they may be any files of the machine."""
    (tmp_path / "secret.png").write_bytes(png("red"))
    message = changed(False, {"bytes": None, "path": str(tmp_path / "secret.png")})
    assert "names a file in column" in message
    assert "row 1, and does not hold it" in message


@EVERY_KIND
@EITHER_SPLIT
@pytest.mark.parametrize(
    ("ending", "content", "what"),
    [
        (".jsonl", b"null\n", "does not begin with an object"),
        (".jsonl", b'{"a":' * 30_000 + b"1" + b"}" * 30_000, "line 1 is nested too deeply"),
        (".jsonl", b'{"a": 1}\n{"a":' + b"[" * 30_000 + b"]" * 30_000 + b"}", "line 2 is nested too deeply"),
        (".jsonl", b"1\n2\n", "does not begin with an object"),
        (".jsonl", png("red"), "is zero, so it is not a text file"),
        (".json", b"null", "does not begin with an object"),
        (".json", b"[" * 30_000 + b"]" * 30_000, "nested too deeply"),
        (".json", b"[1, 2]", "list of something else than objects"),
        (".json", b'[{"a": 100000000000000000000}]', "no column"),
        (".json", b'[{"a": "\\ud800"}]', "half a character"),
        (".json", b'[{"a": 1}, {"a": "b"}]', "no column"),
        (".json", b'{"a": 1, "a": 2}', 'an object has "a" twice'),
        (".json.gz", b"no gzip", "cannot be read as .json.gz"),
        (".csv", b"", "it is empty"),
        (".csv", b"a,b\n1,2,3\n", "row 1 has 3 values, and the file has 2 columns"),
        (".csv", b'a,b\n1,"2\n3,4\n', "a quote is opened and not closed"),
        (".csv", b"a;b\n1;2\n", "separates its columns by semicolons; save it with commas"),
        (".csv", b"a\tb\n1\t2\n", "separates its columns by tabs"),
        (".csv", b"a;b;c,d\n1;2;3\n", "separates its columns by semicolons"),
        (".csv", "a,b\n1,2\n".encode("utf-16"), "is in UTF-16"),
        (".csv", "a,b\n1,2\n".encode("utf-16-be"), "is in UTF-16"),
        (".jsonl", '{"a": 1}\n'.encode("utf-32"), "is in UTF-32"),
        (".jsonl", b'{"a": 1}\n{"a": "caf\xe9"}\n', "not in UTF-8 (line 2, byte 0xe9)"),
        (".csv", sound(), "cannot be read as .csv"),
        (".csv.gz", b"no gzip", "cannot be read as .csv.gz"),
    ],
)
def test_text_files_that_are_none(given, ending, content, what):
    assert what in given(content, ending)


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (2, "its share is less than one example; give more"),
        (7, "its share of 1 is less than one of each of 2 classes"),
    ],
)
def test_a_split_that_is_too_small_to_cut(tmp_path, count, message):
    write(tmp_path / "train.jsonl", REVIEWS[:count])
    write(tmp_path / "test.jsonl", REVIEWS)
    assert message in unusable(task_file(tmp_path, TEXTS))


def test_a_class_of_one_example_is_too_small_to_cut(tmp_path):
    write(tmp_path / "train.jsonl", [*({"review": "a", "stars": "good"} for _ in range(30)), REVIEWS[0]])
    write(tmp_path / "test.jsonl", REVIEWS)
    assert "the class of number 0 has one example; give two or more" in unusable(task_file(tmp_path, TEXTS))


# Images in folders


@pytest.fixture
def folders(tmp_path):
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(8):
                (tmp_path / split / name / f"{number}.png").write_bytes(png((30 * number, 0, 0)))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train/cat/a.wav", sound(), '/train/cat/a.wav") cannot be read as an image: it is none of BMP'),
        ("test/cat/a.png", b"a text", "cannot be read as an image"),
        ("test/cat/a.png", b"", "cannot be read as an image"),
        ("test/cat/a.pdf", b"%PDF-1.4", "cannot be read as an image"),
        ("test/a.png", png("red"), "is in no class folder"),
        ("test/cow/a.png", png("red"), 'has the class "cow"'),
        ("train/cow/a.png", png("red"), "has 3 classes"),
        ("train/a\nb/a.png", png("red"), r"the name 'a\nb' cannot be printed; rename"),
        ("train/cat/a\x07.png", png("red"), r"the name 'a\x07.png' cannot be printed"),
    ],
)
def test_folders_of_images_with_something_else_in_them(folders, name, content, message):
    path = folders / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    assert message in unusable(task_file(folders, IMAGES))


@pytest.mark.parametrize("labelled", [True, False])
def test_names_that_are_not_in_utf_8(folders, labelled):
    os.mkdir(os.fsencode(str(folders / "train")) + b"/\xff")
    fields = IMAGES if labelled else {key: value for key, value in IMAGES.items() if key != "labels"}
    assert r"the name '\udcff' cannot be printed" in unusable(task_file(folders, fields))


def test_class_folders_without_images(folders):
    for name in ("cat", "dog"):
        for file in (folders / "test" / name).iterdir():
            file.unlink()
    assert "the test split of my/images is empty" in unusable(task_file(folders, IMAGES))


@pytest.mark.parametrize(("data", "count"), [(DATA, "1"), ({**DATA, "train": "gone"}, "none")])
def test_labels_are_left_out_only_where_folders_have_them(folders, data, count):
    for split in ("train", "test"):
        (folders / split / "dog").rename(folders / f"{split}-dog")
    fields = {key: value for key, value in IMAGES.items() if key != "labels"}
    message = unusable(task_file(folders, fields, data=data))
    assert f"leaves out the labels, which are then the names of class folders, and there are {count} in" in message


def test_a_check_decodes_every_image(folders):
    """Reading looks at the beginning of an image only."""
    _, splits = loaded(task_file(folders, IMAGES))
    check_files(splits)
    whole = png("red")
    (folders / "test" / "cat" / "cut.png").write_bytes(whole[: whole.index(b"IDAT") + 6])
    _, splits = loaded(task_file(folders, IMAGES))
    with pytest.raises(ValueError, match=r'image test:8 \(".*cut.png"\) cannot be read as an image'):
        check_files(splits)
