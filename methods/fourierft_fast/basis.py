"""The real Fourier basis of one side of a weight."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from methods.loca.basis import Basis


class FourierBasis(Basis):
    """Cosines and negative sines of ``k = 0 .. N // 2`` periods, not normalised, in turns, as a real FFT gives them.

    ``F[2k, n] = cos(2 pi k n / N)`` and ``F[2k + 1, n] = -sin(2 pi k n / N)``; so vector 1, and with even ``N`` the
    last one, is zero.
    """

    def matrix(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """See `Basis`; shape ``(slots, N)``."""
        return self.constant("matrix", dtype, device, self._make_matrix)

    def slot(self, index: Tensor) -> Tensor:
        """See `Basis`: the vectors are counted by their slots."""
        return index

    def forward(self, values: Tensor) -> Tensor:
        """See `Basis`."""
        return torch.view_as_real(torch.fft.rfft(values)).flatten(-2)

    def inverse(self, spectrum: Tensor) -> Tensor:
        """See `Basis`."""
        shares = self.constant("shares", spectrum.dtype, spectrum.device, self._make_shares)
        waves = torch.view_as_complex(spectrum.mul_(shares).unflatten(-1, (-1, 2)))
        return torch.fft.irfft(waves, n=self.size, norm="forward")

    def _make_matrix(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        # One period of values in float64, on the CPU, which always can, serves all entries at full precision.
        angles = torch.arange(self.size, dtype=torch.float64, device="cpu") * (2 * math.pi / self.size)
        periods = torch.arange(self.slots // 2, device=device)
        steps = torch.outer(periods, torch.arange(self.size, device=device)) % self.size
        cosines, sines = (wave.to(dtype).to(device)[steps] for wave in (angles.cos(), -angles.sin()))
        return torch.stack((cosines, sines), dim=1).flatten(0, 1)

    def _make_shares(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        # The inverse real FFT adds the mirror image of every wave but of those that are their own.
        shares = torch.full((self.slots // 2, 2), 0.5, dtype=dtype, device=device)
        own = [0, self.size // 2] if self.size % 2 == 0 else [0]
        shares[own] = torch.tensor([1.0, 0.0], dtype=dtype, device=device)
        return shares.flatten()
