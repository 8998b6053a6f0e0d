"""Which runs go side by side on a CPU, and on which of its cores.

On a CPU several runs of one thread each take less time than one run of several threads: the threads of a small model
mostly wait for each other. Each run has cores of its own, so that its threads do not move. Runs that would not fit in
memory together do not start together.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from parbench.bench.execute.gpu_packing import MARGIN, SLACK

DEVICE = "cpu"


def own_cores() -> tuple[int, ...]:
    """Return the cores that this process may use."""
    return tuple(sorted(os.sched_getaffinity(0)))


@dataclass
class CpuSlots:
    """Gives each run a share of the cores, as far as memory allows.

    A run starts beside others only where the sum of their memory fits. One of unknown size has the machine for itself,
    and so has one that would never fit beside others.

    Attributes:
        cores: all that may be used.
        workers: number of simultaneous runs; each gets ``len(cores) // workers`` cores, and at least one.
        memory_bytes: for all runs together.
    """

    cores: tuple[int, ...]
    workers: int
    memory_bytes: int
    # What `gpu_packing.Packing` has: no accelerator, so nothing is shared that a record would have to show.
    memory: Mapping[str, int | None] = field(default_factory=lambda: {DEVICE: None})
    _running: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def threads(self) -> int:
        """Cores, and threads, of each run."""
        return max(1, len(self.cores) // self.workers)

    def place(self, peak: int | None) -> str | None:
        """Return the device for one more run, or ``None`` where there is no room.

        Args:
            peak: bytes that the run's process takes at most, as measured or estimated; ``None`` if nothing is known.
        """
        if len(self._running) >= self.workers:
            return None
        taken = sum(size for _, size in self._running.values())
        fits = taken + self._needed(peak) <= (1 - MARGIN) * self.memory_bytes
        return DEVICE if fits or not self._running else None

    def enter(self, run: str, device: str, peak: int | None) -> list[str]:
        """Add a run; return the runs that it shares an accelerator with: none."""
        used = {slot for slot, _ in self._running.values()}
        slot = next(slot for slot in range(self.workers) if slot not in used)
        self._running[run] = (slot, self._needed(peak))
        return []

    def leave(self, run: str) -> None:
        """Remove a run that has ended."""
        del self._running[run]

    def cores_of(self, run: str) -> tuple[int, ...]:
        """Return the cores of a run that has entered."""
        slot, _ = self._running[run]
        first = slot * self.threads % len(self.cores)
        return self.cores[first : first + self.threads]

    def _needed(self, peak: int | None) -> int:
        return self.memory_bytes if peak is None else round(SLACK * peak)
