"""LoCA as a registered method: its hyper-parameters, parameter groups and schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from parbench.bench.util.reference import Reference
from parbench.methods.base import Dimension, Method, ParameterGroup, Setting, SizeKnob

if TYPE_CHECKING:
    from torch import nn
    from transformers import TrainerCallback

    from parbench.methods.architecture import ModuleNames
    from parbench.methods.loca.config import LocaConfig


class LocaSetting(Setting):
    """Hyper-parameters of LoCA; the defaults are those of RoBERTa-base on GLUE (Du et al., 2025, Table 6)."""

    learning_rate: PositiveFloat = Field(default=5e-3, description="peak learning rate of the coefficients")
    head_learning_rate: PositiveFloat = 1e-3
    location_learning_rate: PositiveFloat = Field(default=1e-4, description="peak learning rate of the locations")
    n_frequency: PositiveInt = Field(default=1000, description="coefficients per adapted module: the size knob")
    alpha: PositiveFloat = Field(default=1.0, description="factor on the transformed update")
    coefficient_steps: PositiveInt = Field(default=10, description="coefficient steps of one alternation cycle")
    location_steps: NonNegativeInt = Field(default=20, description="location steps of one alternation cycle")
    location_fraction: float = Field(
        default=0.1,
        ge=0.0,
        le=1.0,
        description="share of all optimiser steps after which locations stay fixed",
    )
    alternating: bool = Field(
        default=True, description="train coefficients and locations in turns; false: both in every step, an ablation"
    )


class Loca(Method[LocaSetting]):
    """Location-aware cosine adaptation: the inverse 2-D DCT of a sparse spectrum with learned locations."""

    name = "loca"
    reference = Reference(
        "LoCA: Location-Aware Cosine Adaptation for Parameter-Efficient Fine-Tuning",
        2025,
        "ICLR",
        "2502.06820",
    )
    setting_type = LocaSetting
    size_knob = SizeKnob("n_frequency", per_layer=True)
    search_space = (Dimension("update_step", 2e-4, 1e-1),)

    def config(self, names: ModuleNames, setting: LocaSetting) -> LocaConfig:
        """Return a `LocaConfig` on the query and value projections, or on ``setting.target_modules``."""
        from parbench.methods.loca import LocaConfig

        return LocaConfig(
            n_frequency=setting.n_frequency,
            n_frequency_pattern=setting.larger_pattern(setting.n_frequency),
            alpha=setting.alpha,
            target_modules=list(setting.target_modules or names.query_value),
        )

    def parameter_groups(self, model: nn.Module, names: ModuleNames, setting: LocaSetting) -> list[ParameterGroup]:
        """Return coefficients, locations and head as groups of their own: locations have a smaller learning rate."""
        adapter, head = super().parameter_groups(model, names, setting)
        locations = [p for name, p in model.named_parameters() if "loca_locations" in name]
        known = {id(p) for p in locations}
        return [
            ParameterGroup("adapter", [p for p in adapter.parameters if id(p) not in known], adapter.learning_rate),
            ParameterGroup("locations", locations, setting.location_learning_rate),
            head,
        ]

    def reported_parameters(self, model: nn.Module, names: ModuleNames) -> int:
        """Return the number of coefficients: the paper does not count the locations."""
        return sum(p.numel() for name, p in model.named_parameters() if "loca_coefficients" in name)

    def atom_norm(self, setting: LocaSetting, shape: tuple[int, int]) -> float:
        """Return ``alpha``: the DCT is orthonormal, and alpha multiplies after it."""
        return setting.alpha

    def schedule_share(self, setting: LocaSetting) -> float:
        """Return the share of steps in which locations are trained."""
        return setting.location_fraction

    def callbacks(self, setting: LocaSetting) -> list[TrainerCallback]:
        """Return the schedule of coefficient and location steps (Du et al., 2025, section 4.4)."""
        from parbench.methods.loca import LocaCallback

        cycle = (setting.coefficient_steps, setting.location_steps)
        return [LocaCallback(setting.location_fraction, *cycle, setting.alternating)]


LOCA = Loca()
