"""Measures what shared prompts save in scoring, and packing in training, on a small language model and real texts.

    python -m tests.perf.language_models --data-root DATA

Rounds are interleaved, so that a drift of the machine meets every way; median and range are printed. Nothing is
asserted but that the ways agree. `DATA` has folders as `bench run --data-root` reads them.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from datasets import Dataset

from parbench.bench.models.catalogue import find_model
from parbench.bench.train.length_groups import MOST_GROUPS, split_by_length
from parbench.bench.train.packing import pack
from parbench.bench.util import environment
from parbench.methods import find_method
from parbench.methods.architecture import module_names
from parbench.methods.expression import default_setting
from parbench.tasks import find_task, shared_prompts
from parbench.tasks.base import LANGUAGE_MODEL
from parbench.tasks.data.location import DataLocation
from parbench.tasks.inference import IGNORED, Predictor
from parbench.tasks.kinds.language_model import next_token_loss

MODEL = "smollm2-135m"
QUESTIONS = "commonsense/ARC-Easy/{}.jsonl.gz"
CHOICES = tuple(f" the correct answer is answer{number}" for number in (1, 2, 3, 4))
TEXTS = "instruct"
LONGEST = 256
Batch = dict[str, Any]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--rows", type=int, default=24, help="texts that a round trains on, and three for each question that it scores"
    )
    parser.add_argument("--what", choices=("scoring", "training"), help="one of the two; default: both")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    machine = environment.hardware(torch.device("cpu"))
    print(f"{machine['cpu']}, {machine['cores']} cores, 1 thread, {environment.versions()}, {MODEL}")
    if asked.what != "training":
        print_scoring(asked.data_root, asked.rows // 3, asked.rounds)
    if asked.what != "scoring":
        print_training(DataLocation("any", "none.json", str(asked.data_root)), asked.rows, asked.rounds)


def print_scoring(root: Path, questions: int, rounds: int) -> None:
    """Print the time of likelihoods of choices, with whole rows and with shared prompts."""
    print(
        "\nlikelihoods of four choices\n| questions | whole rows, s | shared prompts, s | share (range) |\n| --- "
        + "| ---: " * 3
        + "|"
    )
    for examples in (0, 3):
        print_ways(f"{questions}, each after {examples} examples", scoring(root, examples, questions), rounds)


def print_training(location: DataLocation, rows: int, rounds: int) -> None:
    """Print the time of steps on padded rows, in length groups and on packed rows, two ways at a time."""
    print("\ntraining\n| step | first way, s | second way, s | share (range) |\n| --- " + "| ---: " * 3 + "|")
    for size in (4, 8):
        ways = training(location, size, max(1, rows // size))
        for first, second in (("padded", "length groups"), ("padded", "packing"), ("length groups", "packing")):
            print_ways(f"{size} texts, {first}, {second}", {first: ways[first], second: ways[second]}, rounds)


def print_ways(name: str, ways: Mapping[str, Callable[[], Any]], rounds: int) -> None:
    """Print the times of two ways and of the second as a share of the first, after a check that they agree."""
    (first, one), (second, other) = ways.items()
    np.testing.assert_allclose(one(), other(), rtol=2e-3, atol=2e-3)
    times: dict[str, list[float]] = {first: [], second: []}
    for number in range(rounds):
        for way in (first, second) if number % 2 == 0 else (second, first):
            start = time.perf_counter()
            ways[way]()
            times[way].append(time.perf_counter() - start)
    shares = [new / old for old, new in zip(times[first], times[second], strict=True)]
    middle = " | ".join(f"{statistics.median(times[way]):.2f}" for way in ways)
    print(f"| {name} | {middle} | {statistics.median(shares):.2f} ({min(shares):.2f}-{max(shares):.2f}) |", flush=True)


def scoring(root: Path, examples: int, count: int) -> dict[str, Callable[[], Any]]:
    """Return how the choices of questions are scored, with and without shared prompts.

    Args:
        root: of the data.
        examples: number of solved questions before each.
        count: number of questions.
    """
    model = find_model(MODEL)
    revision = model.weights.revision(None)  # type: ignore[arg-type]  # a package needs no lock
    tokenizer = model.tokenizer(revision)
    base = model.load(LANGUAGE_MODEL, revision).eval()
    solved, asked = (_lines(root / QUESTIONS.format(split)) for split in ("train", "test"))
    before = "".join(f"{line['instruction']}\n{line['output']}\n\n" for line in solved[:examples])
    rows: dict[str, list[list[int]]] = {"input_ids": [], "labels": []}
    for line in asked[:count]:
        prompt = tokenizer(f"{before}{line['instruction']}\n")["input_ids"]
        for choice in (tokenizer(text)["input_ids"] for text in CHOICES):
            rows["input_ids"].append(prompt + choice)
            rows["labels"].append([IGNORED] * len(prompt) + choice)
    data = Dataset.from_dict(rows)
    predictor = Predictor(base, tokenizer, partial(collated, tokenizer.pad_token_id or 0), 16, torch.device("cpu"))

    def scored(share: bool) -> Any:
        with nullcontext() if share else mock.patch.object(shared_prompts, "shares_prompts", return_value=False):
            return predictor.log_likelihoods(data)

    return {"whole": lambda: scored(False), "shared": lambda: scored(True)}


def collated(pad: int, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Return rows as a batch, padded on the right."""
    ids, mask = shared_prompts.padded([row["input_ids"] for row in rows], torch.device("cpu"), pad)
    labels, _ = shared_prompts.padded([row["labels"] for row in rows], torch.device("cpu"), IGNORED)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def _lines(file: Path) -> list[dict[str, str]]:
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def training(location: DataLocation, size: int, count: int) -> dict[str, Callable[[], float]]:
    """Return the ways to go forward and backward over batches of texts; each returns the sum of the losses."""
    task, model, choice = find_task(TEXTS), find_model(MODEL), find_method("lora")
    revision = model.weights.revision(None)  # type: ignore[arg-type]
    tokenizer = model.tokenizer(revision)
    torch.manual_seed(0)
    base = model.load(task.head, revision)
    adapted = choice.method.adapt(base, module_names(base), default_setting(choice)).train()
    rows = task.prepare(task.splits(location.source(task), 500).train, tokenizer, LONGEST)
    draw, collate = random.Random(0), task.collate(tokenizer)
    batches = [collate([rows[row] for row in draw.sample(range(len(rows)), size)]) for _ in range(count)]

    def way(passes: Callable[[Batch], list[Batch]]) -> Callable[[], float]:
        def run() -> float:
            total = 0.0
            for batch in batches:
                labels = int((batch["labels"][:, 1:] >= 0).sum())
                for part in passes(batch):
                    own = int((part["labels"][:, 1:] >= 0).sum())
                    logits = adapted(**{name: value for name, value in part.items() if name != "labels"}).logits
                    loss = next_token_loss(logits, part["labels"]) * own / labels
                    loss.backward()
                    total += float(loss.detach())
                adapted.zero_grad()
            return total

        return run

    return {
        "padded": way(lambda batch: [batch]),
        "length groups": way(lambda batch: list(split_by_length(batch, MOST_GROUPS["cpu"]))),
        "packing": way(lambda batch: [pack(batch)]),
    }


if __name__ == "__main__":
    main()
