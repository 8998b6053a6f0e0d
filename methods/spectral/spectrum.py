"""Sparse spectra in two dimensions: ``dW = F_p^T S F_q`` and its gradient, by the cheapest algorithm.

``F_N`` holds the basis vectors of a side (`parbench.methods.spectral.basis`) as rows, ``S`` has few entries, ``E`` in
number. With ``G = dL/d(dW) = grad_y^T x``, the gradient of the entry at ``(r, c)`` is ``K[r, c]``, where
``K = F_p G F_q^T``. Only a few entries of ``K`` are needed, which is what makes a cheaper computation possible.

The choice rule
---------------
The algorithm is chosen from the shapes, and in 16 bits from whether the device has matrix units, so that runs can be
repeated on a kind of machine. Matrix products are counted in
multiply-adds of 32 or 64 bits. Everything else is bound by memory: passing one number through an FFT (including
permutation and twiddle factors), or gathering two numbers and accumulating their product, counts as `STEP` of them.

* One side of a vector, ``project``: by ``E`` gathered basis rows, or by FFT: ``min(E, STEP)`` for each number.
* ``synthesise``: a product of gathered rows, ``p q E``, or FFTs along both sides, ``2 p q STEP``.
* ``entries``, for a given ``G``: ``p q E`` or ``2 p q STEP``.
* ``entries_of_product``, for ``T`` tokens: form ``G``, which takes ``T p q``, and then as for a given ``G``; or never
  form it: project ``grad_y`` and ``x``, which takes ``T (p + q) min(E, STEP)``, and add up ``T E`` products of the
  pairs that belong to entries. Forming ``G`` in 16 bits counts as `product_cost` says, an eighth on matrix units;
  everything else is in float32.

* Multiplying by an update that is not added to the weight: `multiplies_by_rows`, which takes ``T E (p + q)``, if that
  is less than the ``T p q`` of a product with the update, which has to be built first.
* A training step with an update that is not cached builds it twice, which takes ``3 p q STEP``, less than twice
  `synthesise` since its blocks stay in cache, and projects ``x`` and ``grad_y`` for the gradient of its entries,
  ``T (p + q) STEP``. On a CPU `transforms_tokens` moves the transforms to the tokens instead where these are few:
  ``x``, ``y``, ``grad_y``, ``x`` again and ``grad_x`` take ``T (2 p + 3 q) STEP``, and the products with ``S`` in
  between next to nothing. Nothing has the size of the weight then. Beside a weight of 16 bits, to which an update is
  not added, the built one takes two products of its own, ``2 T p q``.

The constants were measured on x86 CPUs (see methods/loca/PERFORMANCE.md). On accelerators they are assumptions, which
can make a step slower but not wrong. A traced graph (torch.compile) always forms ``G``, because the other algorithm
splits the tokens into chunks and would fix their number.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from parbench.methods.spectral.basis import Basis, shared
from parbench.methods.spectral.precision import at_least_float32, product_cost

STEP = 100
"""Multiply-adds of a matrix product in the time of one step through memory, at 32 and 64 bits."""

_PACKED = 8
"""Weights of 4 bits in the memory of one number of 32 bits."""

_IN_CACHE = 1 << 16
"""Numbers per block such that the copies made by an FFT fit into a core's cache."""


@dataclass(frozen=True)
class Waves:
    """Entries of a spectrum as complex waves: each is one wave along columns times two conjugate ones along rows.

    Attributes:
        rows: int64 frequencies ``(2, E)``, below ``p``.
        cols: int64 frequencies ``(2, E)``, of a real FFT.
        weights: complex ``(2, E)``.
    """

    rows: Tensor
    cols: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Compressed:
    """The places of a sparse matrix's entries, row by row; made by `compressed`.

    Attributes:
        order: int64 ``(E,)``, the entries in the order of their rows.
        cols: int64 ``(E,)``, their columns in that order.
        starts: int64 ``(rows,)``, where the entries of each row begin.
    """

    order: Tensor
    cols: Tensor
    starts: Tensor

    def product(self, values: Tensor, dense: Tensor) -> Tensor:
        """The product of the matrix with these `values` ``(E,)`` and `dense` ``(cols, T)``: ``(rows, T)``."""
        # A bag per row. Of torch's sparse products this is the one that needs no beta features.
        return F.embedding_bag(self.cols, dense, self.starts, mode="sum", per_sample_weights=values[self.order])


