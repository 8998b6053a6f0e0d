"""Routers choose and weight the experts of a layer for a meta token."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from .config import LoraGenConfig


class LogitNorm(nn.BatchNorm1d):
    """BatchNorm over the batch that accepts a training batch of one.

    The variance of one sample is zero: with batch statistics any logits would become the learned bias, and the router
    would not get a gradient. Such a batch is normalised with the running statistics, which it does not change.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise logits, shape (batch, n)."""
        if self.training and len(input) == 1:
            return functional.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
            )
        return super().forward(input)


class Router(nn.Module):
    """R_i = BN(f2(SiLU(f1(T_i)))), the router of one edge layer (equation 3), and its gates (equations 4 to 7)."""

    def __init__(self, hidden: int, config: LoraGenConfig) -> None:
        """Make a router for meta tokens of width ``hidden``."""
        super().__init__()
        self.top_k = config.top_k
        self.noisy = config.routing == "gumbel"
        self.f1 = nn.Linear(hidden, config.router_hidden)
        self.f2 = nn.Linear(config.router_hidden, config.experts)
        self.norm = LogitNorm(config.experts) if config.router_norm == "batch" else nn.Identity()

    def forward(self, state: Tensor) -> Tensor:
        """Return the gates G_i of each sample, shape (batch, n), from T_i, shape (batch, d_c)."""
        logits: Tensor = self.norm(self.f2(functional.silu(self.f1(state))))
        if self.noisy and self.training:
            # If E is exponentially distributed, -log E is Gumbel(0, 1).
            logits = logits - logits.new_empty(logits.shape).exponential_().log()
        return keep_top_k(logits.softmax(dim=1), self.top_k)


def keep_top_k(probabilities: Tensor, k: int) -> Tensor:
    """Keep the k largest of each row, scaled to sum to 1, and set the others to 0 (equation 6).

    Args:
        probabilities: shape (batch, n).
        k: number of values to keep.
    """
    values, chosen = probabilities.topk(k, dim=1)
    return probabilities.new_zeros(probabilities.shape).scatter(1, chosen, values / values.sum(dim=1, keepdim=True))
