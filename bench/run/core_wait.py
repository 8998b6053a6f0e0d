"""How long a run waited for processor cores that other processes used: such a run does not measure speed."""

from __future__ import annotations

import time
from pathlib import Path

_TASKS = Path("/proc/self/task")


class CoreWait:
    """Measures from its creation on how long the threads of this process were ready to compute and had no core.

    The kernel counts it (``schedstat`` of each thread, its second number, in nanoseconds).
    """

    def __init__(self) -> None:
        self._before = _waited()
        self._start = time.perf_counter()

    def share(self) -> float | None:
        """Return the waiting of the thread that waited most, as a share of the time since; ``None`` if not counted."""
        after, elapsed = _waited(), time.perf_counter() - self._start
        if not after or elapsed <= 0:
            return None
        return max(waited - self._before.get(thread, 0) for thread, waited in after.items()) / 1e9 / elapsed


def _waited() -> dict[str, int]:
    """Return the nanoseconds of each thread; nothing where the kernel does not count them."""
    found = {}
    for task in _TASKS.iterdir() if _TASKS.is_dir() else ():
        try:
            found[task.name] = int((task / "schedstat").read_text().split()[1])
        except FileNotFoundError:  # the thread has ended, or the kernel was built without the count
            continue
    return found
