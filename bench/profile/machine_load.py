"""Whether the machine is idle: beside other work no time means much."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from parbench.bench.profile.energy import other_processes

if TYPE_CHECKING:
    import torch

LOOK_SECONDS = 0.5
# Share of the cores that others may use before it is said loudly.
MOST_BUSY = 0.1


@dataclass(frozen=True)
class MachineLoad:
    """What else the machine does, looked at while no visit is at work.

    Attributes:
        busy: share of the cores that were in use.
        load: the load average over 1, 5 and 15 minutes.
        others: processes on the accelerator; ``None`` where there is none, or nothing tells.
    """

    busy: float
    load: tuple[float, float, float]
    others: tuple[int, ...] | None = None

    @property
    def warning(self) -> str:
        """One sentence where the machine is not idle; empty where it is."""
        if self.others:
            numbers = ", ".join(map(str, self.others))
            return f"other processes compute on the device ({numbers}): times and memory are not to be trusted"
        if self.busy > MOST_BUSY:
            cores = os.cpu_count()
            return (
                f"the machine is not idle: {self.busy:.0%} of its {cores} cores are in use by others, load "
                f"{self.load[0]:.1f}; compare ratios and their spread, not seconds"
            )
        return ""


def sample_machine_load(device: torch.device) -> MachineLoad:
    """Look what else is going on for half a second."""
    busy = psutil.cpu_percent(interval=LOOK_SECONDS) / 100
    others = other_processes(device) if device.type == "cuda" else None
    return MachineLoad(busy, os.getloadavg(), None if others is None else tuple(others))
