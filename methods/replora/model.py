"""The peft tuner of RepLoRA."""

from __future__ import annotations

import re
from typing import Any, cast

from peft import PeftConfig
from peft.utils import TRANSFORMERS_MODELS_TO_VERA_TARGET_MODULES_MAPPING
from torch import nn

from parbench.methods.from_peft.tuner import FullPrecisionModuleDict, Tuner

from .config import RepLoraConfig
from .generator import GeneratorPair, SeedPair, locate
from .layer import RepLoraLayer, RepLoraLinear

# Vision models are not in peft's table. The names depend on the version of transformers; a model has one of the pairs.
_VISION = ["query", "value", "q_proj", "v_proj"]
TARGET_MODULES: dict[str, Any] = {
    **TRANSFORMERS_MODELS_TO_VERA_TARGET_MODULES_MAPPING,
    "nemotron_h": ["q_proj", "v_proj"],
    "distilbert": ["q_lin", "v_lin"],
    "vit": _VISION,
    "deit": _VISION,
    "dinov2": _VISION,
    "swin": _VISION,
}


class RepLoraModel(Tuner):
    """Puts RepLoRA adapters into a model; made by ``get_peft_model(model, RepLoraConfig(...))``.

    Attributes:
        replora_seeds: adapter name -> block -> `SeedPair`.
        replora_generators: adapter name -> block -> `GeneratorPair`.

    Layers share these entries, so they belong to the tuner: each is saved, counted and moved to a device once. The
    layers have references to them (see `RepLoraLayer`).
    """

    uses_shared_state = True
    prefix = "replora_"
    tuner_layer_cls = RepLoraLayer
    target_module_mapping = TARGET_MODULES

    replora_seeds: nn.ModuleDict
    replora_generators: nn.ModuleDict

    def _pre_injection_hook(self, model: nn.Module, config: PeftConfig, adapter_name: str) -> None:
        self.replora_seeds = FullPrecisionModuleDict()
        self.replora_generators = FullPrecisionModuleDict()

    def inject_adapter(self, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        """Insert the layers of one adapter; arguments and errors are those of peft's `BaseTuner.inject_adapter`."""
        # Adding an adapter must not change which others train; peft ensures that inside the base model only.
        existing = [
            (parameter, parameter.requires_grad)
            for container in (self.replora_seeds, self.replora_generators)
            for parameter in container.parameters()
        ]
        self.replora_seeds[adapter_name] = nn.ModuleDict()
        self.replora_generators[adapter_name] = nn.ModuleDict()
        try:
            super().inject_adapter(model, adapter_name, *args, **kwargs)
        except Exception:
            # An incomplete adapter would be counted and saved with the others.
            for module in model.modules():
                if isinstance(module, RepLoraLayer):
                    module.delete_adapter(adapter_name)
            self._drop(adapter_name)
            raise
        finally:
            for parameter, requires_grad in existing:
                parameter.requires_grad_(requires_grad)

    def _create_and_replace(
        self,
        peft_config: PeftConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        config = cast(RepLoraConfig, peft_config)
        place = locate(current_key, config)
        seeds = cast(nn.ModuleDict, self.replora_seeds[adapter_name])
        generators = cast(nn.ModuleDict, self.replora_generators[adapter_name])
        if not isinstance(target, RepLoraLayer):
            layer = RepLoraLinear(target, adapter_name)
            self._replace_module(parent, target_name, layer, target)
            target = layer
        if place.seeds not in seeds:
            seeds[place.seeds] = SeedPair(config)
        if place.generators not in generators:
            generators[place.generators] = GeneratorPair(config)
        target.update_layer(
            adapter_name,
            config,
            cast(SeedPair, seeds[place.seeds]),
            cast(GeneratorPair, generators[place.generators]),
            place.projection,
        )

    def _cast_adapter_dtype(self, adapter_name: str, autocast_adapter_dtype: bool = True) -> None:
        super()._cast_adapter_dtype(adapter_name, autocast_adapter_dtype)
        if autocast_adapter_dtype:
            for container in (self.replora_seeds, self.replora_generators):
                for parameter in container[adapter_name].parameters():
                    if parameter.dtype.itemsize < 4:
                        parameter.data = parameter.data.float()

    def delete_adapter(self, adapter_name: str) -> None:
        """Delete an adapter, its seeds and generators included."""
        super().delete_adapter(adapter_name)
        self._drop(adapter_name)

    def _drop(self, adapter_name: str) -> None:
        del self.replora_seeds[adapter_name]
        del self.replora_generators[adapter_name]

    @classmethod
    def _remove_adapter_name_from_key(cls, key: str, adapter_name: str) -> str:
        # peft expects the adapter's name at the end of a key; here it follows the container.
        pattern = rf"((?:^|\.)replora_(?:seeds|generators))\.{re.escape(adapter_name)}\."
        shorter, found = re.subn(pattern, r"\1.", key, count=1)
        return shorter if found else super()._remove_adapter_name_from_key(key, adapter_name)
