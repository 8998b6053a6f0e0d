"""Which runs share an accelerator: those that are known to fit there together.

Only runs of a comparison are packed. Profiling measures speed, does not use these executors, and never shares a device
with a run of its own (`parbench.bench.profile.runner` has one process at a time).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# Of a device's memory, left free.
MARGIN = 0.05
# CUDA, its libraries and their kernels take some of the device in every process, which torch does not count: commonly
# some hundred MiB.
PROCESS_BYTES = 2**30
# The runs that were measured had other seeds, hence other batches, of which one may be longer.
SLACK = 1.1


@dataclass
class Packing:
    """Finds a place for each run.

    A run gets a device of its own where one is idle. It joins others only where it is known, of it and of all that are
    at work there, how much memory they take, and that fits. So a run of which it is not known has its device for
    itself, and so has one that would not fit anywhere. Whatever is idle takes any run, so that none waits longer than
    there are others which fit beside those at work. Of other commands, and other people, on the same devices nothing is
    known.

    Attributes:
        memory: of each device, in bytes; ``None`` where runs are not to be packed by memory (on the CPU).
        workers: runs at a time, on all devices together.
    """

    memory: Mapping[str, int | None]
    workers: int
    _at_work: dict[str, tuple[str, int | None]] = field(default_factory=dict)

    def place(self, peak: int | None) -> str | None:
        """Return the device for one more run, the least busy one of those that have room, or ``None``.

        Args:
            peak: memory that torch reserves for the run there, in bytes; ``None`` if it is not known.
        """
        if len(self._at_work) >= self.workers:
            return None
        open_to_it = [device for device in self.memory if self._takes(device, peak)]
        return min(open_to_it, key=lambda device: len(self.on(device)), default=None)

    def enter(self, run: str, device: str, peak: int | None) -> list[str]:
        """Note that a run is at work; return those that it shares an accelerator with."""
        others = [] if self.memory[device] is None else self.on(device)
        self._at_work[run] = (device, peak)
        return others

    def leave(self, run: str) -> None:
        """Note that a run is at work no more."""
        del self._at_work[run]

    def on(self, device: str) -> list[str]:
        """Return the runs at work on a device."""
        return [run for run, (where, _) in self._at_work.items() if where == device]

    def _takes(self, device: str, peak: int | None) -> bool:
        memory = self.memory[device]
        peaks = [peak, *(taken for where, taken in self._at_work.values() if where == device)]
        if memory is None or len(peaks) == 1:
            return True
        known = [taken for taken in peaks if taken is not None]
        return len(known) == len(peaks) and sum(map(needed, known)) <= (1 - MARGIN) * memory


def needed(peak: int) -> int:
    """Return the bytes of a device to be kept for a run alike one that has taken ``peak``, as torch counts."""
    return round(SLACK * peak) + PROCESS_BYTES
