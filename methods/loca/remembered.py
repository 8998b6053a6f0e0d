"""What follows from a frozen tensor alone, and need not be worked out in every pass."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")


class Remembered(Generic[T]):
    """The last thing that was worked out of a tensor on an accelerator, until the tensor is another.

    The indices of a few coefficients take a device no time, but dozens of kernels to begin, which a step of a small
    model waits for; nor can their source be compared with what it was, since that would wait for the device. So it is
    recognised by its memory and its version, which every change counts but one: writing through ``.data``. What takes
    no gradient is changed by no optimiser, and so only that is remembered. On the CPU nothing is.

    Copies and unpickled ones are empty.
    """

    def __init__(self) -> None:
        self._kept: tuple[Tensor, int, Hashable, T] | None = None

    def of(self, source: Tensor, also: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` gives, which depends on `source` and on `also`, and on nothing else."""
        if not _recognisable(source):
            return make()
        if self._kept is not None:
            kept, version, before, found = self._kept
            same = kept.data_ptr() == source.data_ptr() and kept.shape == source.shape and kept.device == source.device
            if same and version == source._version and before == also:
                return found
        # What is made during inference must serve training, too.
        with torch.inference_mode(False), torch.no_grad():
            found = make()
        # Its memory is held, so that no other tensor can get it.
        self._kept = source.detach(), source._version, also, found
        return found

    def __deepcopy__(self, memo: dict[int, Any]) -> Remembered[T]:
        return Remembered()

    def __reduce__(self) -> tuple[Any, ...]:
        return Remembered, ()


def _recognisable(source: Tensor) -> bool:
    if torch.compiler.is_compiling() or type(source) not in (Tensor, nn.Parameter):
        return False
    return remembers(source.device) and not source.requires_grad and not source.is_inference()


def remembers(device: torch.device) -> bool:
    """Tell whether anything is remembered of tensors on a device."""
    return device.type not in ("cpu", "meta")
