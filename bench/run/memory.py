"""Measures the memory of a run, and the share of its time that the benchmark itself takes."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

import psutil
import torch

from parbench.bench.record.run_record import RunRecord
from parbench.bench.util.process_memory import peak_bytes, reset_peak

SAMPLE_SECONDS = 0.05
_trainings = count()


@dataclass
class Peak:
    """Peak memory of a phase, in bytes."""

    process_bytes: int = 0
    device_bytes: int | None = None


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Peak]:
    """Measure the peak memory of the block: of the process by the kernel's mark, of a CUDA device by torch's counter.

    Where the kernel keeps no mark, the memory of the process is sampled.
    """
    peak = Peak()
    process = psutil.Process()
    done = threading.Event()

    def sample() -> None:
        while True:
            peak.process_bytes = max(peak.process_bytes, process.memory_info().rss)
            if done.wait(SAMPLE_SECONDS):
                return

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    is_marked = reset_peak()
    sampler = threading.Thread(target=sample, daemon=True, name="peak-memory")
    sampler.start()
    try:
        yield peak
    finally:
        done.set()
        sampler.join()
        if is_marked and (marked := peak_bytes()) is not None:
            peak.process_bytes = max(peak.process_bytes, marked)
        if device.type == "cuda":
            peak.device_bytes = torch.cuda.max_memory_allocated(device)


def is_first_training() -> bool:
    """Return whether this is called for the first time in this process, as before each training.

    The resident memory of a later one holds what the earlier ones have left: freed memory that was not given back.
    """
    return next(_trainings) == 0


def reserved_memory(device: torch.device) -> int | None:
    """Return the peak of the bytes that torch has reserved on a CUDA device since `peak_memory` was last entered.

    Memory reserved before then counts unless it was released: torch keeps what it has reserved.
    """
    return torch.cuda.max_memory_reserved(device) if device.type == "cuda" else None


def free_device(device: torch.device) -> None:
    """Release what earlier runs of this process have left on a CUDA device, which would count for the next run.

    Trainer and callbacks refer to each other and to the model, so that only the garbage collector frees them.
    """
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()


@dataclass(frozen=True)
class Overhead:
    """The time that the benchmark itself takes.

    Attributes:
        seconds: wall clock of the runs outside training steps and scoring.
        wall_seconds: the whole wall clock of the runs.
        runs: the number of runs with known times.
    """

    seconds: float
    wall_seconds: float
    runs: int

    @property
    def share(self) -> float:
        """The overhead as a share of the wall clock."""
        return self.seconds / self.wall_seconds

    def __str__(self) -> str:
        minutes = self.wall_seconds / 60
        return (
            f"{self.share:.1%} of {minutes:.1f} minutes were spent outside training steps and evaluation "
            f"({self.seconds / self.runs:.1f} s a run)"
        )


def overhead_share(records: Iterable[RunRecord]) -> Overhead | None:
    """Return the time of runs that is neither training steps nor scoring; ``None`` if no run has known times.

    Interrupted runs are left out: their training time covers all parts, their wall clock the last part only.
    """
    costs = [record.cost for record in records if record.cost is not None]
    known = [
        (cost.train_seconds + cost.scoring_seconds, cost.wall_seconds)
        for cost in costs
        if cost.wall_seconds is not None and cost.scoring_seconds is not None
    ]
    spent = [(wall - useful, wall) for useful, wall in known if wall >= useful]
    if not spent:
        return None
    return Overhead(sum(over for over, _ in spent), sum(wall for _, wall in spent), len(spent))
