"""The sparse inverse cosine transform that builds LoCA's weight update, and its gradients.

LoCA (arXiv 2502.06820; gradients: section 4.3) writes the update of a ``p x q`` weight as
``dW = C_p^T S C_q``, where ``C_N`` is the orthonormal DCT-II matrix of size ``N`` and the spectrum ``S``
holds ``B`` coefficients ``a_k`` at cells ``(r_k, c_k)``; coefficients that share a cell add up. With
``G = dL/d(dW)`` and ``K = C_p G C_q^T``:

* ``dL/da_k = K[r_k, c_k]``, exact;
* ``dL/dr_k = clamp(a_k (K[r_k + 1, c_k] - K[r_k - 1, c_k]) / 2, -1, 1)`` and likewise for ``c_k``: a central
  difference over the neighbouring cells, whose index stops at the border.

Everything that knows how ``dW`` and ``K`` are computed stands behind `CosineTransform`.
"""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol
from weakref import WeakValueDictionary

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


class CosineBasis:
    """The orthonormal DCT-II matrix of one size: one tensor per (dtype, device), shared by all layers.

    It is no module and no buffer, so it never reaches a state dict; copies and unpickled models share it
    again. The matrices are freed with the last model that uses them. Obtain one from `cosine_basis`.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._matrices: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def matrix(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """``C[i, j] = sqrt(2 / N) cos(pi (2j + 1) i / 2N)``, row 0 over ``sqrt(2)``; shape ``(N, N)``."""
        key = (dtype, device)
        if key not in self._matrices:
            matrix = _dct_matrix(self.size, dtype, device)
            if type(matrix) is not Tensor:  # a tracer's stand-in, which must not outlive the trace
                return matrix
            self._matrices[key] = matrix
        return self._matrices[key]

    def __reduce__(self) -> tuple[Any, ...]:
        return cosine_basis, (self.size,)


_bases: WeakValueDictionary[int, CosineBasis] = WeakValueDictionary()


def cosine_basis(size: int) -> CosineBasis:
    """The basis of this size: the one in use, if there is one."""
    basis = _bases.get(size)
    if basis is None:
        basis = _bases[size] = CosineBasis(size)
    return basis


@torch.inference_mode(False)  # a matrix built during inference must serve training too
@torch.no_grad()
def _dct_matrix(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    # cos(pi m / 2N) has period 4N in the integer m = (2j + 1) i: one period of values, computed in float64 on
    # the CPU, which always can, serves all entries at full precision.
    angles = torch.arange(4 * size, dtype=torch.float64, device="cpu") * (math.pi / (2 * size))
    cosines = (angles.cos() * math.sqrt(2 / size)).to(dtype).to(device)
    odd = 2 * torch.arange(size, device=device) + 1
    matrix = torch.empty(size, size, dtype=dtype, device=device)
    # By blocks of rows: m for all entries at once would take twice the memory of the matrix.
    for rows in torch.arange(size, device=device).split(256):
        matrix[rows] = cosines[torch.outer(rows, odd) % (4 * size)]
    matrix[0] /= math.sqrt(2)
    return matrix


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


class RankProduct:
    """`CosineTransform` as a sum of `B` outer products of basis rows.

    `synthesise` and `analyse` cost ``pqB`` multiply-adds each, `slopes` twice that. There is no dense
    spectrum to scatter into, so no atomic addition makes a run differ from the next.
    """

    def __init__(self, out_features: int, in_features: int) -> None:
        self.shape = (out_features, in_features)
        self._row_basis, self._col_basis = cosine_basis(out_features), cosine_basis(in_features)

    def _matrices(self, like: Tensor) -> Iterator[Tensor]:
        return (basis.matrix(like.dtype, like.device) for basis in (self._row_basis, self._col_basis))

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


def locate(locations: Tensor, shape: tuple[int, int], upper: float) -> tuple[Tensor, Tensor]:
    """The cells ``(rows, cols)`` of the locations: clamp to ``[0, upper]``, stretch, round to nearest.

    `locations` has shape ``(2, B)``, rows first; both results are int64 of shape ``(B,)``. A NaN goes to cell
    0: `amplitudes` marks it, where a NaN index would be an illegal memory access.
    """
    inside = _exact(locations).nan_to_num(0.0).clamp(0.0, upper)
    rows, cols = ((axis * (size - 1)).round().long() for axis, size in zip(inside, shape, strict=True))
    return rows, cols


def amplitudes(coefficients: Tensor, locations: Tensor) -> Tensor:
    """The coefficients in at least float32; NaN where the location is NaN, so that the loss shows it."""
    return _exact(coefficients).where(~locations.isnan().any(0), math.nan)


def delta_weight(
    coefficients: Tensor, locations: Tensor, transform: CosineTransform, alpha: float, upper: float
) -> Tensor:
    """``alpha dW``, shape ``(p, q)``, in float32, or float64 for float64 coefficients, whatever autocast says."""
    with _without_autocast(coefficients.device):
        rows, cols = locate(locations, transform.shape, upper)
        return transform.synthesise(alpha * amplitudes(coefficients, locations), rows, cols)


def _exact(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _without_autocast(device: torch.device) -> AbstractContextManager[None]:
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


class DeltaLinear(torch.autograd.Function):
    """``y = alpha x dW^T`` with LoCA's gradients (section 4.3) for coefficients and locations.

    `delta_weight` is rounded to the dtype of `x` for the product; it is recomputed in the backward pass rather
    than kept. A group of parameters that needs no gradient costs nothing.

    The clamp of the location gradient to ``[-1, 1]`` acts on the gradient that arrives here, once per
    backward pass, as in the authors' layer: a loss scale (float16) or gradient accumulation changes what it
    cuts off.
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
        with _without_autocast(x.device):
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
        with _without_autocast(x.device):
            if needs_x:
                delta = delta_weight(coefficients, locations, transform, ctx.alpha, ctx.upper)
                grad_x = grad_output @ delta.to(grad_output.dtype)
            if needs_coefficients or needs_locations:
                rows, cols = locate(locations, transform.shape, ctx.upper)
                grad_delta = ctx.alpha * _exact(grad_output.reshape(-1, p).T @ x.reshape(-1, q))
            if needs_coefficients:
                grad_coefficients = transform.analyse(grad_delta, rows, cols).to(coefficients.dtype)
            if needs_locations:
                slopes = amplitudes(coefficients, locations) * transform.slopes(grad_delta, rows, cols)
                along_rows, along_cols = slopes.clamp(-1.0, 1.0)
                stretched = torch.stack((along_rows * (p - 1), along_cols * (q - 1)))
                inside = (locations >= 0.0) & (locations <= ctx.upper)
                grad_locations = (stretched * inside).to(locations.dtype)
        return grad_x, grad_coefficients, grad_locations, None, None, None
