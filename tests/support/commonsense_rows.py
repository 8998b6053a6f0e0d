"""Little of all eight commonsense sets, generated, in the hub's columns."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from parbench.tasks.commonsense.questions import Asked
from parbench.tasks.commonsense.sets import SETS
from tests.support.data import write_jsonl

BY_NAME = {part.name: part for part in SETS}
WORDS = ("red", "blue", "old", "new", "long", "flat", "warm", "cold")


def rows(name: str, count: int, seed: int) -> list[dict[str, Any]]:
    """Return generated questions of a set in the hub's columns."""
    draw = random.Random(f"{name} {seed}")
    (part,) = (part for part in SETS if part.name == name)
    found: list[dict[str, Any]] = []
    for number in range(count):
        thing = f"{name[:3]} {seed} {number}"
        if part.columns.row is None:
            found.append({"question": f"is {thing} red", "passage": f"{thing} is.", "label": number % 2})
            continue
        stem = f"He saw {thing}. It is _?" if name == "siqa" else f"{thing} is _"
        choices = tuple(draw.sample(WORDS, {"piqa": 2, "winogrande": 2, "siqa": 3}.get(name, 4)))
        asked = Asked(f"Topic: {stem}" if name == "hellaswag" else stem, choices, number % len(choices))
        found.append(part.columns.row(asked))
    return found


def write_sets(root: Path) -> Path:
    """Write 20 training and 3 reported questions of each set; return the data root."""
    for part in SETS:
        ref = part.data[-1]
        write_jsonl(root / ref.folder / "train.jsonl", rows(part.name, 20, seed=0))
        for split in ref.reported.values():
            write_jsonl(root / ref.folder / f"{split}.jsonl", rows(part.name, 3, seed=1))
    return root


def piqa_rows(count: int, first: int = 0) -> list[dict[str, Any]]:
    """Return generated questions of PIQA in the hub's columns."""
    return [
        {"goal": f"do thing {n}", "sol1": f"by way {n}", "sol2": f"by path {n}", "label": n % 2}
        for n in range(first, first + count)
    ]


def piqa_instructions(count: int, first: int = 0) -> list[dict[str, Any]]:
    """Return the same questions in LLM-Adapters' form."""
    part = BY_NAME["piqa"]
    found = []
    for row in piqa_rows(count, first):
        asked = part.asked(row)
        answer = part.wording.names(2)[asked.label]
        found.append({"instruction": part.wording.instruction(asked), "input": "", "output": "", "answer": answer})
    return found
