"""Computes the LoRA of one edge layer: a pool of experts, or a network without experts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from .config import LoraGenConfig

Shapes = Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class Factors:
    """The LoRA of one linear layer, its own for each sample: x is mapped to W x + scaling * B A x.

    Attributes:
        a: shape (batch, rank, d_in).
        b: shape (batch, d_out, rank).
    """

    a: Tensor
    b: Tensor


class ExpertPool(nn.Module):
    """The n experts of one edge layer; each has a LoRA for every adapted projection.

    Attributes:
        lora_A: the experts' A of each projection, shape (n, r, d_in); starts as in LoRA, uniform within
            1 / sqrt(d_in), which is Kaiming's with a = sqrt(5).
        lora_B: the experts' B, shape (n, d_out, r); starts at zero.
    """

    def __init__(self, shapes: Shapes, config: LoraGenConfig) -> None:
        """Make a pool for projections of shapes ``{name: (d_in, d_out)}``."""
        super().__init__()
        self.products = config.mixing == "products"
        self.top_k = config.top_k
        n, r = config.experts, config.r
        self.names = {name: key(name) for name in shapes}
        self.lora_A = nn.ParameterDict(
            {
                key(name): torch.empty(n, r, d_in).uniform_(-(d_in**-0.5), d_in**-0.5)
                for name, (d_in, _) in shapes.items()
            }
        )
        self.lora_B = nn.ParameterDict({key(name): torch.zeros(n, d_out, r) for name, (_, d_out) in shapes.items()})

    def forward(self, gates: Tensor) -> dict[str, Factors]:
        """Mix the experts with ``gates``, shape (batch, n), K per row not zero, into one LoRA per sample."""
        mix = self._stack if self.products else _sum
        return {name: mix(gates, self.lora_A[k], self.lora_B[k]) for name, k in self.names.items()}

    def _stack(self, gates: Tensor, a: Tensor, b: Tensor) -> Factors:
        """Return factors of rank K r whose product is sum_j G_j B_j A_j."""
        weights, chosen = gates.topk(self.top_k, dim=1)
        stacked_b = (weights[:, :, None, None] * b[chosen]).transpose(1, 2)
        return Factors(a[chosen].flatten(1, 2), stacked_b.flatten(2, 3))


def _sum(gates: Tensor, a: Tensor, b: Tensor) -> Factors:
    """Return A = sum_j G_j A_j and B = sum_j G_j B_j, of rank r (equation 8)."""
    return Factors(torch.einsum("sn,nri->sri", gates, a), torch.einsum("sn,nor->sor", gates, b))


class DirectHead(nn.Module):
    """The ablation of Table 9: two linear layers turn T_i into the LoRA of edge layer i, without experts.

    The output layer of B starts at zero, as the experts' B. The bias of the output layer of A starts as LoRA's A, and
    its weights such that the part that depends on the prompt is at most as large.
    """

    def __init__(self, hidden: int, shapes: Shapes, config: LoraGenConfig) -> None:
        """Make the network of meta tokens of width ``hidden``, for projections of shapes ``{name: (d_in, d_out)}``."""
        super().__init__()
        self.r = config.r
        self.shapes = dict(shapes)
        width = config.direct_hidden or config.experts
        self.f1 = nn.Linear(hidden, width)
        self.to_a = nn.ModuleDict()
        self.to_b = nn.ModuleDict()
        for name, (d_in, d_out) in shapes.items():
            to_a, to_b = nn.Linear(width, self.r * d_in), nn.Linear(width, self.r * d_out)
            nn.init.uniform_(to_a.weight, -((d_in * width) ** -0.5), (d_in * width) ** -0.5)
            nn.init.uniform_(to_a.bias, -(d_in**-0.5), d_in**-0.5)
            nn.init.zeros_(to_b.weight)
            nn.init.zeros_(to_b.bias)
            self.to_a[key(name)], self.to_b[key(name)] = to_a, to_b

    def forward(self, state: Tensor) -> dict[str, Factors]:
        """Return one LoRA per sample from T_i, shape (batch, d_c)."""
        inner = functional.silu(self.f1(state))
        return {
            name: Factors(
                self.to_a[key(name)](inner).view(-1, self.r, d_in), self.to_b[key(name)](inner).view(-1, d_out, self.r)
            )
            for name, (d_in, d_out) in self.shapes.items()
        }


def key(projection: str) -> str:
    """Return ``mlp_up_proj`` for ``mlp.up_proj``: torch does not allow dots in names of parameters."""
    return projection.replace(".", "_")
