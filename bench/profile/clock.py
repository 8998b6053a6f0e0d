"""Times phases with the CPU's clock, or on a CUDA device with events in its stream."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from parbench.bench.profile.measurement import Span
from parbench.bench.util.process_memory import peak_bytes, reset_peak, resident_bytes

if TYPE_CHECKING:
    import torch


class Clock:
    """Records marks in the stream of work; the time between two marks is known when the work is done.

    On a CUDA device a mark is an event, which needs no synchronisation: kernels queue up as they do in training.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def mark(self) -> Any:
        """Return a mark at this point of the work."""
        if self._device.type != "cuda":
            return time.monotonic()
        import torch

        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def wait(self) -> None:
        """Wait until all work is done."""
        if self._device.type == "cuda":
            import torch

            torch.cuda.synchronize(self._device)

    @staticmethod
    def between(marks: Sequence[Any]) -> list[float]:
        """Return the seconds from each mark to the next; the work must be done."""
        return [
            end - start if isinstance(start, float) else start.elapsed_time(end) / 1e3 for start, end in pairwise(marks)
        ]


class Recorder:
    """Records when phases took place and their peak memory on the accelerator, reset at the start of each."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.clock = Clock(device)
        self.spans: list[Span] = []
        self.seconds: dict[str, list[float]] = {}

    @contextmanager
    def phase(self, name: str, timed: bool = False) -> Iterator[None]:
        """Record a phase, and its seconds if ``timed``."""
        self.clock.wait()
        self._reset()
        is_marked = reset_peak()
        begin = time.monotonic()
        try:
            yield
            self.clock.wait()
            if timed:
                self.add(name, [time.monotonic() - begin])
        finally:
            # Also for a phase that runs out of memory: its peak shows how much it used.
            resident = max(resident_bytes(), (peak_bytes() or 0) if is_marked else 0)
            self.spans.append(Span(name, begin, time.monotonic(), resident, *self._peaks()))

    def add(self, name: str, seconds: Sequence[float]) -> None:
        """Record timed repetitions of a phase."""
        self.seconds.setdefault(name, []).extend(seconds)

    def _reset(self) -> None:
        if self.device.type == "cuda":
            import torch

            # Memory that the allocator still reserves from earlier phases is not needed by this one.
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def _peaks(self) -> tuple[int | None, int | None]:
        if self.device.type != "cuda":
            return None, None
        import torch

        return torch.cuda.max_memory_allocated(self.device), torch.cuda.max_memory_reserved(self.device)