def compressed(rows: Tensor, cols: Tensor, height: int) -> Compressed:
    """The entries at `rows` and `cols` of a matrix with so many rows."""
    order = rows.argsort(stable=True)
    starts = torch.searchsorted(rows[order], torch.arange(height, device=rows.device))
    return Compressed(order, cols[order], starts)


@dataclass
class Cells:
    """The entries of a spectrum that are not zero; made by `SparseSpectrum.cells`.

    Attributes:
        rows: int64 indices of row basis vectors ``(E,)``.
        cols: int64 indices of column basis vectors ``(E,)``.
        row_slots: their positions in the output of an FFT; ``None`` where so few entries make FFTs more expensive.
        col_slots: the same for columns.
        waves: the input of an inverse FFT, computed at its first use.
        by_row: the matrix of row slots and column slots, computed at its first use.
        by_col: its transpose.
    """

    rows: Tensor
    cols: Tensor
    row_slots: Tensor | None
    col_slots: Tensor | None
    waves: Waves | None = None
    by_row: Compressed | None = None
    by_col: Compressed | None = None

    def __len__(self) -> int:
        return len(self.rows)


class SparseSpectrum:
    """Sums of products of a row basis vector and a column basis vector, for weights of one shape ``(p, q)``.

    `values` have shape ``(E,)``, one per cell. Entries of the same cell add up. Results have the dtype of `values` or
    `grad`, which is float32 or float64.

    Args:
        dense: whether training may form matrices of the weight's shape where that is cheaper. Beside a quantised
            weight, which takes a fraction of such a matrix, it may not.
    """

    def __init__(self, out_features: int, in_features: int, basis: type[Basis], dense: bool = True) -> None:
        self.shape = (out_features, in_features)
        self._dense = dense
        self._row_basis, self._col_basis = shared(basis, out_features), shared(basis, in_features)

    def cells(self, rows: Tensor, cols: Tensor) -> Cells:
        """The cells at `rows` and `cols`, both int64 ``(E,)``."""
        if len(rows) <= STEP:
            return Cells(rows, cols, None, None)
        return Cells(rows, cols, self._row_basis.slot(rows), self._col_basis.slot(cols))

    def synthesise(self, values: Tensor, cells: Cells, onto: Tensor | None = None) -> Tensor:
        """``F_p^T S F_q``, shape ``(p, q)``; with `onto`, of the same dtype and not changed, the sum of both."""
        (p, q), row_basis, col_basis = self.shape, self._row_basis, self._col_basis
        if len(values) <= 2 * STEP or cells.row_slots is None or cells.col_slots is None:
            left, right = self.rows(cells, values.dtype)
            update = (left * values[:, None]).T @ right
            return update if onto is None else onto + update
        if cells.waves is None or cells.waves.weights.real.dtype != values.dtype:
            cells.waves = self._waves(cells.row_slots, cells.col_slots, values.dtype)
        waves = cells.waves
        spectrum = torch.zeros(p, q // 2 + 1, dtype=waves.weights.dtype, device=values.device)
        # Unlike index_add, this adds coinciding entries in a fixed order on every device.
        spectrum.index_put_((waves.rows, waves.cols), waves.weights * values, accumulate=True)
        spectrum = torch.fft.ifft(spectrum, dim=0, norm="forward")
        row_order, col_order = row_basis.order(values.device), col_basis.order(values.device)

        def block(some: slice) -> Tensor:
            part = spectrum[some] if row_order is None else spectrum.index_select(0, row_order[some])
            part = torch.fft.irfft(part, n=q, norm="forward")
            if col_order is not None:
                part = part.index_select(-1, col_order)
            return part if onto is None else part.add_(onto[some])

        at_once = _rows_at_once(q, values.device, on_all_cores=True)
        if at_once >= p:
            return block(slice(None))
        result = values.new_empty(self.shape)
        # In blocks that stay in a core's cache between the steps.
        for start in range(0, p, at_once):
            some = slice(start, start + at_once)
            result[some] = block(some)
        return result

    def _waves(self, row_slots: Tensor, col_slots: Tensor, dtype: torch.dtype) -> Waves:
        rows, cols = row_slots // 2, col_slots // 2
        along_rows = self._row_basis.waves(row_slots, dtype)
        along_cols = self._col_basis.one_sided_waves(col_slots, dtype)
        return Waves(
            rows=torch.stack((rows, -rows % self.shape[0])),
            cols=cols.expand(2, -1),
            weights=torch.stack((along_rows, along_rows.conj())) * along_cols,
        )

    def rows(self, cells: Cells, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The basis vectors of the `cells`, of rows ``(E, p)`` and of columns ``(E, q)``."""
        like = torch.empty(0, dtype=dtype, device=cells.rows.device)
        return _rows_of(self._row_basis, cells.rows, like), _rows_of(self._col_basis, cells.cols, like)

    def multiplies_by_rows(self, entries: int) -> bool:
        """Whether to multiply by the basis vectors of so many cells rather than by the update that they add up to.

        Beside a quantised weight they may take as much memory as the weight, not as much as a matrix of its shape.
        """
        p, q = self.shape
        return entries * (p + q) * (1 if self._dense else _PACKED) < p * q

    def transforms_tokens(
        self, tokens: int, entries: int, device: torch.device, trains_places: bool = False, own: float = 0.0
    ) -> bool:
        """Whether to multiply by so many entries by transforms of the tokens: the rule at the top of this module.

        Where the places of the entries are trained as well, their gradient takes other products.

        Args:
            own: the `product_cost` of products with the update, if it is not added to the weight; else zero.
        """
        if not self._dense:
            return True
        if device.type != "cpu" or torch.compiler.is_compiling() or entries <= STEP or trains_places:
            return False
        p, q = self.shape
        return 0 < tokens * (p + 2 * q) * STEP < 3 * p * q * STEP + own * 2 * tokens * p * q

    def multiply(self, values: Tensor, cells: Cells, x: Tensor) -> Tensor:
        """``x dW^T`` of shape ``(T, p)`` for `x` ``(T, q)``, by transforms of `x` and of the result."""
        if cells.by_row is None:
            cells.by_row = compressed(*self._slots(cells), self._row_basis.slots)
        found = cells.by_row.product(values, _transformed(self._col_basis, x))
        return self._row_basis.adjoint(found.T.contiguous())

    def multiply_back(
        self, values: Tensor, cells: Cells, grad_y: Tensor, x: Tensor | None, needs_x: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """The gradients of `multiply`: of `x` ``(T, q)`` if needed, and of `values` ``(E,)`` if `x` is given."""
        row_slots, col_slots = self._slots(cells)
        transformed = _transformed(self._row_basis, grad_y)
        grad_x = grad_values = None
        if x is not None:
            grad_values = row_products(transformed, _transformed(self._col_basis, x), row_slots, col_slots)
        if needs_x:
            if cells.by_col is None:
                cells.by_col = compressed(col_slots, row_slots, self._col_basis.slots)
            grad_x = self._col_basis.adjoint(cells.by_col.product(values, transformed).T.contiguous())
        return grad_x, grad_values

    def _slots(self, cells: Cells) -> tuple[Tensor, Tensor]:
        if cells.row_slots is None or cells.col_slots is None:
            return self._row_basis.slot(cells.rows), self._col_basis.slot(cells.cols)
        return cells.row_slots, cells.col_slots

    def entries(self, grad: Tensor, cells: Cells) -> Tensor:
        """The `cells` of ``K`` for ``G`` `grad` ``(p, q)``; shape ``(E,)``."""
        row_basis, col_basis = self._row_basis, self._col_basis
        if len(cells) <= 2 * STEP or cells.row_slots is None or cells.col_slots is None:
            return (_rows_of(row_basis, cells.rows, grad) @ grad * _rows_of(col_basis, cells.cols, grad)).sum(1)
        spectrum = row_basis.forward(col_basis.forward(grad).T.contiguous())
        return spectrum[cells.col_slots, cells.row_slots]

    def entries_of_product(self, grad_y: Tensor, x: Tensor, cells: Cells) -> Tensor:
        """The `cells` of ``K`` for ``G = grad_y^T x``, of `grad_y` ``(T, p)`` and `x` ``(T, q)``; shape ``(E,)``.

        The result has at least 32 bits, and so has the computation where ``G`` is not formed; ``G`` itself has the
        dtype of `grad_y` and `x`.
        """
        cost = product_cost(grad_y.dtype, x.device)
        formed = torch.compiler.is_compiling() or self.forms_product(len(x), len(cells), cost)
        if formed and self._dense:
            return self.entries(at_least_float32(grad_y.T @ x), cells)
        result = torch.zeros(len(cells), dtype=at_least_float32(grad_y[:0]).dtype, device=x.device)
        # Independent of the number of threads, as the order of the sum and its rounding must be.
        chunk = _rows_at_once(max(*self.shape, len(cells)), x.device, on_all_cores=False)
        left = _projection(self._row_basis, cells.rows, cells.row_slots, result)
        right = _projection(self._col_basis, cells.cols, cells.col_slots, result)
        for grad_y_part, x_part in zip(grad_y.split(chunk), x.split(chunk), strict=True):
            result += left(grad_y_part).mul_(right(x_part)).sum(0)
        return result

    def forms_product(self, tokens: int, entries: int, cost: float) -> bool:
        """Whether `entries_of_product` forms ``G``, by a product of this `product_cost`: the rule at the top."""
        p, q = self.shape
        formed = cost * tokens * p * q + p * q * min(entries, 2 * STEP)
        avoided = tokens * (p + q) * min(entries, STEP) + tokens * entries * STEP
        return formed <= avoided


def _transformed(basis: Basis, values: Tensor) -> Tensor:
    """`Basis.forward` of `values` ``(T, N)`` in at least float32, transposed: ``(slots, T)``."""
    return basis.forward(at_least_float32(values)).T.contiguous()


def row_products(left: Tensor, right: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
    """The inner products of ``left[rows]`` and ``right[cols]``, shape ``(E,)``, without gathering either, on a CPU."""
    # The gradient of the weights of a bag sum. Autograd calls it, too, but behind a sum that is not needed here.
    no_padding, unused = -1, rows[:0]
    return torch.ops.aten._embedding_bag_per_sample_weights_backward(left, right, cols, unused, rows, 0, no_padding)


def _projection(basis: Basis, index: Tensor, slots: Tensor | None, like: Tensor) -> Callable[[Tensor], Tensor]:
    """A function from vectors ``(tokens, N)`` to their inner products with some basis vectors, ``(tokens, E)``."""
    if slots is None:
        rows = _rows_of(basis, index, like)
        return lambda values: at_least_float32(values) @ rows.T
    return lambda values: basis.forward(at_least_float32(values)).index_select(-1, slots)


def _rows_at_once(width: int, device: torch.device, on_all_cores: bool) -> int:
    """Number of rows of `width` numbers that are transformed together.

    On the CPU as many as stay in the cache between the passes, of one core or of all running ones; elsewhere as many as
    keep memory low.
    """
    if torch.compiler.is_compiling():  # blocks would only make the graph longer
        return sys.maxsize
    if device.type != "cpu":
        return max(1, (1 << 24) // width)
    return max(1, _IN_CACHE * (torch.get_num_threads() if on_all_cores else 1) // width)


def _rows_of(basis: Basis, index: Tensor, like: Tensor) -> Tensor:
    return basis.matrix(like.dtype, like.device)[index]
