"""Counts the bytes of the tensors that are alive while operations run, and their peak; no tensor needs data for it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from parbench.bench.profile.heap import FIRST_BOUND, Block, Heap


class LiveBytes(TorchDispatchMode):
    """Counts every storage that an operation returns, until it is freed.

    The memory that a kernel uses inside itself is not seen.

    Args:
        bound: see `parbench.bench.profile.heap.Heap`.

    Attributes:
        now: bytes of the storages that are alive.
        peak: the most that ``now`` has been since the last `restart`.
        heap: where malloc puts them.
    """

    def __init__(self, bound: int = FIRST_BOUND) -> None:
        super().__init__()
        self.now = 0
        self.peak = 0
        self.heap = Heap(bound)
        self._known: set[int] = set()
        self._is_recording = False

    def restart(self) -> None:
        """Begin a new peak; what autograd has recorded is gone."""
        self.peak = self.now
        self.heap.end_graph()

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Within, autograd records the operations on tensors that require gradients: a forward pass."""
        self._is_recording = True
        try:
            yield
        finally:
            self._is_recording = False

    def add(self, tensor: torch.Tensor, recorded: bool = False) -> None:
        """Count a tensor's storage, unless it is counted already; see `Heap.allocate`."""
        if tensor.layout is not torch.strided:
            raise NotImplementedError(f"tensors of the layout {tensor.layout} are not counted")
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes()
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, key, size, self.heap.allocate(size, recorded))

    def _free(self, key: int, size: int, block: Block) -> None:
        self._known.discard(key)
        self.now -= size
        self.heap.free(block)

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and count what it returns."""
        result = func(*args, **(kwargs or {}))
        recorded = self._is_recording and any(tensor.requires_grad for tensor in _tensors((args, kwargs)))
        for tensor in _tensors(result):
            self.add(tensor, recorded)
        return result


def _tensors(tree: Any) -> Iterator[torch.Tensor]:
    return (value for value in tree_iter(tree) if isinstance(value, torch.Tensor))
