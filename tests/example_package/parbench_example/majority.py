"""Majority: are there more good words than bad ones? A task whose sentences are generated.

``python -m parbench_example.majority FOLDER`` writes the data, which ``bench run --tasks example/majority --data-root
FOLDER`` reads.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

from bench.reference import Reference
from tasks.data.source import DataRef, HubDataset
from tasks.text_classification import TextClassification

GOOD = ("good", "great", "lovely", "brilliant", "warm")
BAD = ("bad", "awful", "dull", "boring", "cold")
OTHER = ("the", "film", "was", "a", "story", "and", "its", "cast", "with", "very")

MAJORITY = TextClassification(
    name="example/majority",
    reference=Reference("An example, published nowhere", 2026, "parbench"),
    data=DataRef(
        folder="example-majority",
        train="train",
        reported={"": "validation"},
        # Where it would be published; here it is read with --data-root.
        hub=HubDataset("your-name/majority"),
    ),
    texts=("sentence",),
    labels=("bad", "good"),
    metrics=("accuracy",),
)


def sentences(count: int, seed: int) -> list[dict[str, str]]:
    """Return labelled sentences: three or five words that judge, among others that do not."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        words, others = (GOOD, BAD) if number % 2 else (BAD, GOOD)
        few = draw.randint(1, 2)
        sentence = [*draw.choices(words, k=few + 1), *draw.choices(others, k=few), *draw.choices(OTHER, k=6)]
        draw.shuffle(sentence)
        rows.append({"sentence": " ".join(sentence), "label": MAJORITY.labels[number % 2]})
    return rows


def write(root: Path) -> None:
    """Write the splits below a data root."""
    folder = root / MAJORITY.data.folder
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (split, count) in enumerate({"train": 400, "validation": 100}.items()):
        lines = "".join(json.dumps(row) + "\n" for row in sentences(count, seed))
        (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
