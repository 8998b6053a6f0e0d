"""The load-balance loss."""

from __future__ import annotations

from torch import Tensor

from .config import LoraGenConfig


def load_balance(gates: Tensor, config: LoraGenConfig) -> Tensor:
    """Return L_cv = alpha (sigma / mu)^2 (equation 9), a scalar.

    In each layer, the importance of an expert is the sum of its gates over the batch; sigma and mu are the standard
    deviation and mean of the n importances. It is 0 if all experts are used equally. One sample whose K gates are equal
    has (sigma / mu)^2 = n / K - 1.

    Args:
        gates: shape (batch, L, n).
        config: has alpha (`balance_coefficient`) and the reductions.
    """
    importance = gates.sum(dim=0)
    variance = importance.var(dim=1, correction=int(config.balance_std == "unbiased"))
    per_layer = variance / importance.mean(dim=1).square()
    total = per_layer.sum() if config.balance_layers == "sum" else per_layer.mean()
    return config.balance_coefficient * total
