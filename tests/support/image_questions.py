"""A small task of questions about random pictures, and its rows."""

from __future__ import annotations

from typing import Any

from datasets import Dataset

from parbench.bench.util.reference import Reference
from parbench.tasks.data.source import DataRef
from parbench.tasks.kinds.image_text import ImageTextGeneration, ImageTextOptions
from parbench.tasks.kinds.text_generation import Template
from tests.support.pictures import encoded, picture

COMMON: dict[str, Any] = {
    "name": "my/pictures",
    "reference": Reference("Pictures", 2026, "own data"),
    "data": DataRef("pictures", "train", {"": "test"}),
}
QUESTIONS = ImageTextGeneration(
    **COMMON,
    prompt_template=Template("{question}"),
    response_template=Template(" {answer}"),
    metrics=("exact_match",),
    options=ImageTextOptions(max_new_tokens=5),
)


def files(count: int, seed: int = 0) -> list[bytes]:
    """Return pictures as files, each of its own."""
    return [encoded(picture(seed=seed + number)) for number in range(count)]


def questions(count: int = 5, **columns: Any) -> Dataset:
    """Return rows as a source has them, with some columns replaced."""
    rows = {
        "image": files(count),
        "question": [f"what is {'it ' * number}?" for number in range(count)],
        "answer": [f"thing {number}" * (1 + number % 2) for number in range(count)],
    }
    return Dataset.from_dict({**rows, **columns})


def checked(task: Any, dataset: Dataset) -> Dataset:
    """Return rows as a split has them."""
    rows = task.check(dataset, "test")
    names = [f"test:{row}" for row in range(len(rows))]
    return rows.add_column("example", names).add_column("subset", [""] * len(rows))
