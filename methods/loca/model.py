"""LoCA on a whole model."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from torch import nn
from transformers.pytorch_utils import Conv1D

from parbench.methods.from_peft.tuner import Tuner
from parbench.methods.loca.config import LocaConfig
from parbench.methods.loca.layer import LocaLayer, LocaLinear

QUERIES = {"q", "q_proj", "query", "query_proj"}
VALUES = {"v", "v_proj", "value", "value_proj"}


def _query_and_value(names: Sequence[str]) -> Sequence[str]:
    """Only the query and value projections, the paper's targets, where the architecture names both."""
    if isinstance(names, str) or not (QUERIES & set(names) and VALUES & set(names)):
        return names
    return [name for name in names if name in QUERIES | VALUES]


TARGET_MODULES: dict[str, Any] = {
    model_type: _query_and_value(names)
    for model_type, names in TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.items()
}
"""Default target modules by model type."""


@dataclass(frozen=True)
class LocaParameterCounts:
    """Parameters of an adapter: `B` coefficients and `2B` locations per module."""

    coefficients: int
    locations: int

    @property
    def reported(self) -> int:
        """The size as the paper counts it: the coefficients."""
        return self.coefficients

    @property
    def optimised(self) -> int:
        """All parameters that are optimised at any time, which the adapter file has."""
        return self.coefficients + self.locations


class LocaModel(Tuner):
    """A model with LoCA adapters on its target modules, as `peft.get_peft_model` makes it."""

    prefix = "loca_"
    tuner_layer_cls = LocaLayer
    target_module_mapping = TARGET_MODULES

    def _create_and_replace(
        self,
        peft_config: Any,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        if isinstance(target, LocaLayer):
            target.update_layer(adapter_name, peft_config, current_key)
            return
        self._correct_fan_in_fan_out(peft_config, target)
        layer = LocaLinear(target, adapter_name, peft_config, current_key)
        self._replace_module(parent, target_name, layer, target)

    @staticmethod
    def _correct_fan_in_fan_out(config: LocaConfig, target: nn.Module) -> None:
        stored_transposed = isinstance(target, Conv1D)
        if isinstance(target, (nn.Linear, Conv1D)) and config.fan_in_fan_out != stored_transposed:
            warnings.warn(
                f"fan_in_fan_out is {config.fan_in_fan_out} but the target is a {type(target).__name__}: "
                f"setting fan_in_fan_out to {stored_transposed}.",
                stacklevel=2,
            )
            config.fan_in_fan_out = stored_transposed

    def parameter_counts(self, adapter_name: str = "default") -> LocaParameterCounts:
        """Count the parameters of one adapter, without task heads and other `modules_to_save`.

        Raises:
            ValueError: there is no adapter of that name.
        """
        if adapter_name not in self.peft_config:
            raise ValueError(f"There is no adapter {adapter_name!r}; the model has: {', '.join(self.peft_config)}.")
        layers = [
            layer
            for layer in self.modules()
            if isinstance(layer, LocaLayer) and adapter_name in layer.loca_coefficients
        ]
        return LocaParameterCounts(
            coefficients=sum(layer.loca_coefficients[adapter_name].numel() for layer in layers),
            locations=sum(layer.loca_locations[adapter_name].numel() for layer in layers),
        )
