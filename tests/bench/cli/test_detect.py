"""`bench plan --detect` on a task of the mini suite's kind, with and without a store."""

import json

import pytest

from parbench.reports.needed import default_words


@pytest.fixture
def detect(bench, tiny_model, tiny_data, tmp_path):
    def call(points, task="glue/sst2", seeds="1,2,3", data_root=tiny_data):
        common = ["--suite", "mini", "--tasks", task, "--methods", "bitfit,linear_probe", "--budget", "none"]
        paths = ["--model", tiny_model, "--data-root", data_root, "--out", tmp_path / "store"]
        return bench("plan", "--detect", points, *common, *paths, "--seeds", seeds, "--set", "train.max_length=32")

    return call


def test_without_a_store_the_defaults_are_stated(detect):
    result = detect("1.0")
    assert result.code == 0, result.err
    assert " ".join(default_words().split()[:4]) in result.out
    assert "60" in result.out  # reported examples
    assert "find a difference of 1 between two methods with 80 % power" in result.out


def test_two_seeds_see_nothing_since_they_are_not_compared(detect):
    (row,) = [line for line in detect("20", seeds="1,2").out.splitlines() if line.startswith("glue/sst2")]
    (three,) = [line for line in detect("20").out.splitlines() if line.startswith("glue/sst2")]
    assert row.split()[-2:] == ["alone", "—"]
    assert float(three.split()[-1]) > 0


@pytest.mark.parametrize(("task", "columns"), [("glue/cola", ["sentence"]), ("glue/stsb", ["sentence1", "sentence2"])])
def test_the_noise_of_an_accuracy_is_not_assumed_of_another_metric(detect, tmp_path, task, columns):
    folder = tmp_path / task.replace("/", "-")
    folder.mkdir()
    for split in ("train", "validation"):
        rows = [{**dict.fromkeys(columns, f"word {row}"), "label": row % 2, "idx": row} for row in range(40)]
        (folder / f"{split}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    result = detect("1", task=task, data_root=tmp_path)
    assert result.code == 0, result.err
    assert "not known" in result.out
    assert " ".join(default_words().split()[:4]) not in result.out


def test_a_difference_of_nothing_is_refused(detect):
    for points in ("0", "-1", "nan"):
        result = detect(points)
        assert result.code == 2
        assert "--detect is" in result.err
