"""Products with an update that is sparse in a product basis, by transforms of the tokens.

``x dW^T = ((x F_q^T) S^T) F_p``: the tokens are transformed, multiplied by the few entries of the spectrum, and
transformed back. Where tokens are few this takes less than building ``dW`` for every pass, and needs no memory of the
weight's size. The gradients of `x` and of the entries share the transform of ``dL/dy``; that of `x` is computed again,
since `x` itself is usually kept for other layers, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from parbench.methods.spectral.precision import without_autocast
from parbench.methods.spectral.spectrum import Cells, SparseSpectrum


class SparseUpdate(Protocol):
    """Computes the entries of a spectrum from parameters, linear in the first of them."""

    @property
    def spectrum(self) -> SparseSpectrum:
        """In the shape of the weight."""

    def entries(self, coefficients: Tensor, places: Tensor) -> tuple[Tensor, Cells]:
        """The values of the spectrum's entries, in at least float32, and their cells."""

    def first_gradient(self, entries: Tensor, *parameters: Tensor) -> Tensor:
        """The gradient of the first parameter, from those of the values, ``(E,)``."""

    def gradients(
        self, grad_y: Tensor, x: Tensor, needed: Sequence[bool], *parameters: Tensor
    ) -> Sequence[Tensor | None]:
        """The gradients of the `needed` parameters, for `grad_y` ``(T, p)`` and `x` ``(T, q)``."""


def transformed_linear(x: Tensor, update: SparseUpdate, coefficients: Tensor, places: Tensor) -> Tensor:
    """``x dW^T`` of shape ``(..., p)`` for `x` ``(..., q)``, in its dtype."""
    return _TransformedLinear.apply(x, update, coefficients, places)


class _TransformedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, update: SparseUpdate, coefficients: Tensor, places: Tensor) -> Tensor:
        """Map `x` ``(..., q)`` to ``(..., p)``."""
        trains = coefficients.requires_grad or places.requires_grad
        ctx.save_for_backward(x if trains else None, coefficients, places)
        ctx.update = update
        with without_autocast(x.device):
            values, cells = update.entries(coefficients, places)
            product = update.spectrum.multiply(values, cells, x.reshape(-1, x.shape[-1]))
            return product.to(x.dtype).view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients for `x`, `coefficients` and `places`, each only where it is needed."""
        x, coefficients, places = ctx.saved_tensors
        needs_x, _, *needed = ctx.needs_input_grad
        needs_coefficients, needs_places = needed
        rows = grad_y.reshape(-1, grad_y.shape[-1])
        tokens = None if x is None else x.reshape(-1, x.shape[-1])
        grad_places = None
        with without_autocast(grad_y.device):
            values, cells = ctx.update.entries(coefficients, places)
            own = tokens if needs_coefficients and not needs_places else None
            grad_x, entries = ctx.update.spectrum.multiply_back(values, cells, rows, own, needs_x)
            if grad_x is not None:
                grad_x = grad_x.to(grad_y.dtype).view(*grad_y.shape[:-1], -1)
            if entries is not None:
                entries = ctx.update.first_gradient(entries, coefficients, places)
            if needs_places:
                # Those of neighbouring cells as well: products of their own.
                entries, grad_places = ctx.update.gradients(rows, tokens, needed, coefficients, places)
        return grad_x, None, entries, grad_places
