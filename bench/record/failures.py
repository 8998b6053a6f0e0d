"""What became of a run that did not end well, in a record's words."""

from __future__ import annotations

import sys

from parbench.bench.record.run_record import Status
from parbench.bench.util.errors import DivergedError

# What CUDA, its libraries and torch's allocator of the CPU say; they have no class of their own for it.
_NO_MEMORY = ("out of memory", "ALLOC_FAILED", "DefaultCPUAllocator")


class TransientError(RuntimeError):
    """A run failed of what may pass by itself: it may be tried again."""


class SharedDeviceOutOfMemoryError(RuntimeError):
    """A run beside others was out of memory: it may be that it has room enough alone."""


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
    """Tell whether an error may pass by itself: a connection lost, or one that took too long."""
    while error is not None:
        if isinstance(error, (ConnectionError, TimeoutError, *_of_libraries())):
            return True
        error = error.__cause__ or error.__context__
    return False


# huggingface_hub has changed from the one to the other.
_HTTPX = ["TransportError"]


def _of_libraries() -> tuple[type[BaseException], ...]:
    """Return what the libraries that are in use raise of a connection: those not imported cannot have raised it."""
    found: list[type[BaseException]] = []
    for module, names in (("httpx", _HTTPX), ("httpx2", _HTTPX), ("requests", ["ConnectionError", "Timeout"])):
        if module in sys.modules:
            found += [getattr(sys.modules[module], name) for name in names]
    return tuple(found)
