"""Measures what training saves by length groups and by runs side by side, the old way against the new one.

    python -m tests.perf.train_speed                      tokens multiplied, and the time of steps, in this process
    python -m tests.perf.train_speed --bfloat16           bfloat16 against float32, instead of groups against one pass
    python -m tests.perf.train_speed --suite              the GLUE part of the mini suite, 18 runs each way
    python -m tests.perf.train_speed --suite --seeds 1    a third of that
    python -m tests.perf.train_speed --suite --busy       beside one process that keeps a core busy
    python -m tests.perf.train_speed --suite --ways before,new --before CHECKOUT    an earlier commit as it was

Rounds are interleaved, so that a drift of the machine meets both ways; median and range are printed. The suite is
measured a seed at a time, and an interrupted measurement goes on where it was. Nothing here is asserted.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from parbench.bench.models.catalogue import find_model
from parbench.bench.train.length_groups import MOST_GROUPS, split_by_length
from parbench.bench.util import environment
from parbench.methods import find_method
from parbench.methods.architecture import module_names
from parbench.methods.expression import default_setting
from parbench.methods.loca.layer import LOCATIONS, LocaLayer
from parbench.tasks import find_task
from parbench.tasks.data.package_source import PackageSource
from parbench.tasks.inference import autocast
from tests.perf.suite_speed import WAYS, measure

MODEL = "minilm-l6"
TASKS = {"glue/sst2": 16, "glue/mrpc": 8, "glue/rte": 8}
GROUPS = MOST_GROUPS["cpu"]
Batch = dict[str, torch.Tensor]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=100, help="random batches whose tokens are counted")
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds of timed steps")
    parser.add_argument("--steps", type=int, default=8, help="steps in a round")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--methods", default="lora,loca")
    parser.add_argument("--bfloat16", action="store_true", help="time bfloat16 against float32, both in groups")
    parser.add_argument("--suite", action="store_true", help="measure the mini suite instead")
    parser.add_argument("--busy", action="store_true", help="beside a busy process")
    parser.add_argument("--seeds", default="1,2,3", help="of the suite; each is a part of 6 runs")
    parser.add_argument("--ways", default="old,new", help=f"of {', '.join(WAYS)}")
    parser.add_argument("--tasks", default=",".join(TASKS), help="of the suite")
    parser.add_argument("--options", default="--methods lora,loca", help="of bench run; a limit may follow")
    parser.add_argument(
        "--before", type=lambda text: Path(text).absolute(), help="checkout of an earlier commit, for the way before"
    )
    parser.add_argument("--folder", type=Path, default=Path("train_speed"), help="of the suite's times and stores")
    asked = parser.parse_args()
    if asked.suite:
        seeds, ways = [int(seed) for seed in asked.seeds.split(",")], asked.ways.split(",")
        if "before" in ways and asked.before is None:
            parser.error("the way before needs --before, a checkout of an earlier commit")
        measure(asked.folder, asked.tasks.split(","), seeds, ways, asked.busy, asked.options.split(), asked.before)
        return
    torch.set_num_threads(asked.threads)
    machine = environment.hardware(torch.device("cpu"))
    print(f"{machine['cpu']}, {machine['cores']} cores, {asked.threads} thread(s), {environment.versions()}")
    batches = {task: random_batches(task, size, asked.batches) for task, size in TASKS.items()}
    print_tokens(batches)
    for method in asked.methods.split(","):
        print_steps(method, batches, asked.rounds, asked.steps, PRECISIONS if asked.bfloat16 else PASSES)


def random_batches(name: str, size: int, count: int) -> list[Batch]:
    """Return random batches of a task's training split, as training draws them."""
    task, model = find_task(name), find_model(MODEL)
    tokenizer = model.tokenizer(model.weights.revision(None))  # type: ignore[arg-type]  # a package needs no lock
    split = task.splits(PackageSource(), None).train
    rows = task.prepare(split, tokenizer, 128)
    draw, collate = random.Random(0), task.collate(tokenizer)
    return [collate([rows[row] for row in draw.sample(range(len(rows)), size)]) for _ in range(count)]


def print_tokens(batches: dict[str, list[Batch]]) -> None:
    """Print how many tokens are multiplied for each real one."""
    print("\ntokens multiplied per real token\n| task | batch | one pass | groups | passes |\n" + "| ---: " * 5 + "|")
    for task, found in batches.items():
        real = sum(int(batch["attention_mask"].sum()) for batch in found)
        whole = sum(batch["input_ids"].numel() for batch in found)
        groups = [group for batch in found for group in split_by_length(batch, GROUPS)]
        cut = sum(group["input_ids"].numel() for group in groups)
        passes = len(groups) / len(found)
        print(f"| {task} | {TASKS[task]} | {whole / real:.2f} | {cut / real:.2f} | {passes:.1f} |")


@dataclass(frozen=True)
class Way:
    """How a batch goes through the model: in so many passes at most, and in which precision."""

    name: str
    most: int
    precision: str = "float32"


PASSES = (Way("one pass", 1), Way("groups", GROUPS))
PRECISIONS = (Way("float32", GROUPS), Way("bfloat16", GROUPS, "bfloat16"))


def print_steps(method: str, batches: dict[str, list[Batch]], rounds: int, steps: int, ways: tuple[Way, Way]) -> None:
    """Print the time of forward and backward passes of a step, the second way's as a share of the first's."""
    print(
        f"\n{method}: seconds per step, interleaved\n| task | {ways[0].name} | {ways[1].name} | share (range) |\n"
        + "| ---: " * 4
        + "|"
    )
    for task, found in batches.items():
        step = Step(method, task)
        for way in ways:
            step.run(found[:2], way)
        times: dict[Way, list[float]] = {way: [] for way in ways}
        for number in range(rounds):
            part = [found[(number * steps + place) % len(found)] for place in range(steps)]
            for way in ways if number % 2 == 0 else ways[::-1]:
                start = time.perf_counter()
                step.run(part, way)
                times[way].append((time.perf_counter() - start) / steps)
        old, new = (times[way] for way in ways)
        shares = [after / before for before, after in zip(old, new, strict=True)]
        share = f"{statistics.median(shares):.2f} ({min(shares):.2f}-{max(shares):.2f})"
        print(f"| {task} | {statistics.median(old):.3f} | {statistics.median(new):.3f} | {share} |", flush=True)


class Step:
    """Forward and backward passes of an adapted model on a task's batches; of LoCA in its second phase."""

    def __init__(self, method: str, task: str) -> None:
        choice, model = find_method(method), find_model(MODEL)
        self.task = find_task(task)
        torch.manual_seed(0)
        base = model.load(self.task.head, model.weights.revision(None))  # type: ignore[arg-type]
        self.model = choice.method.adapt(base, module_names(base), default_setting(choice)).train()
        for module in self.model.modules():
            if isinstance(module, LocaLayer):
                module.freeze("default", [LOCATIONS])

    def run(self, batches: list[Batch], way: Way) -> None:
        """Do so many steps, without the optimiser's."""
        for batch in batches:
            for group in split_by_length(batch, way.most):
                labels = group["labels"]
                with autocast(labels.device, way.precision):
                    logits = self.model(**{name: value for name, value in group.items() if name != "labels"}).logits
                (self.task.loss(logits.float(), labels) * len(labels) / len(batch["labels"])).backward()
            self.model.zero_grad()


if __name__ == "__main__":
    main()
