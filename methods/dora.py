"""DoRA: peft's own, an option of its LoRA."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from parbench.bench.util.reference import Reference
from parbench.methods.lora import Lora, LoraSetting

if TYPE_CHECKING:
    from peft import LoraConfig

    from parbench.methods.architecture import ModuleNames


class DoraSetting(LoraSetting):
    """Hyper-parameters of DoRA; its paper has no experiment on GLUE, so the defaults are LoRA's."""


class Dora(Lora):
    """Weight-decomposed low-rank adaptation: W' = m (W + (alpha / r) B A) / ||W + (alpha / r) B A||.

    The magnitude m, one number per output feature, starts at the norms of W and is trained with LoRA's factors: the
    size is ``r (d_in + d_out) + d_out`` per module.
    """

    name = "dora"
    reference = Reference("DoRA: Weight-Decomposed Low-Rank Adaptation", 2024, "ICML", "2402.09353")
    setting_type = DoraSetting

    def config(self, names: ModuleNames, setting: LoraSetting) -> LoraConfig:
        """Return LoRA's configuration with the magnitudes switched on."""
        return replace(super().config(names, setting), use_dora=True)


DORA = Dora()
