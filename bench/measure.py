"""Counts parameters and watches memory while a run trains."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.record import ParameterLedger, RunRecord

if TYPE_CHECKING:
    import torch
    from torch import nn

    from methods.architecture import ModuleNames
    from methods.base import Method, ParameterGroup

SAMPLE_SECONDS = 0.05


@dataclass(frozen=True)
class Inventory:
    """What a base model consists of, before a method changes it in place."""

    numbers: int
    parameters: frozenset[int]

    @classmethod
    def of(cls, model: nn.Module) -> Inventory:
        """Count the parameters and buffers of ``model``."""
        return cls(_numbers(model), frozenset(id(parameter) for parameter in model.parameters()))


def ledger(
    model: nn.Module,
    method: Method[Any],
    names: ModuleNames,
    groups: Sequence[ParameterGroup],
    trainable: int,
    base: Inventory,
) -> ParameterLedger:
    """Count a trained model's parameters.

    Args:
        groups: every parameter that was ever optimised, as the optimiser got them.
        trainable: numbers that the last optimiser step could change, the head's included.
        base: what the model was before ``method`` adapted it.
    """
    from safetensors.torch import save

    head = sum(group.numbers for group in groups if group.is_head)
    optimised = sum(group.numbers for group in groups if not group.is_head)
    added = sum(p.numel() for group in groups for p in group.parameters if id(p) not in base.parameters)
    state = method.adapter_state(model, names)
    return ParameterLedger(
        reported=method.reported_parameters(model, names),
        trainable=trainable - head,
        optimised=optimised,
        stored_bytes=len(save(state)),
        head=head,
        frozen=_numbers(model) - base.numbers - added,
        # Fewer than were optimised are stored where the file holds what was computed from them (p-tuning's encoder).
        frozen_stored=max(0, sum(tensor.numel() for tensor in state.values()) - optimised),
    )


def _numbers(model: nn.Module) -> int:
    return sum(tensor.numel() for tensors in (model.parameters(), model.buffers()) for tensor in tensors)


@dataclass
class Peak:
    """Peak memory of a phase, in bytes."""

    process_bytes: int = 0
    device_bytes: int | None = None


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Peak]:
    """Measure the peak memory of the block: of the process by sampling, of a CUDA device by torch's own counter."""
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
    sampler = threading.Thread(target=sample, daemon=True, name="peak-memory")
    sampler.start()
    try:
        yield peak
    finally:
        done.set()
        sampler.join()
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
