"""Predicted memory of training beside what the profiler measures from outside; writes a table.

    python -m tests.perf.memory_prediction [PAIR ...]

A pair is METHOD@MODEL@BATCH, METHOD@MODEL@BATCH@PRECISION of the base weights, or these and @autocast or
@checkpointing; default: `PAIRS`. Each is measured several times, as the same step takes another amount in each process.
See bench/profile/PERFORMANCE.md.
"""

from __future__ import annotations

import statistics
import sys
from dataclasses import replace
from typing import Any, cast

from parbench.bench.profile.prediction import predict_memory
from parbench.bench.profile.process import measure_in_subprocess
from parbench.bench.profile.workload import Candidate, MeasurementJob, Repetitions, Workload
from parbench.bench.record.run_record import Status
from parbench.bench.util.base_precision import FLOAT32, BasePrecision
from parbench.methods import find_method
from parbench.methods.expression import default_setting

PAIRS = (
    "lora@minilm-l6@16",
    "loca@minilm-l6@16",
    "dora@minilm-l6@16",
    "vera@minilm-l6@16",
    "fourierft@minilm-l6@16",
    "replora@minilm-l6@16",
    "full@minilm-l6@16",
    "linear_probe@minilm-l6@16",
    "lora@vit-s-14@2",
    "loca@smollm2-135m@4",
    "bitfit@minilm-l6@8",
    "lora@minilm-l6@4",
    "dora@minilm-l6@32",
    "lora@bert-tiny@64",
    "adalora@vit-s-14@1",
    "lora@smollm2-135m@2",
    "replora@smollm2-135m@1",
    "full@bert-tiny@64",
    "lora@vit-s-smollm2@2",
    "lora@minilm-l6@16@nf4",
    "lora@minilm-l6@16@int8",
    "loca@minilm-l6@16@nf4",
    "lora@smollm2-135m@2@nf4",
    "lora@smollm2-135m@2@int8",
    "lora@minilm-l6@16@float32@autocast",
    "full@minilm-l6@16@float32@autocast",
    "lora@minilm-l6@16@bfloat16",
    "lora@minilm-l6@16@float32@checkpointing",
    "loca@smollm2-135m@4@float32@checkpointing",
)
CHANGES: dict[str, dict[str, Any]] = {
    "": {},
    "autocast": {"precision": "bfloat16"},
    "checkpointing": {"gradient_checkpointing": True},
}
TIMES = 3
LENGTH = 64
TRAINING = Repetitions(steps=2, warm_up=2, parts=("training",))
MIB = 2**20
TITLES = ("method", "base model", "weights", "batch", "loaded", "in a step", "predicted", "median", "measured", "error")


def compare(pair: str) -> str:
    """Return a row of the table: MiB above the start-up, predicted and measured."""
    name, model, batch, *how = pair.split("@")
    choice = find_method(name)
    candidate = Candidate.of(name, choice.method, default_setting(choice))
    dtype = cast(BasePrecision, how[0] if how else FLOAT32)
    workload = replace(Workload(model, int(batch), LENGTH, "cpu", dtype), **CHANGES[how[1] if how[1:] else ""])
    predicted = predict_memory(candidate, workload)
    found = sorted(above_start(MeasurementJob(candidate, workload, TRAINING, counts=False)) for _ in range(TIMES))
    middle = statistics.median(found)
    sizes = (predicted.load, predicted.step, predicted.process, middle)
    error = f"{100 * (predicted.process / middle - 1):+.1f} %"
    span = f"{found[0] / MIB:,.0f} to {found[-1] / MIB:,.0f}"
    cells = [
        name,
        model,
        ", ".join(how) or dtype,
        f"{batch} x {LENGTH}",
        *(f"{size / MIB:,.1f}" for size in sizes),
        span,
        error,
    ]
    return f"| {' | '.join(cells)} |"


def above_start(job: MeasurementJob) -> int:
    """Return the most bytes that a process took above its start-up."""
    measured = measure_in_subprocess(job)
    if measured.status is not Status.OK:
        raise RuntimeError(f"{job.candidate.name}: {measured.reason}")
    return measured.peak_process - measured.start


def main(pairs: tuple[str, ...]) -> None:
    print(f"| {' | '.join(TITLES)} |\n| {' | '.join(['---'] * 4 + ['---:'] * 6)} |")
    for pair in pairs:
        print(compare(pair), flush=True)


if __name__ == "__main__":
    main(tuple(sys.argv[1:]) or PAIRS)
