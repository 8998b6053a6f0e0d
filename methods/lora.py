"""LoRA: peft's own tuner, with the published settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from parbench.bench.util.reference import Reference
from parbench.methods.base import Dimension, Method, Setting, SizeKnob

if TYPE_CHECKING:
    from peft import LoraConfig

    from parbench.methods.architecture import ModuleNames


class LoraSetting(Setting):
    """Hyper-parameters of LoRA; the defaults are those of RoBERTa-base on GLUE (Hu et al., 2021, Table 9)."""

    learning_rate: PositiveFloat = 5e-4
    head_learning_rate: PositiveFloat = 5e-4
    r: PositiveInt = Field(default=8, description="rank: the size knob")
    alpha: PositiveFloat = Field(default=8.0, description="the update is scaled by alpha / r")
    dropout: NonNegativeFloat = Field(default=0.0, lt=1.0, description="dropout on the adapter's input")


class Lora(Method[LoraSetting]):
    """Low-rank adaptation: W' = W + (alpha / r) B A, with B zero at the start."""

    name = "lora"
    reference = Reference("LoRA: Low-Rank Adaptation of Large Language Models", 2021, "ICLR 2022", "2106.09685")
    setting_type = LoraSetting
    size_knob = SizeKnob("r", per_layer=True, rank=True)
    search_space = (Dimension("learning_rate", 3e-5, 3e-2),)

    def config(self, names: ModuleNames, setting: LoraSetting) -> LoraConfig:
        """Return peft's `LoraConfig` on the query and value projections, or on ``setting.target_modules``."""
        from peft import LoraConfig

        return LoraConfig(
            r=setting.r,
            lora_alpha=setting.alpha,  # type: ignore[arg-type]  # any number will do
            lora_dropout=setting.dropout,
            rank_pattern=setting.larger_pattern(setting.r),
            # Keeps alpha / r the same in all layers.
            alpha_pattern=dict.fromkeys(setting.larger_pattern(setting.r), setting.alpha * (setting.r + 1) / setting.r),
            target_modules=list(setting.target_modules or names.query_value),
        )

    def with_size(self, setting: LoraSetting, size: int) -> LoraSetting:
        """Return ``setting`` at another rank and the same scale alpha / r, which is a separate hyper-parameter."""
        return setting.model_copy(update={"r": size, "alpha": setting.alpha * size / setting.r})


LORA = Lora()
