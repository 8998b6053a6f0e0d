"""The configuration of LoCA."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

from peft import PeftType

from parbench.methods.from_peft.tuner import TunerConfig

LOCATION_CLAMPS: dict[str, float] = {"authors": 0.999, "full": 1.0}
"""Largest value of the location parameter, by `LocaConfig.location_clamp`."""

BIASES = ("none", "all", "loca_only")


@dataclass
class LocaConfig(TunerConfig):
    """Configuration of LoCA, location-aware cosine adaptation (arXiv 2502.06820).

    Args:
        n_frequency: number of spectrum coefficients per adapted module, the paper's `B`; from 1 to the number of
            entries of the weight.
        alpha: factor on the update after the transform, so that one unit of a coefficient changes the weight
            by `alpha` in Frobenius norm, whatever the shape.
        n_frequency_pattern: module name or regular expression -> `n_frequency` of that module, matched as
            peft's `rank_pattern`.
        location_clamp: `"authors"` clamps the location parameter to [0, 0.999] as the authors' layer does, so that the
            last row or column of a large weight is never used; `"full"` clamps to [0, 1].
        location_seed: seed of the initial locations, different in each module and independent of the order of
            modules; `None` draws them from torch's global generator.
        init_weights: `True` starts from zero coefficients, the paper's start; `False` draws them from N(0,
            0.02), for tests.
        keep_update: whether each adapted layer caches its weight update until the parameters change, from the forward
            to the backward pass and over the micro-batches of an optimiser step. The cache takes as much memory as the
            adapted weights in float32; without it the update is built in every pass. Results are the same. Default
            (`None`): only on the CPU in passes without gradients.
        target_modules: names (or a regular expression) of the `nn.Linear` and `Conv1D` modules to adapt; by
            default the query and value projections of the known architectures.
        exclude_modules: names (or a regular expression) of modules that are not adapted.
        modules_to_save: further modules to train and save, such as a new classification head.
        layers_to_transform: indices of the layers to adapt.
        layers_pattern: name of the layer list that `layers_to_transform` counts in.
        fan_in_fan_out: whether weights are stored as (in, out); corrected with a warning if the type of the module
            disagrees.
        bias: which biases train: `"none"`, `"all"` or `"loca_only"`.

    Raises:
        ValueError: a value is out of range; the message has the field, the value and the allowed values.
    """

    import_name: ClassVar[str | None] = "parbench.methods.loca"

    n_frequency: int = 1000
    alpha: float = 1.0
    n_frequency_pattern: dict[str, int] = field(default_factory=dict)
    location_clamp: str = "authors"
    location_seed: int | None = None
    init_weights: bool = True
    keep_update: bool | None = None
    target_modules: set[str] | list[str] | str | None = None
    exclude_modules: set[str] | list[str] | str | None = None
    modules_to_save: list[str] | None = None
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[str] | str | None = None
    fan_in_fan_out: bool = False
    bias: str = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = PeftType["LOCA"]
        if isinstance(self.target_modules, list):
            self.target_modules = set(self.target_modules)
        if isinstance(self.exclude_modules, list):
            self.exclude_modules = set(self.exclude_modules)
        self._check_ranges()
        self._check_layer_selection()

    def _check_ranges(self) -> None:
        _require_positive_integer("n_frequency", self.n_frequency)
        for pattern, n_frequency in self.n_frequency_pattern.items():
            _require_positive_integer(f"n_frequency_pattern[{pattern!r}]", n_frequency)
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise ValueError(f"LocaConfig: alpha is {self.alpha!r}; give a positive, finite number.")
        if self.location_clamp not in LOCATION_CLAMPS:
            raise ValueError(
                f"LocaConfig: location_clamp is {self.location_clamp!r}; choose one of {', '.join(LOCATION_CLAMPS)}."
            )
        if self.location_seed is not None:
            _require_integer("location_seed", self.location_seed, minimum=0)
        if self.bias not in BIASES:
            raise ValueError(f"LocaConfig: bias is {self.bias!r}; choose one of {', '.join(BIASES)}.")

    def _check_layer_selection(self) -> None:
        if isinstance(self.target_modules, str):
            for name in ("layers_to_transform", "layers_pattern"):
                if getattr(self, name) is not None:
                    raise ValueError(
                        f"LocaConfig: {name} is {getattr(self, name)!r} but target_modules is the regular "
                        f"expression {self.target_modules!r}; select the layers there and leave {name} out."
                    )
        if self.layers_pattern and self.layers_to_transform is None:
            raise ValueError(
                f"LocaConfig: layers_pattern is {self.layers_pattern!r} but layers_to_transform is missing; give both."
            )


def _require_positive_integer(name: str, value: Any) -> None:
    _require_integer(name, value, minimum=1)


def _require_integer(name: str, value: Any, minimum: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise ValueError(f"LocaConfig: {name} is {value!r}; give an integer of at least {minimum}.")
