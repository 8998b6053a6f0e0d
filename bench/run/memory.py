"""Counts parameters and watches memory while a run trains."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parbench.bench.record.run_record import RunRecord
from parbench.bench.util.process_memory import peak_bytes, reset_peak

if TYPE_CHECKING:
    import torch


SAMPLE_SECONDS = 0.05


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
    import psutil
    import torch

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


def reserved_memory(device: torch.device) -> int | None:
    """Return the most bytes that torch has held of a CUDA device since `peak_memory` was last entered.

    What was held before then counts as well, as far as it was not given back: torch keeps what it has once taken.
    """
    import torch

    return torch.cuda.max_memory_reserved(device) if device.type == "cuda" else None


def free_device(device: torch.device) -> None:
    """Give back what earlier runs of this process have left on a CUDA device, of which the next would seem to use more.

    Trainer and callbacks refer to each other, and to the model: only a collection ends them.
    """
    import torch

    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()


@dataclass(frozen=True)
class Overhead:
    """What the benchmark itself takes.

    Attributes:
        seconds: wall clock of the runs outside their training steps and the scoring of what they report.
        wall_seconds: all of it.
        runs: how many of them told.
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
    """Return how much of runs is neither training steps nor the scoring of a split; ``None`` where no run tells.

    A run that was interrupted is left out: its training's seconds are of all its parts, its wall clock of the last.
    """
    costs = [record.cost for record in records if record.cost is not None]
    told = [
        (cost.train_seconds + cost.scoring_seconds, cost.wall_seconds)
        for cost in costs
        if cost.wall_seconds is not None and cost.scoring_seconds is not None
    ]
    spent = [(wall - useful, wall) for useful, wall in told if wall >= useful]
    if not spent:
        return None
    return Overhead(sum(over for over, _ in spent), sum(wall for _, wall in spent), len(spent))
