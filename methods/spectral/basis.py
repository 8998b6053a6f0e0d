"""Orthogonal bases of one side of a weight, as shared matrices and as fast Fourier transforms."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import torch
from torch import Tensor


class Basis(ABC):
    """Real basis vectors of length ``size``; constant tensors are shared by all layers, one per dtype and device.

    It is not a module and its tensors are not buffers, so they never reach a state dict; copies and unpickled models
    share them, and they are freed with the last model that uses them. Obtain one from `shared`.

    Attributes:
        size: length of the vectors.
        slots: number of values that `forward` returns; not all need to be different basis vectors.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.slots = 2 * (size // 2 + 1)
        self._constants: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}

    @abstractmethod
    def matrix(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """All basis vectors as rows, shape ``(vectors, size)``."""

    @abstractmethod
    def slot(self, index: Tensor) -> Tensor:
        """The positions of basis vectors in the output of `forward`: int64 of any shape."""

    @abstractmethod
    def forward(self, values: Tensor) -> Tensor:
        """The inner products of `values` ``(..., size)`` with all basis vectors, by FFT; shape ``(..., slots)``."""

    def adjoint(self, values: Tensor) -> Tensor:
        """The sums of the basis vectors times `values` ``(..., slots)``, by inverse FFT; shape ``(..., size)``."""
        # The waves of a real and of the imaginary part behind it differ by a factor of i.
        weights = self.constant("weights of pairs", values.dtype, values.device, self._make_weights_of_pairs)
        pairs = torch.view_as_complex(values.unflatten(-1, (-1, 2)))
        sums = torch.fft.irfft(pairs * weights, n=self.size, norm="forward")
        order = self.order(values.device)
        return sums if order is None else sums.index_select(-1, order)

    @abstractmethod
    def order(self, device: torch.device) -> Tensor | None:
        """The position of each entry of a vector in the order of the waves, int64 ``(size,)``; ``None`` if the same."""

    def waves(self, slots: Tensor, dtype: torch.dtype) -> Tensor:
        """The weights of the basis vectors at `slots` as complex waves, for numbers of `dtype`; shape: that of `slots`.

        The vector at slot ``s`` of weight ``w`` is ``w z^n`` plus its conjugate, ``z = exp(2 pi i (s // 2) / N)``, for
        ``n = 0 .. N-1`` in the order of the waves.
        """
        return self.constant("waves", dtype, slots.device, self._make_waves)[slots]

    def one_sided_waves(self, slots: Tensor, dtype: torch.dtype) -> Tensor:
        """As `waves`, for an inverse real FFT: it adds the conjugates itself, except where ``z^n`` is real."""
        return self.constant("one-sided waves", dtype, slots.device, self._make_one_sided_waves)[slots]

    def _make_waves(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        # The real and the imaginary part of what a real FFT gives, times the factor.
        cosines, sines = (factor / 2 for factor in self._factors())
        return complex_constant(
            torch.stack((cosines, sines), 1), torch.stack((-sines, cosines), 1), dtype, device
        ).flatten()

    def _make_one_sided_waves(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        is_real = 2 * torch.arange(self.slots // 2, device=device) % self.size == 0
        return self._make_waves(dtype, device) * (1 + is_real.repeat_interleave(2))

    def _make_weights_of_pairs(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        return self._make_one_sided_waves(dtype, device)[::2].contiguous()

    @abstractmethod
    def _factors(self) -> tuple[Tensor, Tensor]:
        """Factors on the real FFT of a vector in the order of the waves: real and imaginary parts, float64.

        Shape ``(slots // 2,)``.
        """

    def constant(
        self, name: str, dtype: torch.dtype, device: torch.device, make: Callable[[torch.dtype, torch.device], Tensor]
    ) -> Tensor:
        """The shared tensor of this name, computed at its first use."""
        key = (name, dtype, device)
        if key in self._constants:
            return self._constants[key]
        # A tensor made in inference mode must be usable in training, too.
        with torch.inference_mode(False), torch.no_grad():
            tensor = make(dtype, device)
        # A tracer's fake tensor must not outlive the trace: a graph compiled before the first use computes it itself.
        if not torch.compiler.is_compiling() and type(tensor) is Tensor:
            self._constants[key] = tensor
        return tensor

    def __reduce__(self) -> tuple[Any, ...]:
        return shared, (type(self), self.size)


B = TypeVar("B", bound=Basis)
_in_use: WeakValueDictionary[tuple[type[Basis], int], Basis] = WeakValueDictionary()


def shared(kind: type[B], size: int) -> B:
    """The basis of this kind and size, shared by all layers that use it."""
    basis = _in_use.get((kind, size))
    if basis is None:
        basis = _in_use[kind, size] = kind(size)
    return basis  # type: ignore[return-value]


def complex_constant(real: Tensor, imaginary: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return ``real + i imaginary`` in the complex dtype of `dtype`, on `device`."""
    # Not dtype.tocomplex_constant(), which torch.compile cannot trace.
    return torch.complex(real.to(dtype), imaginary.to(dtype)).to(device)
