"""Weight updates that are sparse in a product basis, independent of the basis."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from parbench.methods.spectral.outer_products import OuterProducts
from parbench.methods.spectral.precision import product_cost
from parbench.methods.spectral.spectrum import Cells, SparseSpectrum
from parbench.methods.spectral.tensor_cache import TensorCache
from parbench.methods.spectral.token_transforms import transformed_linear


@dataclass(frozen=True)
class SpectralUpdate(ABC):
    """The part of a `parbench.methods.spectral.fused.Update` that depends on the entries of its spectrum only.

    Its parameters are coefficients ``(B,)`` and where they are, ``(2, B)``, rows first.

    Attributes:
        spectrum: in the shape of the weight.
        placed: cache of the cells of the places, and of the factors of the coefficients there.
        cells_of_each: number of cells per coefficient.
    """

    spectrum: SparseSpectrum
    placed: TensorCache[tuple[Cells, Tensor]] = field(
        default_factory=TensorCache, compare=False, repr=False, kw_only=True
    )

    arity: ClassVar[int] = 2
    cells_of_each: ClassVar[int] = 1

    @abstractmethod
    def entries(self, coefficients: Tensor, places: Tensor) -> tuple[Tensor, Cells]:
        """The values of the spectrum's entries, in at least float32, and their cells."""

    def delta(self, *parameters: Tensor, onto: Tensor | None = None) -> Tensor:
        """See `parbench.methods.spectral.fused.Update`."""
        values, cells = self.entries(*parameters)
        return self.spectrum.synthesise(values, cells, onto)

    def multiplies_by_rows(self, *parameters: Tensor) -> bool:
        """See `parbench.methods.spectral.outer_products.FactoredUpdate`."""
        return self.spectrum.multiplies_by_rows(self.cells_of_each * len(parameters[0]))

    def multiply(self, x: Tensor, *parameters: Tensor, apart: bool) -> Tensor | None:
        """See `parbench.methods.spectral.fused.Update`."""
        coefficients, places = parameters
        tokens, entries = x.shape[:-1].numel(), self.cells_of_each * len(coefficients)
        own = product_cost(x.dtype, x.device) if apart else 0.0
        if not self.spectrum.transforms_tokens(tokens, entries, x.device, places.requires_grad, own):
            return None
        return transformed_linear(x, self, coefficients, places)

    @abstractmethod
    def first_gradient(self, entries: Tensor, *parameters: Tensor) -> Tensor:
        """See `parbench.methods.spectral.outer_products.FactoredUpdate`."""

    @abstractmethod
    def gradients(
        self, grad_y: Tensor, x: Tensor, needed: Sequence[bool], *parameters: Tensor
    ) -> Sequence[Tensor | None]:
        """See `parbench.methods.spectral.outer_products.FactoredUpdate`."""

    def outer_products(self, dtype: torch.dtype, *parameters: Tensor) -> OuterProducts:
        """One for each entry; see `parbench.methods.spectral.outer_products.FactoredUpdate`."""
        values, cells = self.entries(*parameters)
        return OuterProducts(values, *self.spectrum.rows(cells, dtype))
