"""Times the GLUE part of the mini suite, the old way against the new one, a seed at a time.

Every part is one ``bench run`` of all tasks and methods with one seed, into a store of its own. What is measured is
appended to ``times.jsonl`` at once, and a rerun of the command goes on behind it; a part that was cut off begins again.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

import parbench

# The old way: one run at a time on all cores, one pass per batch.
WAYS: dict[str, list[str]] = {
    "old": ["--workers", "1", "--set", "train.length_groups=1"],
    "one worker": ["--workers", "1"],
    "new": [],
    "before": [],
}


@dataclass(frozen=True)
class Part:
    """The time of one part.

    Attributes:
        seed: of its runs.
        way: a key of `WAYS`.
        runs: how many were done.
        seconds: wall clock of the command.
    """

    seed: int
    way: str
    runs: int
    seconds: float


def measure(
    folder: Path,
    tasks: Sequence[str],
    seeds: Sequence[int],
    ways: Sequence[str],
    busy: bool,
    options: Sequence[str],
    before: Path | None = None,
) -> None:
    """Measure what is missing, print the times so far after each part, and the scores at the end.

    Args:
        folder: of the times and stores; one for each set of tasks and options.
        tasks: of the mini suite.
        seeds: one part each, in this order.
        ways: keys of `WAYS`; within a seed they follow each other.
        busy: keep one core busy beside all of it.
        options: further arguments of ``bench run``, such as a limit.
        before: a checkout of an earlier commit, whose own code is the way ``before``.
    """
    own = folder / ("busy" if busy else "quiet")
    own.mkdir(parents=True, exist_ok=True)
    times = own / "times.jsonl"
    found = [Part(**json.loads(line)) for line in times.read_text().splitlines()] if times.exists() else []
    for seed in seeds:
        for way in ways:
            if any((part.seed, part.way) == (seed, way) for part in found):
                continue
            store = own / f"{way} {seed}"
            shutil.rmtree(store, ignore_errors=True)
            with neighbour(busy):
                arguments = [*WAYS[way], *options, "--seeds", str(seed), "--out", str(store.absolute())]
                seconds = timed_run(arguments, tasks, before if way == "before" else None)
            found.append(Part(seed, way, len(parbench.load(store)), round(seconds, 1)))
            with times.open("a") as file:
                file.write(json.dumps(asdict(found[-1])) + "\n")
            print_times(found, ways)
    print_scores({way: [own / f"{way} {seed}" for seed in seeds] for way in ways})


def timed_run(arguments: Sequence[str], tasks: Sequence[str], before: Path | None = None) -> float:
    """Return the seconds of one ``bench run``, of an earlier checkout if given; its output is shown if it fails."""
    module = "parbench.bench" if before is None or (before / ".src").exists() else "bench"
    command = [sys.executable, "-m", module, "run", "--suite", "mini", "--tasks", ",".join(tasks), *arguments]
    there = {} if before is None else {"PYTHONPATH": str(before / ".src" if module == "parbench.bench" else before)}
    start = time.perf_counter()
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=before, env=os.environ | there
    )
    if done.returncode:
        raise SystemExit(f"{done.stdout}\n{' '.join(command)} ended with code {done.returncode}")
    return time.perf_counter() - start


def print_times(parts: Sequence[Part], ways: Sequence[str]) -> None:
    """Print the seconds of each seed, and which share of the first way's time the others take."""
    print("\n| seed | runs |" + "".join(f" {way}, s |" for way in ways) + " share of the first |")
    print("|---|---|" + "---|" * len(ways) + "---|")
    for seed in dict.fromkeys(part.seed for part in parts):
        seconds = {part.way: part.seconds for part in parts if part.seed == seed}
        runs = next(part.runs for part in parts if part.seed == seed)
        shares = [f"{seconds[way] / seconds[ways[0]]:.2f}" for way in ways[1:] if {way, ways[0]} <= seconds.keys()]
        cells = [f"{seconds[way]:.0f}" if way in seconds else "" for way in ways]
        print(f"| {seed} | {runs} | {' | '.join(cells)} | {', '.join(shares)} |", flush=True)


def print_scores(stores: Mapping[str, Sequence[Path]]) -> None:
    """Print the scores of each way side by side: they differ by the rounding of training, and by nothing else."""
    key = ["method", "task", "seed", "metric"]
    columns = [pd.concat([parbench.load(one) for one in found]).set_index(key)["score"] for found in stores.values()]
    print("\n" + pd.concat(columns, axis=1, keys=list(stores)).round(4).to_string(), flush=True)


@contextmanager
def neighbour(busy: bool) -> Iterator[None]:
    """Keep one core busy, if asked."""
    process: Any = multiprocessing.get_context("spawn").Process(target=_spin, daemon=True) if busy else None
    if process:
        process.start()
    try:
        yield
    finally:
        if process:
            process.kill()


def _spin() -> None:
    while True:
        sum(range(10_000))
