"""LoCA's weight update and its gradients (arXiv 2502.06820; gradients: section 4.3).

The update of a ``p x q`` weight is ``dW = C_p^T S C_q``, where ``C_N`` is the orthonormal DCT-II matrix of size ``N``
and the spectrum ``S`` holds ``B`` coefficients ``a_k`` at cells ``(r_k, c_k)``; coefficients that share a cell add up.
With ``G = dL/d(dW)`` and ``K = C_p G C_q^T``:

* ``dL/da_k = K[r_k, c_k]``, exact;
* ``dL/dr_k = clamp(a_k (K[r_k + 1, c_k] - K[r_k - 1, c_k]) / 2, -1, 1)`` and likewise for ``c_k``: a central
  difference over the neighbouring cells, whose index stops at the border.

This module maps parameters to entries of ``S`` and ``K``; `parbench.methods.spectral.spectrum` computes these.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from parbench.methods.spectral.precision import at_least_float32
from parbench.methods.spectral.spectrum import Cells
from parbench.methods.spectral.update import SpectralUpdate


def locate(locations: Tensor, shape: tuple[int, int], upper: float) -> tuple[Tensor, Tensor]:
    """The cells ``(rows, cols)`` of the locations: clamp to ``[0, upper]``, stretch, round to nearest.

    `locations` has shape ``(2, B)``, rows first; both results are int64 of shape ``(B,)``. A NaN gives cell
    0, since a NaN index would be an illegal memory access; `amplitudes` passes it on.
    """
    inside = at_least_float32(locations).nan_to_num(0.0).clamp(0.0, upper)
    rows, cols = ((axis * (size - 1)).round().long() for axis, size in zip(inside, shape, strict=True))
    return rows, cols


def amplitudes(coefficients: Tensor, locations: Tensor) -> Tensor:
    """The coefficients in at least float32; NaN where the location is NaN, so that the loss becomes NaN."""
    return at_least_float32(coefficients).where(~locations.isnan().any(0), math.nan)


def location_gradient(
    slopes: Tensor, coefficients: Tensor, locations: Tensor, shape: tuple[int, int], upper: float
) -> Tensor:
    """``dL/du`` for locations ``u``, from half the differences of ``K`` between neighbours; all but `shape` ``(2, B)``.

    The clamp to ``[-1, 1]`` is applied once per backward pass, as in the authors' layer: a loss scale (float16) or
    gradient accumulation changes which values it cuts off.
    """
    p, q = shape
    along_rows, along_cols = (amplitudes(coefficients, locations) * slopes).clamp(-1.0, 1.0)
    stretched = torch.stack((along_rows * (p - 1), along_cols * (q - 1)))
    inside = (locations >= 0.0) & (locations <= upper)
    return (stretched * inside).to(locations.dtype)


@dataclass(frozen=True)
class CosineUpdate(SpectralUpdate):
    """The `parbench.methods.spectral.fused.Update` of LoCA, from coefficients ``(B,)`` and locations ``(2, B)``.

    With frozen locations the ``4 B`` neighbours are neither gathered nor summed.

    Attributes:
        spectrum: of `CosineBasis`, in the shape of the weight.
        alpha: factor on the transform.
        upper: largest value of a location.
    """

    alpha: float
    upper: float

    def entries(self, coefficients: Tensor, places: Tensor) -> tuple[Tensor, Cells]:
        """One entry per coefficient, multiplied by ``alpha``."""
        cells, factors = self._places(places)
        return at_least_float32(coefficients) * factors, cells

    def first_gradient(self, entries: Tensor, *parameters: Tensor) -> Tensor:
        """The gradient of the coefficients."""
        return (self.alpha * entries).to(parameters[0].dtype)

    def gradients(
        self, grad_y: Tensor, x: Tensor, needed: Sequence[bool], *parameters: Tensor
    ) -> tuple[Tensor | None, Tensor | None]:
        """The gradients of coefficients and locations where they are `needed`."""
        coefficients, locations = parameters
        shape, (needs_coefficients, needs_locations) = self.spectrum.shape, needed
        cells, _ = self._places(locations)
        if needs_locations:
            cells = self._with_neighbours(cells, needs_coefficients)
        entries = self.spectrum.entries_of_product(grad_y, x, cells).view(-1, len(coefficients))
        grad_coefficients = grad_locations = None
        if needs_coefficients:
            grad_coefficients = self.first_gradient(entries[0], *parameters)
        if needs_locations:
            below, above, right, left = self.alpha * entries[-4:]
            slopes = torch.stack((below - above, right - left)) / 2
            grad_locations = location_gradient(slopes, coefficients, locations, shape, self.upper)
        return grad_coefficients, grad_locations

    def _places(self, locations: Tensor) -> tuple[Cells, Tensor]:
        """The cells of the locations, and the factors of their coefficients: alpha, or NaN for a NaN."""

        def found() -> tuple[Cells, Tensor]:
            cells = self.spectrum.cells(*locate(locations, self.spectrum.shape, self.upper))
            factors = torch.full_like(at_least_float32(locations[0]), self.alpha)
            return cells, amplitudes(factors, locations)

        return self.placed.of(locations, (self.alpha, self.upper), found)

    def _with_neighbours(self, cells: Cells, own: bool) -> Cells:
        """The neighbours of cells in a row: below, above, right and left; before them the cells, if `own`.

        All together, since the transforms of `grad_y` and `x` are the same.
        """
        rows, cols = cells.rows, cells.cols
        last_row, last_col = self.spectrum.shape[0] - 1, self.spectrum.shape[1] - 1
        all_cells = [(rows, cols)] if own else []
        all_cells += [((rows + 1).clamp(max=last_row), cols), ((rows - 1).clamp(min=0), cols)]
        all_cells += [(rows, (cols + 1).clamp(max=last_col)), (rows, (cols - 1).clamp(min=0))]
        all_rows, all_cols = (torch.cat(axis) for axis in zip(*all_cells, strict=True))
        return self.spectrum.cells(all_rows, all_cols)
