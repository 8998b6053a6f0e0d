"""AdaLoRA: peft's own tuner, its rank allocation driven by the trainer."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Self, cast

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from parbench.bench.util.reference import Reference
from parbench.methods.base import Dimension, Method, Setting, SizeKnob
from parbench.methods.selection import adapted_modules

if TYPE_CHECKING:
    from peft import AdaLoraConfig, PeftModel
    from torch import nn
    from transformers import TrainerCallback

    from parbench.methods.architecture import ModuleNames


class AdaLoraSetting(Setting):
    """Hyper-parameters of AdaLoRA.

    Ranks, learning rate and the shares of the schedule follow Table 8 of Zhang et al. (2023), which gives steps for
    DeBERTaV3-base: the first phase takes 9 to 18 % of a run, the last one 44 to 58 %. The other values are peft's
    defaults.
    """

    learning_rate: PositiveFloat = 5e-4
    head_learning_rate: PositiveFloat = 5e-4
    target_r: PositiveInt = Field(default=8, description="average rank at the end: the size knob")
    init_r: PositiveInt | None = Field(
        default=None, description="rank at the start; default: 1.5 times target_r, as in the paper"
    )
    alpha: PositiveFloat = Field(default=8.0, description="the update is scaled by alpha / init_r")
    dropout: NonNegativeFloat = Field(default=0.0, lt=1.0, description="dropout on the adapter's input")
    initial_share: float = Field(default=0.15, ge=0.0, lt=1.0, description="share of the steps before ranks are cut")
    final_share: float = Field(default=0.5, ge=0.0, lt=1.0, description="share of the steps after ranks are final")
    allocation_steps: PositiveInt = Field(default=10, description="steps from one cut of the ranks to the next")
    beta1: float = Field(default=0.85, gt=0.0, lt=1.0, description="smoothing of the importance")
    beta2: float = Field(default=0.85, gt=0.0, lt=1.0, description="smoothing of its uncertainty")
    orthogonality: NonNegativeFloat = Field(default=0.5, description="weight of the orthogonality penalty")

    @property
    def start_rank(self) -> int:
        """The rank before the first cut."""
        return self.init_r or math.ceil(1.5 * self.target_r)

    @model_validator(mode="after")
    def _room_to_cut(self) -> Self:
        if self.start_rank <= self.target_r:
            raise ValueError("init_r must be greater than target_r, or there is nothing to allocate")
        if self.initial_share + self.final_share >= 1:
            raise ValueError("initial_share and final_share leave no steps in which ranks could be cut")
        return self


class AdaLora(Method[AdaLoraSetting]):
    """W' = W + (alpha / r) P diag(e) Q, whose directions are pruned to ``target_r`` per module on average.

    The reported size is the final one, as in the paper; training starts with 1.5 times as many directions. The saved
    adapter has the remaining directions only.
    """

    name = "adalora"
    reference = Reference(
        "AdaLoRA: Adaptive Budget Allocation for Parameter-Efficient Fine-Tuning", 2023, "ICLR", "2303.10512"
    )
    setting_type = AdaLoraSetting
    size_knob = SizeKnob("target_r")
    search_space = (Dimension("learning_rate", 1e-4, 1e-2),)
    # They start at zero, and return there in a module that loses all of its directions.
    may_rest = ("lora_E",)

    def config(self, names: ModuleNames, setting: AdaLoraSetting) -> AdaLoraConfig:
        """Return peft's `AdaLoraConfig` on the query and value projections, or on ``setting.target_modules``."""
        from peft import AdaLoraConfig

        return AdaLoraConfig(
            target_r=setting.target_r,
            init_r=setting.start_rank,
            lora_alpha=setting.alpha,  # type: ignore[arg-type]  # declared an integer, but any number will do
            lora_dropout=setting.dropout,
            deltaT=setting.allocation_steps,
            beta1=setting.beta1,
            beta2=setting.beta2,
            orth_reg_weight=setting.orthogonality,
            # peft wants the length of the training, which is known when it begins: see `AdaLoraCallback`.
            total_step=1,
            target_modules=list(setting.target_modules or names.query_value),
        )

    def reported_parameters(self, model: nn.Module, names: ModuleNames) -> int:
        """Return the size of the directions that are left after training; before, the most that can be left.

        ``target_r`` directions per module are kept, wherever they matter most. They have ``d_in + d_out + 1`` numbers,
        so where modules differ in shape the size depends on where they are; no allocation has more than what is
        returned before training.
        """
        tuner = cast("PeftModel", model)
        config = cast("AdaLoraConfig", tuner.peft_config["default"])
        modules = dict(cast("nn.Module", tuner.base_model.model).named_modules())
        layers = {name: cast(Any, modules[name]) for name in adapted_modules(tuner)}
        sizes = {name: layer.in_features + layer.out_features + 1 for name, layer in layers.items()}
        if config.rank_pattern:
            kept = {_module_of(name, sizes): sum(mask) for name, mask in config.rank_pattern.items()}
            return sum(kept[name] * size for name, size in sizes.items())
        left, total = config.target_r * len(sizes), 0
        for size in sorted(sizes.values(), reverse=True):
            taken = min(config.init_r, left)
            left, total = left - taken, total + taken * size
        return total

    def with_size(self, setting: AdaLoraSetting, size: int) -> AdaLoraSetting:
        """Return ``setting`` at another final rank and the same scale alpha / init_r; a given ``init_r`` stays."""
        if setting.init_r is not None:
            return setting.model_copy(update={"target_r": size})
        start = AdaLoraSetting(target_r=size).start_rank
        changed = {"target_r": size, "init_r": None, "alpha": setting.alpha * start / setting.start_rank}
        return setting.model_copy(update=changed)

    def rank_of(self, setting: AdaLoraSetting) -> int:
        """Return the rank before the first cut."""
        return setting.start_rank

    def schedule_share(self, setting: AdaLoraSetting) -> float:
        """Return the share of steps before the ranks are final."""
        return 1.0 - setting.final_share

    def callbacks(self, setting: AdaLoraSetting) -> list[TrainerCallback]:
        """Return the rank allocation and the orthogonality penalty."""
        from parbench.methods.adalora.schedule import AdaLoraCallback

        return [AdaLoraCallback(setting.initial_share, setting.final_share)]


def _module_of(parameter: str, modules: Iterable[str]) -> str:
    """Return the module that an entry of peft's ``rank_pattern``, named as a parameter, belongs to."""
    return next(name for name in modules if f"{name}.lora_" in f"{parameter}.")


ADALORA = AdaLora()
