"""What follows from a tensor alone, and need not be worked out in every pass."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")


@dataclass(frozen=True)
class _Memory(Generic[T]):
    """What was found of a tensor.

    Attributes:
        source: the tensor, or a copy of it where values are compared.
        version: of the tensor when it was looked at.
        also: what else was found on.
        found: what was found.
    """

    source: Tensor
    version: int
    also: Hashable
    found: T

    def is_of(self, source: Tensor, also: Hashable) -> bool:
        """Tell whether the same would be found now."""
        kept = self.source
        if also != self.also or kept.device != source.device or kept.dtype != source.dtype:
            return False
        if compares_values(source.device):
            return torch.equal(kept, source)
        same = kept.data_ptr() == source.data_ptr() and kept.shape == source.shape
        return same and self.version == source._version


class TensorCache(Generic[T]):
    """The last thing that was worked out of a tensor, until the tensor is another.

    The indices of a few coefficients are a few dozen small operations, which beside a small layer take as long as the
    layer. On the CPU the tensor's values are compared, whoever may have changed them. On an accelerator that would wait
    for the device; there a tensor is recognised by its memory and its version, which every change counts but one:
    writing through ``.data``. What takes no gradient is changed by no optimiser, and so only that is remembered there.

    Copies and unpickled ones are empty.
    """

    def __init__(self) -> None:
        self._memory: _Memory[T] | None = None

    def of(self, source: Tensor, also: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` gives, which depends on `source` and on `also`, and on nothing else."""
        if not _recognisable(source):
            return make()
        if self._memory is not None and self._memory.is_of(source, also):
            return self._memory.found
        # What is made during inference must serve training, too.
        with torch.inference_mode(False), torch.no_grad():
            found = make()
            # Elsewhere the tensor's own memory is held, so that no other tensor can get it.
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
    """Tell whether it costs next to nothing to compare the values of small tensors on a device."""
    return device.type == "cpu"
