"""The module that RepLoRA puts around a linear layer."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from parbench.methods.from_peft.tuner import AddedUpdateLayer

from .config import RepLoraConfig
from .generator import GeneratorPair, SeedPair


class RepLoraLayer(AddedUpdateLayer):
    """Mixin: ``y = W x + (lora_alpha / r) B A x`` with generated A (r, d_in) and B (d_out, r).

    Layers share seeds and generators, which belong to `RepLoraModel`; a layer has references to those it uses.
    """

    adapter_layer_names = ("replora_seeds", "replora_generators")
    other_param_names = ("projection", "scaling", "dropout")

    replora_seeds: nn.ModuleDict
    replora_generators: nn.ModuleDict

    def __init__(self, base_layer: nn.Module, adapter_name: str) -> None:
        self.base_layer = base_layer
        base = self.get_base_layer()
        if isinstance(base, nn.Linear):
            self.in_features, self.out_features = base.in_features, base.out_features
        elif isinstance(base, Conv1D):
            self.in_features, self.out_features = base.weight.shape
        else:
            raise TypeError(
                f"RepLoRA cannot adapt a module of type {type(base).__name__}; "
                "choose target_modules that are torch.nn.Linear or transformers' Conv1D"
            )
        self.is_conv1d = isinstance(base, Conv1D)
        # Not registered as submodules: shared parameters would appear in the state dict once per layer. For peft
        # these are ordinary containers.
        self.__dict__["replora_seeds"] = nn.ModuleDict()
        self.__dict__["replora_generators"] = nn.ModuleDict()
        self.projection: dict[str, str] = {}
        self.scaling: dict[str, float] = {}
        self.dropout: dict[str, float] = {}
        self._disable_adapters = False
        self._active_adapter = adapter_name
        self.merged_adapters: list[str] = []

    def update_layer(
        self,
        adapter_name: str,
        config: RepLoraConfig,
        seeds: SeedPair,
        generators: GeneratorPair,
        projection: str,
    ) -> None:
        """Add an adapter whose factors `generators` compute from `seeds` for the projection `projection`."""
        generators.add_projection(projection, self.in_features, self.out_features, seeds)
        self.replora_seeds[adapter_name] = seeds
        self.replora_generators[adapter_name] = generators
        self.projection[adapter_name] = projection
        self.scaling[adapter_name] = config.lora_alpha / config.r
        self.dropout[adapter_name] = config.dropout
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def get_factors(self, adapter: str) -> tuple[Tensor, Tensor]:
        """Generate A (r, d_in) and B (d_out, r), unscaled, on the generators' device in their precision."""
        a, b = self.replora_generators[adapter](self.replora_seeds[adapter], self.projection[adapter])
        return a, b

    def get_delta_weight(self, adapter: str) -> Tensor:
        """Return the scaled update, (d_out, d_in), or (d_in, d_out) for a Conv1D like the base weight."""
        a, b = self.get_factors(adapter)
        delta = self.scaling[adapter] * (b @ a)
        return delta.T if self.is_conv1d else delta

    def supports_lora_conversion(self, adapter_name: str = "default") -> bool:
        """Return True: the update is a LoRA. `export_lora` converts it without the SVD that peft needs."""
        return True


class RepLoraLinear(nn.Module, RepLoraLayer):
    """RepLoRA around an `nn.Linear` or a `Conv1D`: (..., d_in) to (..., d_out), in the base layer's dtype."""

    def __init__(self, base_layer: nn.Module, adapter_name: str) -> None:
        super().__init__()
        RepLoraLayer.__init__(self, base_layer, adapter_name)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Apply the base layer and add the update of each active adapter, unless merged or disabled."""
        if self.disable_adapters and self.merged:
            self.unmerge()
        result = self.base_layer(x, *args, **kwargs)
        if self.disable_adapters or self.merged:
            return result
        dtype = result.dtype
        for adapter in self.active_adapters:
            if adapter not in self.replora_generators:
                continue
            # The projections of one block can be on several devices, their generators are on one.
            a, b = (factor.to(x.device) for factor in self.get_factors(adapter))
            inputs = F.dropout(self._cast_input_dtype(x, a.dtype), self.dropout[adapter], self.training)
            result = result + self.scaling[adapter] * F.linear(F.linear(inputs, a), b)
        return result.to(dtype)

    def __repr__(self) -> str:
        return "replora." + super().__repr__()
