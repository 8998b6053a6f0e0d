"""A plain implementation of LoCA, against which the fast layer is tested and measured.

Two variants of the transform, and a layer that builds ``dW`` in every forward pass, multiplies `x` by it, and forms
``G = dL/d(dW)`` in every backward pass.
"""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from parbench.methods.loca.basis import CosineBasis
from parbench.methods.loca.layer import LocaLinear
from parbench.methods.loca.update import amplitudes, locate, location_gradient
from parbench.methods.spectral.basis import shared
from parbench.methods.spectral.precision import at_least_float32, without_autocast


class CosineTransform(Protocol):
    """Computes `dW` and the needed entries of `K` for weights of one shape ``(p, q)``.

    `coefficients`, `rows` and `cols` have shape ``(B,)``, `rows` and `cols` are int64 cells of the spectrum;
    `grad` has shape ``(p, q)``. Results have the dtype of `coefficients` resp. `grad`.
    """

    shape: tuple[int, int]

    def __init__(self, out_features: int, in_features: int) -> None: ...

    def synthesise(self, coefficients: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
        """``dW = C_p^T S C_q``, shape ``(p, q)``."""

    def analyse(self, grad: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
        """``K[rows, cols]``, shape ``(B,)``."""

    def slopes(self, grad: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
        """Half the difference of `K` between the next and the previous row, and column: shape ``(2, B)``."""


class DenseTransform:
    """`CosineTransform` by products with whole DCT matrices, ``p^2 q + p q^2`` multiply-adds for each of its methods.

    It is what the authors' layer does by default.
    """

    def __init__(self, out_features: int, in_features: int) -> None:
        self.shape = (out_features, in_features)
        self._row_basis, self._col_basis = shared(CosineBasis, out_features), shared(CosineBasis, in_features)

    def _matrices(self, like: Tensor) -> tuple[Tensor, Tensor]:
        return self._row_basis.matrix(like.dtype, like.device), self._col_basis.matrix(like.dtype, like.device)

    def synthesise(self, coefficients: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
        """See `CosineTransform`."""
        c_p, c_q = self._matrices(coefficients)
        spectrum = coefficients.new_zeros(self.shape).index_put_((rows, cols), coefficients, accumulate=True)
        return c_p.T @ spectrum @ c_q

    def _spectrum(self, grad: Tensor) -> Tensor:
        c_p, c_q = self._matrices(grad)
        return c_p @ grad @ c_q.T

    def analyse(self, grad: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
        """See `CosineTransform`."""
        return self._spectrum(grad)[rows, cols]

    def slopes(self, grad: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
        """See `CosineTransform`."""
        spectrum, (p, q) = self._spectrum(grad), self.shape
        along_rows = spectrum[(rows + 1).clamp(max=p - 1), cols] - spectrum[(rows - 1).clamp(min=0), cols]
        along_cols = spectrum[rows, (cols + 1).clamp(max=q - 1)] - spectrum[rows, (cols - 1).clamp(min=0)]
        return torch.stack((along_rows, along_cols)) / 2


class RankProduct(DenseTransform):
    """`CosineTransform` as a sum of `B` outer products of basis rows.

    `synthesise` and `analyse` cost ``pqB`` multiply-adds each, `slopes` twice that.
    """

    def synthesise(self, coefficients: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
        """See `CosineTransform`."""
        c_p, c_q = self._matrices(coefficients)
        return (c_p[rows] * coefficients[:, None]).T @ c_q[cols]

    def analyse(self, grad: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
        """See `CosineTransform`."""
        c_p, c_q = self._matrices(grad)
        return (c_p[rows] @ grad * c_q[cols]).sum(1)

    def slopes(self, grad: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
        """See `CosineTransform`."""
        c_p, c_q = self._matrices(grad)
        along_rows = (c_q[cols] @ grad.T * _difference(c_p, rows)).sum(1)
        along_cols = (c_p[rows] @ grad * _difference(c_q, cols)).sum(1)
        return torch.stack((along_rows, along_cols)) / 2


def _difference(matrix: Tensor, index: Tensor) -> Tensor:
    last = matrix.shape[0] - 1
    return matrix[(index + 1).clamp(max=last)] - matrix[(index - 1).clamp(min=0)]


def delta_weight(
    coefficients: Tensor, locations: Tensor, transform: CosineTransform, alpha: float, upper: float
) -> Tensor:
    """``alpha dW``, shape ``(p, q)``, in float32, or float64 for float64 coefficients, independent of autocast."""
    with without_autocast(coefficients.device):
        rows, cols = locate(locations, transform.shape, upper)
        return transform.synthesise(alpha * amplitudes(coefficients, locations), rows, cols)


class DeltaLinear(torch.autograd.Function):
    """``y = alpha x dW^T`` with LoCA's gradients (section 4.3) for coefficients and locations.

    `delta_weight` is rounded to the dtype of `x` for the product; it is recomputed in the backward pass rather
    than kept.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        coefficients: Tensor,
        locations: Tensor,
        transform: CosineTransform,
        alpha: float,
        upper: float,
    ) -> Tensor:
        """Map `x` ``(..., q)`` to ``(..., p)``; `coefficients` is ``(B,)``, `locations` ``(2, B)``."""
        ctx.save_for_backward(x, coefficients, locations)
        ctx.transform, ctx.alpha, ctx.upper = transform, alpha, upper
        delta = delta_weight(coefficients, locations, transform, alpha, upper)
        with without_autocast(x.device):
            return F.linear(x, delta.to(x.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients for `x`, `coefficients` and `locations`, each only where it is needed."""
        x, coefficients, locations = ctx.saved_tensors
        transform: CosineTransform = ctx.transform
        needs_x, needs_coefficients, needs_locations, *_ = ctx.needs_input_grad
        p, q = transform.shape
        grad_x = grad_coefficients = grad_locations = None
        with without_autocast(x.device):
            if needs_x:
                delta = delta_weight(coefficients, locations, transform, ctx.alpha, ctx.upper)
                grad_x = grad_output @ delta.to(grad_output.dtype)
            if needs_coefficients or needs_locations:
                rows, cols = locate(locations, transform.shape, ctx.upper)
                grad_delta = ctx.alpha * at_least_float32(grad_output.reshape(-1, p).T @ x.reshape(-1, q))
            if needs_coefficients:
                grad_coefficients = transform.analyse(grad_delta, rows, cols).to(coefficients.dtype)
            if needs_locations:
                slopes = transform.slopes(grad_delta, rows, cols)
                grad_locations = location_gradient(slopes, coefficients, locations, transform.shape, ctx.upper)
        return grad_x, grad_coefficients, grad_locations, None, None, None


class RankProductLinear(LocaLinear):
    """`LocaLinear` computed plainly, with `RankProduct`."""

    transform_type: ClassVar[type[CosineTransform]] = RankProduct

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """See `LocaLinear`."""
        result = self.base_layer(x, *args, **kwargs)
        if self.disable_adapters or self.merged:
            return result
        x = self._cast_input_dtype(x, result.dtype)
        transform = self.transform_type(self.out_features, self.in_features)
        for update, parameters in map(self._update, self._active_here()):
            result = result + DeltaLinear.apply(x, *parameters, transform, update.alpha, update.upper)
        return result


class DenseLinear(RankProductLinear):
    """`LocaLinear` as the authors' layer computes by default, with `DenseTransform`."""

    transform_type: ClassVar[type[CosineTransform]] = DenseTransform


def use_reference(model: torch.nn.Module, layer_type: type[RankProductLinear]) -> None:
    """Make all `LocaLinear` of a model compute plainly, in place."""
    for module in model.modules():
        if isinstance(module, LocaLinear):
            module.__class__ = layer_type
