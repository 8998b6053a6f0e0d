"""RepLoRA as a registered method: its hyper-parameters and how its size is counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from parbench.bench.util.reference import Reference
from parbench.methods.base import Dimension, Method, Setting, SizeKnob

if TYPE_CHECKING:
    from parbench.methods.architecture import ModuleNames
    from parbench.methods.replora.config import RepLoraConfig


_HIDDEN = 48


class RepLoraSetting(Setting):
    """Hyper-parameters of RepLoRA; `RepLoraConfig` gives the origin of each value."""

    learning_rate: PositiveFloat = Field(
        default=5e-3, description="peak learning rate of seeds and generators; chosen from the paper's grid"
    )
    head_learning_rate: PositiveFloat = 5e-3
    r: PositiveInt = Field(default=8, description="rank of the update, and of the exported LoRA")
    alpha: PositiveInt = Field(default=8, description="the update is scaled by alpha / r")
    hidden: PositiveInt = Field(default=_HIDDEN, description="hidden width of the generators: the size knob")
    depth: Literal[1, 2] = Field(default=2, description="layers of a generator; with 1 there is no hidden layer")
    activation: Literal["identity", "relu", "tanh", "gelu", "silu"] = "tanh"
    seed: Literal["diagonal", "full", "identity"] = Field(default="diagonal", description="input of the generators")
    share_first_layer: bool = Field(default=True, description="query and value of a block share seeds and first layer")
    share_across_layers: bool = Field(default=False, description="all blocks share one pair of generators")
    generator_bias: bool = True
    dropout: NonNegativeFloat = Field(default=0.0, lt=1.0, description="dropout on the low-rank path's input")

    @model_validator(mode="after")
    def _hidden_has_an_effect(self) -> Self:
        if self.depth == 1 and self.hidden != _HIDDEN:
            raise ValueError("with depth=1 a generator has no hidden layer; leave hidden out, and set the size by r")
        return self


class RepLora(Method[RepLoraSetting]):
    """LoRA whose factors are the outputs of two small trained MLPs per block.

    Seeds and generators are trained, reported and saved: about ``hidden * sum(d_in + d_out)`` over a block's
    projections, as in a LoRA of rank ``hidden``. After training, `parbench.methods.replora.export_lora` makes a plain
    LoRA of rank r of them, with ``r * sum(d_in + d_out)``.
    """

    name = "replora"
    reference = Reference(
        "RepLoRA: Reparameterizing Low-Rank Adaptation via the Perspective of Mixture of Experts",
        2025,
        "ICML",
        "2502.03044",
    )
    setting_type = RepLoraSetting
    size_knob = SizeKnob("hidden")
    # The range of the grid that the paper searches on vision tasks.
    search_space = (Dimension("learning_rate", 3e-4, 1e-1),)

    def config(self, names: ModuleNames, setting: RepLoraSetting) -> RepLoraConfig:
        """Return a `RepLoraConfig` on the query and value projections, or on ``setting.target_modules``."""
        from parbench.methods.replora import RepLoraConfig

        return RepLoraConfig(
            r=setting.r,
            lora_alpha=setting.alpha,
            hidden=setting.hidden,
            depth=setting.depth,
            activation=setting.activation,
            seed=setting.seed,
            share_first_layer=setting.share_first_layer,
            share_across_layers=setting.share_across_layers,
            generator_bias=setting.generator_bias,
            dropout=setting.dropout,
            target_modules=list(setting.target_modules or names.query_value),
        )

    def with_size(self, setting: RepLoraSetting, size: int) -> RepLoraSetting:
        """Return ``setting`` at another hidden width.

        Raises:
            ValueError: the generators have no hidden layer.
        """
        if setting.depth == 1:
            raise ValueError("with depth=1 a generator has no hidden layer that a budget could size; set r instead")
        return super().with_size(setting, size)

    def rank_of(self, setting: RepLoraSetting) -> int:
        """Return the rank of the update, which the hidden width does not change."""
        return setting.r


REPLORA = RepLora()
