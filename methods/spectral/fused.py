"""A linear layer with a frozen weight and an update from few parameters, computed as one matrix product.

``y = x (W + dW)^T + b``, where ``dW`` is the sum of the updates of all active adapters: it costs one addition to the
weight, and not a product of its own. The update computes its gradients from `x` and ``dL/dy`` and need not form
``dL/d(dW)`` (see `parbench.methods.spectral.spectrum`).

Where tokens are few, building ``dW`` twice per step takes longer than transforming them: then the product with the
update is one of its own, too. See `parbench.methods.spectral.token_transforms`.

Memory: the sum ``W + dW`` exists only during a product and is computed again in the backward pass. ``dW`` is either
built again as well or cached, which takes a tensor of the size of the weight per adapted layer; see `DeltaCache`.

Where the base layer cannot be replaced by a product (see `foldable`), `x` is multiplied by the update alone and the
product is added to the output of the base layer. That includes weights of 16 bits, whose sum with a small update would
lose most of it to rounding. For an update of few entries that product consists of two thin ones: see
`parbench.methods.spectral.outer_products`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.pytorch_utils import Conv1D

from parbench.methods.spectral.outer_products import FactoredUpdate, factored_linear
from parbench.methods.spectral.precision import without_autocast


class Update(FactoredUpdate, Protocol):
    """Computes a weight update from parameters; hashable and without changing tensors of its own.

    Attributes:
        arity: number of parameters.
    """

    arity: ClassVar[int]

    def delta(self, *parameters: Tensor, onto: Tensor | None = None) -> Tensor:
        """The update, shape ``(p, q)``, in float32, or float64 for parameters of float64.

        Args:
            onto: shape ``(p, q)``; if given, the sum of it and the update is returned, and it is not changed.
        """

    def multiply(self, x: Tensor, *parameters: Tensor, apart: bool) -> Tensor | None:
        """``x dW^T`` in the dtype of `x` by transforms of the tokens; ``None`` where building ``dW`` is cheaper.

        Args:
            apart: whether ``dW``, if built, is multiplied by itself and not added to the weight.
        """


def total_delta(updates: Sequence[Update], parameters: Sequence[Tensor], onto: Tensor | None = None) -> Tensor:
    """The sum of updates, and of `onto`, which is not changed, shape ``(p, q)``.

    Args:
        parameters: those of all updates, one after another.
    """
    (first, own), *others = _shares(updates, parameters)
    # A cached update that was built in inference mode must be usable in training, too.
    with torch.inference_mode(False), torch.no_grad(), without_autocast(parameters[0].device):
        total = first.delta(*own, onto=onto)
        for update, own in others:
            total = update.delta(*own, onto=total)
    return total


class DeltaCache:
    """Caches the update of one layer until a parameter's value changes.

    The update is built once for all micro-batches of an optimiser step, including backward passes, and once for a whole
    evaluation. It takes as much memory as the layer's weight. Values are compared and not the version counters of
    tensors, which do not count writes through ``.data`` as some optimisers make them. On an accelerator a comparison
    would synchronise; building is cheap there, so an update is used for one forward and its backward pass only.

    Copies and unpickled caches are empty.
    """

    def __init__(self) -> None:
        self._kept: tuple[Sequence[Update], list[Tensor], Tensor] | None = None

    def get(self, updates: Sequence[Update], parameters: Sequence[Tensor]) -> Tensor:
        """The sum of `updates`, which the caller must not change."""
        if parameters[0].device.type != "cpu":
            return total_delta(updates, parameters)
        if self._kept is not None:
            kept_updates, values, delta = self._kept
            if updates == kept_updates and all(map(torch.equal, parameters, values)):
                return delta
        self._kept = None  # freed before the next one is built
        delta = total_delta(updates, parameters)
        self._kept = updates, [parameter.detach().clone() for parameter in parameters], delta
        return delta

    def clear(self) -> None:
        """Free the cached update."""
        self._kept = None

    def __deepcopy__(self, memo: dict[int, Any]) -> DeltaCache:
        return DeltaCache()

    def __reduce__(self) -> tuple[Any, ...]:
        return DeltaCache, ()


def foldable(base: nn.Module, x: Tensor) -> bool:
    """Whether a layer may be replaced by a product with the sum of its weight and an update.

    It must be a plain layer with a frozen weight of 32 or 64 bits on the device of `x`, without hooks such as those of
    offloading and sharding.
    """
    if type(base) not in (nn.Linear, Conv1D):
        return False
    weight: Any = base.weight
    return (
        type(weight) is nn.Parameter
        and not weight.requires_grad
        and weight.dtype in (torch.float32, torch.float64)
        and weight.ndim == 2  # under DeepSpeed ZeRO-3 it is empty
        and weight.device == x.device
        and (weight.dtype == x.dtype or _autocasts(x))
        and "forward" not in base.__dict__
        and not (base._forward_pre_hooks or base._forward_hooks or base._backward_pre_hooks or base._backward_hooks)
    )


def fused_linear(
    base: nn.Module, x: Tensor, updates: Sequence[Update], parameters: Sequence[Tensor], kept: DeltaCache | None
) -> Tensor:
    """``x (W + dW)^T + b`` for a layer that is `foldable`; `kept` is the cache of ``dW``, if any.

    Args:
        x: shape ``(..., q)``.
        parameters: those of all `updates`, one after another.

    Returns:
        shape ``(..., p)``, in the dtype that the base layer computes in, autocast included.
    """
    weight: Any = base.weight.T if isinstance(base, Conv1D) else base.weight
    bias: Any = base.bias
    if _autocasts(x):
        x = x.to(torch.get_autocast_dtype(x.device.type))
    if kept is None and (product := _by_tokens(x, updates, parameters, apart=False)) is not None:
        return F.linear(x, weight, bias) + product
    return _UpdatedLinear.apply(x, weight, bias, _delta(updates, parameters, kept), updates, *parameters)


def update_linear(
    x: Tensor, updates: Sequence[Update], parameters: Sequence[Tensor], kept: DeltaCache | None
) -> Tensor:
    """``x dW^T`` in the dtype of `x`; otherwise as `fused_linear`."""
    pairs = _shares(updates, parameters)
    if all(update.multiplies_by_rows(*own) for update, own in pairs):
        return reduce(torch.add, (factored_linear(x, update, own) for update, own in pairs))
    if kept is None and (product := _by_tokens(x, updates, parameters, apart=True)) is not None:
        return product
    return _UpdatedLinear.apply(x, None, None, _delta(updates, parameters, kept), updates, *parameters)


def _by_tokens(x: Tensor, updates: Sequence[Update], parameters: Sequence[Tensor], apart: bool) -> Tensor | None:
    """``x dW^T`` by transforms of the tokens, or ``None`` where building ``dW`` is cheaper."""
    total: Tensor | None = None
    for update, own in _shares(updates, parameters):
        product = update.multiply(x, *own, apart=apart)
        if product is None:
            return None
        total = product if total is None else total + product
    return total


def _delta(updates: Sequence[Update], parameters: Sequence[Tensor], kept: DeltaCache | None) -> Tensor | None:
    # A traced graph cannot compare values, and chooses by itself what the backward pass recomputes.
    return None if kept is None or torch.compiler.is_compiling() else kept.get(updates, parameters)


class _UpdatedLinear(torch.autograd.Function):
    """``x (W + dW)^T + b``, or ``x dW^T`` where the weight is ``None``; `delta` is ``dW`` where it is kept.

    Its inputs are `x`, `weight`, `bias`, `delta`, `updates`, and then the parameters of all updates.
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        """Map `x` ``(..., q)`` to ``(..., p)``."""
        # One variadic parameter: with named ones before it, torch.compile may drop the context.
        x, weight, bias, delta, updates, *parameters = inputs
        trains = any(parameter.requires_grad for parameter in parameters)
        ctx.save_for_backward(x if trains else None, weight, *parameters)
        # Not saved tensors: they are neither inputs nor outputs, and hooks that offload saved tensors gain nothing.
        ctx.delta, ctx.updates = delta, updates
        with without_autocast(x.device):
            matrix = _matrix(x.dtype, weight, delta, updates, parameters)
            return F.linear(x, matrix, None if bias is None else bias.to(x.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients for `x`, `bias` and `parameters`, each only where it is needed."""
        x, weight, *parameters = ctx.saved_tensors
        needs_x, _, needs_bias, _, _, *needed = ctx.needs_input_grad
        grad_x = grad_bias = None
        gradients: list[Tensor | None] = []
        with without_autocast(grad_y.device):
            if needs_x:
                grad_x = grad_y @ _matrix(grad_y.dtype, weight, ctx.delta, ctx.updates, parameters)
            rows = grad_y.reshape(-1, grad_y.shape[-1])
            if needs_bias:
                grad_bias = rows.sum(0)
            for update, own in _shares(ctx.updates, parameters):
                own_needed = needed[len(gradients) : len(gradients) + len(own)]
                if any(own_needed):
                    gradients += update.gradients(rows, x.reshape(-1, x.shape[-1]), own_needed, *own)
                else:
                    gradients += [None] * len(own)
        return grad_x, None, grad_bias, None, None, *gradients


def _matrix(
    dtype: torch.dtype,
    weight: Tensor | None,
    delta: Tensor | None,
    updates: Sequence[Update],
    parameters: Sequence[Tensor],
) -> Tensor:
    if delta is None:
        return total_delta(updates, parameters, weight).to(dtype)
    return (delta if weight is None else weight + delta).to(dtype)


def _shares(updates: Sequence[Update], parameters: Sequence[Tensor]) -> list[tuple[Update, Sequence[Tensor]]]:
    shares = []
    for update in updates:
        shares.append((update, parameters[: update.arity]))
        parameters = parameters[update.arity :]
    return shares


def _autocasts(x: Tensor) -> bool:
    device = x.device.type
    available = torch.amp.is_autocast_available(device)
    return available and torch.is_autocast_enabled(device) and x.dtype != torch.float64
