"""A task file on sentences about films, with its data."""

import yaml

from tests.support.data import write_jsonl

REFERENCE = {"title": "Films", "year": 2026, "venue": "own data"}
COMMON = {"name": "my/films", "reference": REFERENCE, "data": {"train": "train", "reported": "test"}}
FILMS = {**COMMON, "kind": "classification", "texts": ["sentence"], "labels": ["negative", "positive"]}


def task_file(folder, fields, rows, reported=None):
    """Write a task file with its data, of which four rows are reported if no others are given; return its path."""
    write_jsonl(folder / "train.jsonl", rows)
    write_jsonl(folder / "test.jsonl", rows[:4] if reported is None else reported)
    path = folder / "task.yaml"
    path.write_text(yaml.safe_dump(fields), encoding="utf-8")
    return path
