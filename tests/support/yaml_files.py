"""Task files, and the data they are of, for the tests of `parbench.tasks.from_yaml`."""

from __future__ import annotations

import gzip
import io
import json

import pandas as pd
import pyarrow as pa
import pytest
import yaml
from PIL import Image
from pyarrow import parquet

from parbench.bench.util.errors import UserError
from parbench.tasks.from_yaml import task_of_file

REFERENCE = {"title": "Reviews", "year": 2026, "venue": "own data"}
DATA = {"train": "train", "reported": "test"}
TEXTS = {
    "name": "my/reviews",
    "kind": "classification",
    "reference": REFERENCE,
    "data": DATA,
    "texts": ["review"],
    "label": "stars",
    "labels": ["bad", "good"],
    "metrics": ["accuracy", "f1"],
}
QUESTIONS = {
    "name": "my/questions",
    "kind": "text_generation",
    "reference": REFERENCE,
    "data": DATA,
    "prompt": "{question} ?",
    "response": " {answer}",
    "metrics": ["exact_match", "bleu", "chrf", "rouge_l"],
    "options": {"max_new_tokens": 4},
}
CHOICES = {
    "name": "my/choices",
    "kind": "multiple_choice",
    "reference": REFERENCE,
    "data": DATA,
    "prompt": "{question}",
    "choices": "options",
    "label": "right",
}
IMAGES = {
    "name": "my/images",
    "kind": "image_classification",
    "reference": REFERENCE,
    "data": DATA,
    "labels": ["cat", "dog"],
}
REVIEWS = [{"review": f"film {n}", "stars": ("bad", "good")[n % 2]} for n in range(20)]
ASKED = [{"question": f"what is {n}", "answer": f"the {n}"} for n in range(20)]
RANKED = [{"question": f"pick {n}", "options": ["red one", "blue", "green"], "right": n % 3} for n in range(20)]


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith(".parquet"):
        parquet.write_table(pa.Table.from_pylist(rows), path)
        return path
    if ".csv" in path.name:
        content = pd.DataFrame(rows).to_csv(index=False).encode()
    elif path.suffix == ".json":
        content = json.dumps(rows).encode()
    else:
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def task_file(folder, fields, **changes):
    path = folder / "task.yaml"
    path.write_text(yaml.safe_dump({**fields, **changes}), encoding="utf-8")
    return path


def both(folder, rows, ending=".jsonl"):
    write(folder / f"train{ending}", rows)
    write(folder / f"test{ending}", rows[:8])
    return folder


def loaded(path):
    task = task_of_file(path)
    return task, task.splits(task.own_source)


def unusable(path):
    """Return the error message for a task file whose data cannot be used."""
    with pytest.raises(UserError) as error:
        loaded(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def png(colour):
    file = io.BytesIO()
    Image.new("RGB", (4, 3), colour).save(file, "PNG")
    return file.getvalue()
