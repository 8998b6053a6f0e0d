"""Statuses and reasons of failed runs."""

from __future__ import annotations

import sys

from parbench.bench.record.run_record import Status
from parbench.bench.util.errors import DivergedError

# Messages of CUDA, its libraries and torch's CPU allocator, which have no exception class for it.
_NO_MEMORY = ("out of memory", "ALLOC_FAILED", "DefaultCPUAllocator")


class TransientError(RuntimeError):
    """A run failed for a reason that may be transient; it may be retried."""


class SharedDeviceOutOfMemoryError(RuntimeError):
    """A run that shared its device was out of memory; it may have enough alone."""


def classify(error: Exception) -> tuple[Status, str]:
    """Return the status of a run that ended with ``error``, and the reason in one sentence."""
    import torch

    reason = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, DivergedError):
        return Status.DIVERGED, reason
    in_words = isinstance(error, RuntimeError) and any(words in reason for words in _NO_MEMORY)
    if in_words or isinstance(error, torch.OutOfMemoryError | MemoryError):
        return Status.OUT_OF_MEMORY, reason
    return Status.ERROR, f"{type(error).__name__}: {reason}"


def is_transient(error: BaseException | None) -> bool:
    """Return whether an error may be transient: a lost connection or a time-out."""
    while error is not None:
        if isinstance(error, (ConnectionError, TimeoutError, *_of_libraries())):
            return True
        error = error.__cause__ or error.__context__
    return False


# huggingface_hub uses httpx since version 1, requests before.
_HTTPX = ["TransportError"]


def _of_libraries() -> tuple[type[BaseException], ...]:
    """Return the connection errors of the libraries in use; those not imported cannot have raised one."""
    found: list[type[BaseException]] = []
    for module, names in (("httpx", _HTTPX), ("httpx2", _HTTPX), ("requests", ["ConnectionError", "Timeout"])):
        if module in sys.modules:
            found += [getattr(sys.modules[module], name) for name in names]
    return tuple(found)
