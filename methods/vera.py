"""VeRA: peft's own tuner, with the published settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from parbench.bench.util.reference import Reference
from parbench.methods.base import Dimension, Method, Setting, SizeKnob

if TYPE_CHECKING:
    from peft import VeraConfig

    from parbench.methods.architecture import ModuleNames


class VeraSetting(Setting):
    """Hyper-parameters of VeRA; the defaults are those of RoBERTa-base on GLUE (Kopiczko et al., 2024, Table 8)."""

    learning_rate: PositiveFloat = Field(default=1e-2, description="peak learning rate of the scaling vectors")
    head_learning_rate: PositiveFloat = 1e-2
    r: PositiveInt = Field(default=1024, description="rank of the shared matrices: the size knob")
    d_initial: PositiveFloat = Field(default=0.1, description="start of the inner scaling vector")
    dropout: NonNegativeFloat = Field(default=0.0, lt=1.0, description="dropout on the adapter's input")
    projection_seed: NonNegativeInt = Field(default=0, description="seed of the shared matrices")


class Vera(Method[VeraSetting]):
    """W' = W + diag(b) B diag(d) A, with random frozen A and B that all modules share, and b zero at the start.

    b and d are trained, so the size is ``d_out + r`` per module. No budget below ``d_out`` per module can be met, and
    above it r grows fast (RoBERTa-base, query and value: 768 + r for each of 24 modules).

    The adapter file has the vectors only, as the paper counts; the shared matrices are drawn from ``projection_seed``
    again.
    """

    name = "vera"
    reference = Reference("VeRA: Vector-based Random Matrix Adaptation", 2024, "ICLR", "2310.11454")
    setting_type = VeraSetting
    size_knob = SizeKnob("r")
    search_space = (Dimension("learning_rate", 1e-3, 3e-1),)

    def config(self, names: ModuleNames, setting: VeraSetting) -> VeraConfig:
        """Return peft's `VeraConfig` on the query and value projections, or on ``setting.target_modules``."""
        from peft import VeraConfig

        return VeraConfig(
            r=setting.r,
            d_initial=setting.d_initial,
            vera_dropout=setting.dropout,
            projection_prng_key=setting.projection_seed,
            save_projection=False,
            target_modules=list(setting.target_modules or names.query_value),
        )


VERA = Vera()
