"""The basis of the discrete cosine transform."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from parbench.methods.spectral.basis import Basis, complex_constant


class CosineBasis(Basis):
    """The orthonormal DCT-II: ``C[i, j] = sqrt(2 / N) cos(pi (2j + 1) i / 2N)``, row 0 over ``sqrt(2)``.

    The fast algorithm is Makhoul's (IEEE TASSP 28(1), 1980): a real FFT of the even samples followed by the odd ones in
    reverse, times a quarter-sample shift. Its real parts are the cosine coefficients 0, 1, ...; its imaginary parts are
    those from the other end, ..., N-2, N-1.
    """

    def matrix(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """See `Basis`; shape ``(N, N)``."""
        return self.constant("matrix", dtype, device, self._make_matrix)

    def slot(self, index: Tensor) -> Tensor:
        """See `Basis`: pairs of real and imaginary parts."""
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
        # the CPU, gives all entries at full precision.
        size = self.size
        angles = torch.arange(4 * size, dtype=torch.float64, device="cpu") * (math.pi / (2 * size))
        cosines = (angles.cos() * math.sqrt(2 / size)).to(dtype).to(device)
        odd = 2 * torch.arange(size, device=device) + 1
        matrix = torch.empty(size, size, dtype=dtype, device=device)
        # In blocks of rows: m for all entries would take twice the memory of the matrix.
        for rows in torch.arange(size, device=device).split(256):
            matrix[rows] = cosines[torch.outer(rows, odd) % (4 * size)]
        matrix[0] /= math.sqrt(2)
        return matrix

    def _make_order(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        even, odd = (torch.arange(start, self.size, 2, dtype=dtype, device=device) for start in (0, 1))
        order = torch.cat((even, odd.flip(0)))
        # Reversed: that conjugates the FFT, which gives the imaginary parts the right sign.
        return torch.cat((order[:1], order[1:].flip(0)))

    def _make_inverse_order(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        return self._make_order(dtype, device).argsort()

    def _make_shift(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        return complex_constant(*self._factors(), dtype, device)

    def _factors(self) -> tuple[Tensor, Tensor]:
        angles = torch.arange(self.size // 2 + 1, dtype=torch.float64, device="cpu") * (math.pi / (2 * self.size))
        lengths = torch.full_like(angles, math.sqrt(2 / self.size))
        lengths[0] /= math.sqrt(2)
        return lengths * angles.cos(), lengths * angles.sin()
