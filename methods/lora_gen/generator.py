"""Generates the LoRA of each edge layer from its meta token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from parbench.methods.from_peft.tuner import keeping_precision

from .config import LoraGenConfig
from .experts import DirectHead, ExpertPool, Factors, Shapes
from .router import Router


@dataclass(frozen=True)
class Generated:
    """The LoRAs of a batch of system prompts.

    Attributes:
        layers: for each edge layer, the factors of each projection, by the projection's name.
        gates: G, shape (batch, L, n); ``None`` with ``routing="direct"``.
    """

    layers: list[dict[str, Factors]]
    gates: Tensor | None

    @property
    def samples(self) -> int:
        """Number of system prompts."""
        return len(next(iter(self.layers[0].values())).a)


class LoraGenerator(nn.Module):
    """One router and one expert pool for each edge layer, or one `DirectHead`.

    Attributes:
        routers: L of them, empty with ``routing="direct"``.
        pools: L of them, empty with ``routing="direct"``.
        heads: L of them with ``routing="direct"``, otherwise empty.
    """

    def __init__(self, hidden: int, shapes: Sequence[Shapes], config: LoraGenConfig) -> None:
        """Make the generator for meta tokens of width ``hidden`` and the projections of each edge layer."""
        super().__init__()
        direct = config.routing == "direct"
        self.routers = nn.ModuleList([] if direct else [Router(hidden, config) for _ in shapes])
        self.pools = nn.ModuleList([] if direct else [ExpertPool(layer, config) for layer in shapes])
        self.heads = nn.ModuleList([DirectHead(hidden, layer, config) for layer in shapes] if direct else [])

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        # Stays in float32 when the whole model is cast to 16 bits: rounding would change the choice of experts.
        return super()._apply(keeping_precision(fn), recurse)

    def forward(self, states: Tensor) -> Generated:
        """Return one LoRA per sample from T, shape (batch, L, d_c)."""
        own = next(self.parameters())
        states = states.to(own.device, own.dtype)
        # Under autocast the factors in training would differ from those exported without it.
        available = torch.amp.is_autocast_available(own.device.type)
        with torch.autocast(own.device.type, enabled=False) if available else nullcontext():
            each = states.unbind(dim=1)
            if self.heads:
                return Generated([head(state) for head, state in zip(self.heads, each, strict=True)], None)
            gates = [cast(Tensor, router(state)) for router, state in zip(self.routers, each, strict=True)]
            layers = [pool(layer_gates) for pool, layer_gates in zip(self.pools, gates, strict=True)]
            return Generated(layers, torch.stack(gates, dim=1))
