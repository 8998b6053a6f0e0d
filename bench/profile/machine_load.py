"""Checks whether the machine is idle, since timings beside other work are unreliable."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from parbench.bench.profile.energy import other_processes

if TYPE_CHECKING:
    import torch

LOOK_SECONDS = 0.5
# Share of the cores that other processes may use before a warning is printed.
MOST_BUSY = 0.1


@dataclass(frozen=True)
class MachineLoad:
    """Load of the machine by other processes, sampled between measurements.

    Attributes:
        busy: share of the cores that were in use.
        load: the load average over 1, 5 and 15 minutes.
        others: processes on the accelerator; ``None`` without one, or if this cannot be found out.
    """

    busy: float
    load: tuple[float, float, float]
    others: tuple[int, ...] | None = None

    @property
    def warning(self) -> str:
        """A sentence if the machine is not idle, else empty."""
        if self.others:
            numbers = ", ".join(map(str, self.others))
            return f"other processes compute on the device ({numbers}): times and memory are unreliable"
        if self.busy > MOST_BUSY:
            cores = os.cpu_count()
            return (
                f"the machine is not idle: {self.busy:.0%} of its {cores} cores are in use by others, load "
                f"{self.load[0]:.1f}; compare ratios and their spread, not seconds"
            )
        return ""


def sample_machine_load(device: torch.device) -> MachineLoad:
    """Sample the load of the machine for half a second."""
    busy = psutil.cpu_percent(interval=LOOK_SECONDS) / 100
    others = other_processes(device) if device.type == "cuda" else None
    return MachineLoad(busy, os.getloadavg(), None if others is None else tuple(others))
