"""Peak resident memory of this process, as the kernel marks it: no spike between two samples is missed.

Linux only; elsewhere, and where the kernel does not allow it, the functions report that there is no mark.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
# Resets the mark to the present resident memory: proc(5), /proc/pid/clear_refs.
_RESET = "5"


def reset_peak() -> bool:
    """Set the mark to the present memory; return whether the kernel did."""
    try:
        _CLEAR.write_text(_RESET)
    except OSError:
        return False
    return True


def peak_bytes() -> int | None:
    """Return the highest resident memory since the last `reset_peak`, in bytes; ``None`` where there is no mark."""
    with suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "VmHWM":
                return int(value.split()[0]) * 1024
    return None


def resident_bytes() -> int:
    """Return the resident memory of this process, in bytes."""
    return int(psutil.Process().memory_info().rss)
