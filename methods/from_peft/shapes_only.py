"""Lets tuners of peft be made without weights: what they compute from weights gets its shape alone.

Some tuners move the base model's weights to the CPU, decompose or cluster them, and size their parameters by the
result. On the meta device there is nothing to move or decompose, but the sizes are known.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


@contextmanager
def shapes_only() -> Iterator[None]:
    """Replace computations that need the data of weights by tensors of the right shapes on the meta device."""
    with ExitStack() as stack:
        stack.enter_context(_StayOnMeta())
        for place, stand_in in _STAND_INS.items():
            stack.enter_context(_replaced(place, stand_in))
        yield


class _StayOnMeta(TorchFunctionMode):
    """Lets a tensor without data stay on the meta device where it would be moved."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        if func in _MOVES and args[0].is_meta:
            if func is not Tensor.to:
                return args[0]
            options.pop("device", None)
            args = (args[0], *(value for value in args[1:] if not isinstance(value, (str, torch.device, int))))
            if len(args) == 1 and not options.keys() & {"dtype", "other"}:
                return args[0]
        return func(*args, **options)


_MOVES = (Tensor.cpu, Tensor.cuda, Tensor.to)


def _singular_vectors(tensor: Tensor, r: int, device: Any, dtype: torch.dtype, random_seed: int = 0) -> Any:
    """Stand for AdaMSS's decomposition of (batch, channels, height, width) at rank ``r``."""
    batch, channels, height, width = tensor.shape
    rank = min(r, height, width)
    return tensor.new_empty(batch, channels, rank, width), tensor.new_empty(batch, channels, height, rank)


def _clusters(vectors: Tensor, num_subspaces: int, iternum: int) -> tuple[Tensor, int]:
    """Stand for AdaMSS's clustering of rows: clusters of one size, for which its parameters have that of any others.

    Smaller clusters than ``subspace_rank`` would have fewer parameters.
    """
    rows = vectors.shape[0]
    number = min(num_subspaces, rows)
    return torch.arange(rows, device="cpu") % number, number


def _projection(matrices: Sequence[Tensor], regularization_alpha: float) -> Tensor:
    """Stand for FRoD's basis, a square matrix of the width of the weights."""
    width = matrices[0].shape[1]
    return matrices[0].new_empty(width, width)


def _u_and_lambda(layer: Any, basis: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Stand for FRoD's factors of a weight: normalised columns, and their norms."""
    return weight.new_empty(weight.shape), weight.new_empty(weight.shape[1])


# By module and attribute of the installed peft; those of tuners that it does not have are passed over.
_STAND_INS: dict[str, Callable[..., Any]] = {
    "peft.tuners.adamss.layer:slice_pca": _singular_vectors,
    "peft.tuners.adamss.layer:clustering_Z": _clusters,
    "peft.tuners.frod.model:_projection_from_weights": _projection,
    "peft.tuners.frod.layer:FrodLayer._calculate_frod_u_and_lambda": _u_and_lambda,
}


@contextmanager
def _replaced(place: str, stand_in: Callable[..., Any]) -> Iterator[None]:
    module, _, path = place.partition(":")
    *owners, name = path.split(".")
    try:
        owner: Any = importlib.import_module(module)
    except ModuleNotFoundError:
        yield
        return
    for attribute in owners:
        owner = getattr(owner, attribute)
    original = getattr(owner, name)
    setattr(owner, name, stand_in)
    try:
        yield
    finally:
        setattr(owner, name, original)
