"""FourierFT: peft's own tuner, with the published settings."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from parbench.bench.util.reference import Reference
from parbench.methods.base import Dimension, Method, Setting, SizeKnob

if TYPE_CHECKING:
    from peft import FourierFTConfig

    from parbench.methods.architecture import ModuleNames


class FourierFTSetting(Setting):
    """Hyper-parameters of FourierFT; the defaults are those of RoBERTa-base on RTE (Gao et al., 2024, Table 9)."""

    learning_rate: PositiveFloat = Field(default=9e-2, description="peak learning rate of the coefficients")
    head_learning_rate: PositiveFloat = 1.1e-2
    n_frequency: PositiveInt = Field(default=1000, description="coefficients per adapted module: the size knob")
    scaling: PositiveFloat = Field(default=110.0, description="factor on the transformed update")
    location_seed: NonNegativeInt = Field(
        default=2024,
        description="seed of the entries of the spectrum, the same in all modules of one shape; 2024 in the paper",
    )
    zero_start: bool = Field(
        default=False,
        description="start from zero coefficients; the paper draws them from a normal distribution (Algorithm 1)",
    )


class FourierFT(Method[FourierFTSetting]):
    """W' = W + scaling Re(ifft2(S)), where S has n trained entries at fixed random places.

    As in the paper the coefficients start standard normal, so the adapted model does not start as the base model; peft
    calls this ``init_weights=False``. With ``zero_start`` it does.
    """

    name = "fourierft"
    reference = Reference("Parameter-Efficient Fine-Tuning with Discrete Fourier Transform", 2024, "ICML", "2405.03003")
    setting_type = FourierFTSetting
    size_knob = SizeKnob("n_frequency", per_layer=True)
    # Contains the paper's values: 2.7e-4 (QNLI) to 8e-2 (ViT).
    search_space = (Dimension("update_step", 2e-4, 1e-1),)
    starts_at_base = False

    def config(self, names: ModuleNames, setting: FourierFTSetting) -> FourierFTConfig:
        """Return peft's `FourierFTConfig` on the query and value projections, or on ``setting.target_modules``."""
        from peft import FourierFTConfig

        return FourierFTConfig(
            n_frequency=setting.n_frequency,
            n_frequency_pattern=setting.larger_pattern(setting.n_frequency),
            scaling=setting.scaling,
            random_loc_seed=setting.location_seed,
            init_weights=setting.zero_start,
            target_modules=list(setting.target_modules or names.query_value),
        )

    def atom_norm(self, setting: FourierFTSetting, shape: tuple[int, int]) -> float:
        """Return ``scaling / sqrt(2 p q)``.

        The inverse FFT divides by p q, and the real part of a unit coefficient's wave is a cosine, whose square has
        mean 1/2: the norm is ``scaling / (p q) sqrt(p q / 2)``. At most four entries are their own mirror image
        (the constant one, and with even sides the alternating ones): without an imaginary part they have sqrt(2) times
        that norm.
        """
        return setting.scaling / math.sqrt(2 * shape[0] * shape[1])


FOURIERFT = FourierFT()
