"""Data that the task of a file cannot use: files, rows, images, templates and choices."""

import gzip

import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.support.yaml_files import (
    ASKED,
    CHOICES,
    IMAGES,
    QUESTIONS,
    RANKED,
    REVIEWS,
    TEXTS,
    both,
    png,
    task_file,
    unusable,
    write,
)


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
    ("rows", "message"),
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
def test_rows_that_are_not_classification(tmp_path, rows, message):
    both(tmp_path, REVIEWS)
    parquet.write_table(
        pa.Table.from_pylist(rows) if rows else pa.table({"review": [""], "stars": [""]}).slice(0, 0),
        tmp_path / "test.parquet",
    )
    (tmp_path / "test.jsonl").unlink()
    found = unusable(task_file(tmp_path, TEXTS))
    assert message in found
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
