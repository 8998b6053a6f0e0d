"""When a worker is ended, and why one has ended."""

from __future__ import annotations

import signal

import psutil

from parbench.bench.execute.executor import RunOptions
from parbench.bench.record.run_record import Status
from parbench.bench.util.memory_limits import oom_kills

# ``None``: the exit code was lost with the server that forks workers.
_FROM_OUTSIDE = (None, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGHUP)


def over_limit(options: RunOptions, seconds: float, silent_seconds: float, pid: int) -> tuple[Status, str] | None:
    """Return status and reason for a run that is over one of its limits, ``None`` for one that is not.

    Args:
        seconds: that the run has taken.
        silent_seconds: since its last sign of progress.
        pid: of its process.
    """
    if options.minutes is not None and seconds > 60 * options.minutes:
        return Status.TIMEOUT, f"not done after {options.minutes:g} minutes"
    if silent_seconds > 60 * options.silent_minutes:
        return Status.TIMEOUT, f"no step for {options.silent_minutes:g} minutes"
    if options.memory_bytes is not None and (used := _resident_bytes(pid)) > options.memory_bytes:
        gib = options.memory_bytes / 2**30
        return Status.OUT_OF_MEMORY, f"the process used {used / 2**30:.2f} GiB, more than the {gib:.2f} allowed"
    return None


class KernelKills:
    """Notices that the kernel has ended processes for lack of memory."""

    def __init__(self) -> None:
        self._seen = oom_kills()

    def happened(self) -> bool:
        """Return whether there was one since the last call that returned true, or since the start."""
        now = oom_kills()
        if now <= self._seen:
            return False
        self._seen = now
        return True


def cause_of_death(code: int | None, printed: str, kernel_kills: KernelKills) -> tuple[Status, str]:
    """Return status and reason for a run whose process has ended without a record.

    Args:
        code: the exit code; negative for a signal, ``None`` where it was lost with the server that forks workers.
        printed: what the process has printed.
        kernel_kills: since the runs began.
    """
    if code in (None, -signal.SIGKILL) and kernel_kills.happened():
        return Status.OUT_OF_MEMORY, "the kernel ended the process, because the machine was out of memory"
    if code is None:
        return Status.ERROR, "the process and the server that starts processes were ended from outside"
    if code < 0:
        return Status.ERROR, f"the process was ended by {signal.Signals(-code).name}"
    last = (printed.strip().splitlines() or [""])[-1]
    return Status.ERROR, f"the process ended with code {code}{f': {last}' if last else ''}"


def was_killed_from_outside(code: int | None) -> bool:
    """Return whether a process with this exit code was ended by something other than its own fault."""
    return code in _FROM_OUTSIDE


def _resident_bytes(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0
