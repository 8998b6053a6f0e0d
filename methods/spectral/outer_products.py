"""Products with an update that is a sum of outer products, without building it.

A weight of 16 bits would lose most of a small update to rounding, so ``x dW^T`` is a product of its own beside that of
the frozen layer. With ``dW = sum_e v_e r_e c_e^T`` it consists of two thin products, ``((x C^T) v) R``, like those of a
LoRA of rank ``E``, and so does the gradient of `x`, ``((dL/dy R^T) v) C``. The gradient of ``v_e`` is the sum over all
tokens of ``(dL/dy r_e) (x c_e)``, whose factors are computed already.

The multipliers stay in float32 and the products are rounded afterwards: rounding errors differ between tokens, so that
small changes of a multiplier show in the average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from parbench.methods.spectral.precision import at_least_float32, without_autocast


@dataclass(frozen=True)
class OuterProducts:
    """``sum_e values_e rows_e cols_e^T``.

    Attributes:
        values: shape ``(E,)``, in at least float32.
        rows: shape ``(E, p)``, in the dtype that products are computed in.
        cols: shape ``(E, q)``, in the same dtype.
    """

    values: Tensor
    rows: Tensor
    cols: Tensor

    def scale(self, projected: Tensor) -> Tensor:
        """`projected` ``(T, E)`` times the values, rounded once."""
        return (projected * self.values).to(projected.dtype)


class FactoredUpdate(Protocol):
    """Computes a sum of outer products from parameters, linear in the first of them.

    Hashable and without changing tensors of its own.
    """

    def multiplies_by_rows(self, *parameters: Tensor) -> bool:
        """Whether that is the cheapest way to multiply by the update."""

    def outer_products(self, dtype: torch.dtype, *parameters: Tensor) -> OuterProducts:
        """The outer products, for multiplication in `dtype`."""

    def first_gradient(self, entries: Tensor, *parameters: Tensor) -> Tensor:
        """The gradient of the first parameter, from those of the values, ``(E,)``."""

    def gradients(
        self, grad_y: Tensor, x: Tensor, needed: Sequence[bool], *parameters: Tensor
    ) -> Sequence[Tensor | None]:
        """The gradients of the `needed` parameters, for `grad_y` ``(T, p)`` and `x` ``(T, q)`` of one dtype."""


def factored_linear(x: Tensor, update: FactoredUpdate, parameters: Sequence[Tensor]) -> Tensor:
    """``x dW^T`` of shape ``(..., p)`` for `x` ``(..., q)``, in its dtype."""
    return _FactoredLinear.apply(x, update, *parameters)


class _FactoredLinear(torch.autograd.Function):
    """Its inputs are `x`, the update, and the update's parameters.

    Where the first parameter alone is trained, the backward pass needs ``x C^T`` and not `x`, which is larger.
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        """Map `x` ``(..., q)`` to ``(..., p)``."""
        x, update, *parameters = inputs
        with without_autocast(x.device):
            products = update.outer_products(x.dtype, *parameters)
            projected = x @ products.cols.T
            first, *others = (parameter.requires_grad for parameter in parameters)
            saved = x if any(others) else projected if first else None
            ctx.save_for_backward(saved, *parameters)
            ctx.update = update
            return products.scale(projected) @ products.rows

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients for `x` and the parameters, each only where it is needed."""
        saved, *parameters = ctx.saved_tensors
        needs_x, _, *needed = ctx.needs_input_grad
        grad_x = None
        gradients: Sequence[Tensor | None] = [None] * len(parameters)
        with without_autocast(grad_y.device):
            products = ctx.update.outer_products(grad_y.dtype, *parameters)
            projected = grad_y @ products.rows.T
            if needs_x:
                grad_x = products.scale(projected) @ products.cols
            if any(needed[1:]):
                rows, x = grad_y.reshape(-1, grad_y.shape[-1]), saved.reshape(-1, saved.shape[-1])
                gradients = ctx.update.gradients(rows, x, needed, *parameters)
            elif needed[0]:
                entries = (at_least_float32(projected) * saved).reshape(-1, len(products.values)).sum(0)
                gradients = [ctx.update.first_gradient(entries, *parameters), *gradients[1:]]
        return grad_x, None, *gradients
