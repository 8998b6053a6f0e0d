"""Gate as a peft tuner: a linear layer's outputs are scaled block by block, y = (1 + g) (W x + b)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftConfig, PeftType
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer, check_adapters_to_merge
from torch import Tensor, nn

from parbench.methods.from_peft.registration import register_tuner


@dataclass
class GateConfig(PeftConfig):
    gates: int = 8
    target_modules: set[str] | list[str] | str | None = None
    exclude_modules: set[str] | list[str] | str | None = None
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[str] | str | None = None
    modules_to_save: list[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = PeftType["GATE"]


class GateLinear(nn.Module, BaseTunerLayer):
    adapter_layer_names = ("gate_g",)

    def __init__(self, base_layer: nn.Module, adapter_name: str, gates: int) -> None:
        super().__init__()
        if not isinstance(base_layer, nn.Linear) or base_layer.out_features % gates:
            raise ValueError(f"gate needs nn.Linear with a multiple of {gates} outputs, not {base_layer}")
        self.base_layer, self.gate_g, self.merged_adapters = base_layer, nn.ParameterDict(), []
        self._disable_adapters, self._active_adapter = False, adapter_name
        self.gate_g[adapter_name] = nn.Parameter(torch.zeros(gates))
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(adapter_name)

    def scale(self, adapter: str) -> Tensor:
        """Return 1 + g for every output."""
        g = self.gate_g[adapter]
        return 1 + g.repeat_interleave(self.base_layer.out_features // len(g))

    def forward(self, x: Tensor) -> Tensor:
        if self.disable_adapters and self.merged:
            self.unmerge()
        y = self.base_layer(x)
        if not self.disable_adapters and not self.merged:
            for adapter in self.active_adapters:
                y = y * self.scale(adapter).to(y.dtype)
        return y

    @torch.no_grad()
    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        for adapter in check_adapters_to_merge(self, adapter_names):
            self._multiply(self.scale(adapter))
            self.merged_adapters.append(adapter)

    @torch.no_grad()
    def unmerge(self) -> None:
        while self.merged_adapters:
            self._multiply(1 / self.scale(self.merged_adapters.pop()))

    def _multiply(self, scale: Tensor) -> None:
        self.base_layer.weight.mul_(scale[:, None])
        if self.base_layer.bias is not None:
            self.base_layer.bias.mul_(scale)


class GateModel(BaseTuner):
    prefix = "gate_"
    tuner_layer_cls = GateLinear

    def _create_and_replace(  # type: ignore[override]
        self, peft_config: Any, adapter_name: str, target: nn.Module, target_name: str, parent: nn.Module, **_: Any
    ) -> None:
        self._replace_module(parent, target_name, GateLinear(target, adapter_name, peft_config.gates), target)


register_tuner("gate", GateConfig, GateModel)
