"""Orthogonal bases of one side of a weight, as shared matrices and as fast Fourier transforms."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import torch
from torch import Tensor


class Basis(ABC):
    """Real basis vectors of length ``size``; constant tensors are shared by all layers, one per dtype and device.

    It is no module and its tensors are no buffers, so they never reach a state dict; copies and unpickled models share
    them again, and they are freed with the last model that uses them. Obtain one from `shared`.

    Attributes:
        size: length of the vectors.
        slots: how many numbers `forward` gives; not all need to be different basis vectors.
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
        """The places, in what `forward` gives, of basis vectors: int64 of any shape."""

    @abstractmethod
    def forward(self, values: Tensor) -> Tensor:
        """The inner products of `values` ``(..., size)`` with all basis vectors, by FFT; shape ``(..., slots)``."""

    @abstractmethod
    def order(self, device: torch.device) -> Tensor | None:
        """Where each entry of a vector is in the order in which waves run, int64 ``(size,)``; ``None``: in its own."""

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
        return _complex(torch.stack((cosines, sines), 1), torch.stack((-sines, cosines), 1), dtype, device).flatten()

    def _make_one_sided_waves(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        is_real = 2 * torch.arange(self.slots // 2, device=device) % self.size == 0
        return self._make_waves(dtype, device) * (1 + is_real.repeat_interleave(2))

    @abstractmethod
    def _factors(self) -> tuple[Tensor, Tensor]:
        """By what the real FFT of a vector in the order of the waves is multiplied: real and imaginary parts, float64.

        Shape ``(slots // 2,)``.
        """

    def constant(
        self, name: str, dtype: torch.dtype, device: torch.device, make: Callable[[torch.dtype, torch.device], Tensor]
    ) -> Tensor:
        """The shared tensor of this name, made at its first use."""
        key = (name, dtype, device)
        if key in self._constants:
            return self._constants[key]
        # A tensor that is made during inference must serve training, too.
        with torch.inference_mode(False), torch.no_grad():
            tensor = make(dtype, device)
        # A tracer's stand-in must not outlive the trace: a graph that is compiled before its first use makes it itself.
        if not torch.compiler.is_compiling() and type(tensor) is Tensor:
            self._constants[key] = tensor
        return tensor

    def __reduce__(self) -> tuple[Any, ...]:
        return shared, (type(self), self.size)


B = TypeVar("B", bound=Basis)
_in_use: WeakValueDictionary[tuple[type[Basis], int], Basis] = WeakValueDictionary()


def shared(kind: type[B], size: int) -> B:
    """The basis of this kind and size: the one in use, if there is one."""
    basis = _in_use.get((kind, size))
    if basis is None:
        basis = _in_use[kind, size] = kind(size)
    return basis  # type: ignore[return-value]


class CosineBasis(Basis):
    """The orthonormal DCT-II: ``C[i, j] = sqrt(2 / N) cos(pi (2j + 1) i / 2N)``, row 0 over ``sqrt(2)``.

    The fast way is Makhoul's (IEEE TASSP 28(1), 1980): a real FFT of the even samples followed by the odd ones in
    reverse, times a quarter-sample shift, whose real parts are the cosine coefficients 0, 1, ... and whose imaginary
    parts are those from the other end, ..., N-2, N-1.
    """

    def matrix(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """See `Basis`; shape ``(N, N)``."""
        return self.constant("matrix", dtype, device, self._make_matrix)

    def slot(self, index: Tensor) -> Tensor:
        """See `Basis`: pairs of real and imaginary part."""
        return torch.where(index <= self.size // 2, 2 * index, 2 * (self.size - index) + 1)

    def forward(self, values: Tensor) -> Tensor:
        """See `Basis`."""
        order = self.constant("order", torch.int64, values.device, self._make_order)
        shift = self.constant("shift", values.dtype, values.device, self._make_shift)
        return torch.view_as_real(torch.fft.rfft(values.index_select(-1, order)).mul_(shift)).flatten(-2)

    def order(self, device: torch.device) -> Tensor:
        """See `Basis`."""
        return self.constant("inverse order", torch.int64, device, self._make_inverse_order)

    def _make_matrix(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        # cos(pi m / 2N) has period 4N in the integer m = (2j + 1) i: one period of values, computed in float64 on
        # the CPU, which always can, serves all entries at full precision.
        size = self.size
        angles = torch.arange(4 * size, dtype=torch.float64, device="cpu") * (math.pi / (2 * size))
        cosines = (angles.cos() * math.sqrt(2 / size)).to(dtype).to(device)
        odd = 2 * torch.arange(size, device=device) + 1
        matrix = torch.empty(size, size, dtype=dtype, device=device)
        # By blocks of rows: m for all entries at once would take twice the memory of the matrix.
        for rows in torch.arange(size, device=device).split(256):
            matrix[rows] = cosines[torch.outer(rows, odd) % (4 * size)]
        matrix[0] /= math.sqrt(2)
        return matrix

    def _make_order(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        even, odd = (torch.arange(start, self.size, 2, dtype=dtype, device=device) for start in (0, 1))
        order = torch.cat((even, odd.flip(0)))
        # Backwards around the circle: that conjugates the FFT, which brings the imaginary parts to the right sign.
        return torch.cat((order[:1], order[1:].flip(0)))

    def _make_inverse_order(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        return self._make_order(dtype, device).argsort()

    def _make_shift(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        return _complex(*self._factors(), dtype, device)

    def _factors(self) -> tuple[Tensor, Tensor]:
        angles = torch.arange(self.size // 2 + 1, dtype=torch.float64, device="cpu") * (math.pi / (2 * self.size))
        lengths = torch.full_like(angles, math.sqrt(2 / self.size))
        lengths[0] /= math.sqrt(2)
        return lengths * angles.cos(), lengths * angles.sin()


def _complex(real: Tensor, imaginary: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    # Not dtype.to_complex(), which torch.compile cannot trace.
    return torch.complex(real.to(dtype), imaginary.to(dtype)).to(device)
