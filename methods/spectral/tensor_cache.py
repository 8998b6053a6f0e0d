"""Caches values that depend on one tensor, so that they are not computed in every pass."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")


@dataclass(frozen=True)
class _Memory(Generic[T]):
    """A cached value.

    Attributes:
        source: the tensor, or a copy of it where values are compared.
        version: version counter of the tensor when the value was computed.
        also: further keys of the value.
        found: the value.
    """

    source: Tensor
    version: int
    also: Hashable
    found: T

    def is_of(self, source: Tensor, also: Hashable) -> bool:
        """Return whether the value is valid for this tensor and these keys."""
        kept = self.source
        if also != self.also or kept.device != source.device or kept.dtype != source.dtype:
            return False
        if compares_values(source.device):
            return torch.equal(kept, source)
        same = kept.data_ptr() == source.data_ptr() and kept.shape == source.shape
        return same and self.version == source._version


class TensorCache(Generic[T]):
    """Caches the last value computed from a tensor until the tensor changes.

    The indices of the coefficients take a few dozen small operations, which beside a small layer take as long as the
    layer. On the CPU the values of the tensor are compared. On an accelerator that would synchronise: there a tensor is
    identified by its memory and its version counter, which counts every change except writes through ``.data``. Only
    tensors without a gradient, which optimisers do not change, are cached there.

    Copies and unpickled caches are empty.
    """

    def __init__(self) -> None:
        self._memory: _Memory[T] | None = None

    def of(self, source: Tensor, also: Hashable, make: Callable[[], T]) -> T:
        """Return the result of `make`, which must depend on `source` and `also` only."""
        if not _recognisable(source):
            return make()
        if self._memory is not None and self._memory.is_of(source, also):
            return self._memory.found
        # A value computed in inference mode must be usable in training, too.
        with torch.inference_mode(False), torch.no_grad():
            found = make()
            # Elsewhere the memory itself is held, so that it is not given to another tensor.
            kept = source.detach().clone() if compares_values(source.device) else source.detach()
        self._memory = _Memory(kept, source._version, also, found)
        return found

    def __deepcopy__(self, memo: dict[int, Any]) -> TensorCache[T]:
        return TensorCache()

    def __reduce__(self) -> tuple[Any, ...]:
        return TensorCache, ()


def _recognisable(source: Tensor) -> bool:
    if torch.compiler.is_compiling() or type(source) not in (Tensor, nn.Parameter) or source.is_inference():
        return False
    if source.device.type == "meta":
        return False
    return compares_values(source.device) or not source.requires_grad


def compares_values(device: torch.device) -> bool:
    """Return whether comparing the values of small tensors is cheap on a device."""
    return device.type == "cpu"
