"""Precision of computations, and what it costs."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

MATRIX_UNITS = 8
"""Speed of products in 16 bits relative to float32 where matrix units compute them."""

NO_MATRIX_UNITS = 0.5
"""The same on a processor without them, measured with AVX-512 BF16; older ones emulate 16 bits."""


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor, converted to float32 if it has fewer bits."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def without_autocast(device: torch.device) -> AbstractContextManager[None]:
    """A context in which autocast is off, for devices that have it."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def product_cost(dtype: torch.dtype, device: torch.device) -> float:
    """The time of a multiply-add of a matrix product in `dtype`, in that of one of 32 bits."""
    if dtype.itemsize >= 4:
        return 1.0
    # AMX is what processors have; torch offers no public way to ask.
    return 1 / (MATRIX_UNITS if device.type != "cpu" or torch.cpu._is_amx_tile_supported() else NO_MATRIX_UNITS)
