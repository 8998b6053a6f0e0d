"""Counts parameters and watches memory while a run trains."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.record import ParameterLedger

if TYPE_CHECKING:
    import torch
    from torch import nn

    from methods.architecture import ModuleNames
    from methods.base import Method, ParameterGroup

SAMPLE_SECONDS = 0.05


def ledger(
    model: nn.Module,
    method: Method[Any],
    names: ModuleNames,
    groups: Sequence[ParameterGroup],
    trainable: int,
) -> ParameterLedger:
    """Count a trained model's parameters.

    Args:
        groups: every parameter that was ever optimised, as the optimiser got them.
        trainable: numbers that the last optimiser step could change, the head's included.
    """
    from safetensors.torch import save

    head = {group.name: sum(p.numel() for p in group.parameters) for group in groups}.pop("head", 0)
    return ParameterLedger(
        reported=method.reported_parameters(model, names),
        trainable=trainable - head,
        optimised=sum(p.numel() for group in groups for p in group.parameters if group.name != "head"),
        stored_bytes=len(save(method.adapter_state(model, names))),
        head=head,
    )


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
