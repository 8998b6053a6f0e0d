"""Predicted memory of training beside what the profiler measures from outside; writes a table.

    python -m tests.perf.memory_prediction [PAIR ...]

A pair is METHOD@MODEL@BATCH; default: `PAIRS`. See bench/profile/PERFORMANCE.md.
"""

from __future__ import annotations

import sys

from parbench.bench.profile.prediction import predict_memory
from parbench.bench.profile.process import measure_in_subprocess
from parbench.bench.profile.workload import Candidate, MeasurementJob, Repetitions, Workload
from parbench.bench.record.run_record import Status
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
)
LENGTH = 64
TRAINING = Repetitions(steps=2, warm_up=2, parts=("training",))
MIB = 2**20
TITLES = ("method", "base model", "batch", "loaded", "in a step", "predicted", "measured", "error")


def compare(pair: str) -> str:
    """Return a row of the table: MiB above the start-up, predicted and measured."""
    name, model, batch = pair.split("@")
    choice = find_method(name)
    candidate = Candidate.of(name, choice.method, default_setting(choice))
    workload = Workload(model, int(batch), LENGTH, "cpu")
    predicted = predict_memory(candidate, workload)
    measured = measure_in_subprocess(MeasurementJob(candidate, workload, TRAINING, counts=False))
    if measured.status is not Status.OK:
        raise RuntimeError(f"{pair}: {measured.reason}")
    above = measured.peak_process - measured.start
    sizes = (predicted.load, predicted.step, predicted.process, above)
    error = f"{100 * (predicted.process / above - 1):+.1f} %"
    cells = [name, model, f"{batch} x {LENGTH}", *(f"{size / MIB:,.1f}" for size in sizes), error]
    return f"| {' | '.join(cells)} |"


def main(pairs: tuple[str, ...]) -> None:
    print(f"| {' | '.join(TITLES)} |\n| {' | '.join(['---'] * 3 + ['---:'] * 5)} |")
    for pair in pairs:
        print(compare(pair), flush=True)


if __name__ == "__main__":
    main(tuple(sys.argv[1:]) or PAIRS)
