"""The real Fourier basis of one side of a weight."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from parbench.methods.spectral.basis import Basis


class FourierBasis(Basis):
    """Cosines and negative sines of ``k = 0 .. N // 2`` periods, interleaved and not normalised, as in a real FFT.

    ``F[2k, n] = cos(2 pi k n / N)`` and ``F[2k + 1, n] = -sin(2 pi k n / N)``; vector 1 is zero, and so is
    the last one if ``N`` is even.
    """

    def matrix(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """See `Basis`; shape ``(slots, N)``."""
        return self.constant("matrix", dtype, device, self._make_matrix)

    def slot(self, index: Tensor) -> Tensor:
        """See `Basis`: vectors are indexed by their slots."""
        return index

    def forward(self, values: Tensor) -> Tensor:
        """See `Basis`."""
        return torch.view_as_real(torch.fft.rfft(values)).flatten(-2)

    def order(self, device: torch.device) -> None:
        """See `Basis`: unchanged."""

    def _make_matrix(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        # One period of values in float64, computed on the CPU, gives all entries at full precision.
        angles = torch.arange(self.size, dtype=torch.float64, device="cpu") * (2 * math.pi / self.size)
        periods = torch.arange(self.slots // 2, device=device)
        steps = torch.outer(periods, torch.arange(self.size, device=device)) % self.size
        cosines, sines = (wave.to(dtype).to(device)[steps] for wave in (angles.cos(), -angles.sin()))
        return torch.stack((cosines, sines), dim=1).flatten(0, 1)

    def _factors(self) -> tuple[Tensor, Tensor]:
        ones = torch.ones(self.slots // 2, dtype=torch.float64, device="cpu")
        return ones, torch.zeros_like(ones)
