"""Which runs share an accelerator: those that are known to fit together.

Only runs of a comparison are packed. Profiling measures speed, does not use these executors, and never shares a device
with its own measurements (`parbench.bench.profile.runner` has one process at a time).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from parbench.bench.util import environment

# Share of a device's memory that is left free.
MARGIN = 0.05
# CUDA, its libraries and their kernels take some of the device in every process, which torch does not count: commonly
# some hundred MiB.
PROCESS_BYTES = 2**30
# The runs that were measured had other seeds, hence other batches, of which one may be longer.
SLACK = 1.1


@dataclass
class Packing:
    """Finds a device for each run.

    A run gets a device of its own where one is idle. It joins others only where the peak memory of all of them is known
    and the sum fits. A run of unknown peak therefore has its device for itself, and so has one that would fit nowhere.
    An idle device accepts any run, so a run that never fits beside others still gets its turn. What other commands and
    users do on the same devices is unknown.

    Attributes:
        memory: of each device, in bytes; ``None`` where runs are not packed by memory (on the CPU).
        workers: number of simultaneous runs on all devices together.
    """

    memory: Mapping[str, int | None]
    workers: int
    _running: dict[str, tuple[str, int | None]] = field(default_factory=dict)

    def place(self, peak: int | None) -> str | None:
        """Return the device for one more run, the least busy one of those that have room, or ``None``.

        Args:
            peak: memory that torch reserves for the run there, in bytes; ``None`` if it is not known.
        """
        if len(self._running) >= self.workers:
            return None
        candidates = [device for device in self.memory if self._takes(device, peak)]
        return min(candidates, key=lambda device: len(self.on(device)), default=None)

    def enter(self, run: str, device: str, peak: int | None) -> list[str]:
        """Add a run to a device; return the runs that it shares an accelerator with."""
        others = [] if self.memory[device] is None else self.on(device)
        self._running[run] = (device, peak)
        return others

    def leave(self, run: str) -> None:
        """Remove a run that has ended."""
        del self._running[run]

    def on(self, device: str) -> list[str]:
        """Return the runs on a device."""
        return [run for run, (where, _) in self._running.items() if where == device]

    def _takes(self, device: str, peak: int | None) -> bool:
        memory = self.memory[device]
        peaks = [peak, *(taken for where, taken in self._running.values() if where == device)]
        if memory is None or len(peaks) == 1:
            return True
        known = [taken for taken in peaks if taken is not None]
        return len(known) == len(peaks) and sum(map(needed, known)) <= (1 - MARGIN) * memory


def needed(peak: int) -> int:
    """Return the bytes of a device to keep for a run, given the peak of one with the same configuration."""
    return round(SLACK * peak) + PROCESS_BYTES


def packed_memory(devices: Sequence[str]) -> dict[str, int | None]:
    """Return the bytes of each accelerator that is to have several simultaneous runs, ``None`` for other devices."""
    names = dict.fromkeys(devices)
    return {name: device_memory(name) if len(devices) > len(names) else None for name in names}


def device_memory(name: str) -> int | None:
    """Return the bytes of a CUDA device, ``None`` for the CPU."""
    device = torch.device(name)
    return int(torch.cuda.get_device_properties(device).total_memory) if device.type == "cuda" else None


def accelerator_name(name: str) -> str:
    """Return what records call an accelerator."""
    return environment.hardware(torch.device(name))["accelerator"]


def visible_outside(device: str) -> str:
    """Return a device by the name that it has for a process that sees all of them."""
    kind, colon, number = device.partition(":")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if kind != "cuda" or not colon or not visible:
        return device
    return f"cuda:{visible.split(',')[int(number)].strip()}"
