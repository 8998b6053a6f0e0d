"""Counts the bytes of the tensors that are alive while operations run, and their peak; no tensor needs data for it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

# From here on glibc gets a block from the kernel by itself, always, and gives it back when it is freed:
# DEFAULT_MMAP_THRESHOLD_MAX of malloc.c, on 64 bits.
LARGE = 32 * 2**20


class LiveBytes(TorchDispatchMode):
    """Counts every storage that an operation returns, until it is freed.

    The memory that a kernel uses inside itself is not seen.

    Attributes:
        now: bytes of the storages that are alive.
        large: those of storages of `LARGE` and more.
        peak: the most that ``now`` has been since the last `restart`.
        large_at_peak: ``large`` at that time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.large = 0
        self.peak = 0
        self.large_at_peak = 0
        self._known: set[int] = set()

    def restart(self) -> None:
        """Begin a new peak."""
        self.peak, self.large_at_peak = self.now, self.large

    def add(self, tensor: torch.Tensor) -> None:
        """Count a tensor's storage, unless it is counted already."""
        if tensor.layout is not torch.strided:
            raise NotImplementedError(f"tensors of the layout {tensor.layout} are not counted")
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes()
        self._known.add(key)
        self.now += size
        self.large += large_part(size)
        if self.now > self.peak:
            self.restart()
        weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size
        self.large -= large_part(size)

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and count what it returns."""
        result = func(*args, **(kwargs or {}))
        for value in tree_iter(result):
            if isinstance(value, torch.Tensor):
                self.add(value)
        return result


def large_part(size: int) -> int:
    """Return the size of a storage if it is `LARGE` or more, else 0."""
    return size if size >= LARGE else 0
