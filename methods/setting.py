"""The hyper-parameters that every method has."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeInt, PositiveFloat

from parbench.bench.util.elsewhere import Elsewhere

ALL_LINEAR = "all-linear"
"""peft's word for all linear layers, which is not a regular expression."""

# In the order in which a block computes with them, as papers write them; other modules come behind, by name.
_USUAL_ORDER = ("query", "key", "value", "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def in_usual_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return each name once, in one order for all ways to write them: a setting is a set, and makes one run."""

    def place(name: str) -> tuple[int, str]:
        last = re.split("[.:]", name)[-1]
        return (_USUAL_ORDER.index(last) if last in _USUAL_ORDER else len(_USUAL_ORDER), name)

    return tuple(sorted(set(names), key=place))


def _ascending(layers: Iterable[int]) -> tuple[int, ...]:
    return tuple(sorted(set(layers)))


def _listed(names: object) -> object:
    """Return a list of one name that is written without brackets; a regular expression is none."""
    return (names,) if isinstance(names, str) and re.fullmatch(r"[\w.:-]+", names) else names


Names = Annotated[tuple[str, ...], Field(min_length=1), BeforeValidator(_listed), AfterValidator(in_usual_order)]
"""Names of modules, or ``all-linear``; at least one, since an empty list would adapt what none does."""

Layers = Annotated[tuple[NonNegativeInt, ...], AfterValidator(_ascending)]
"""Indices of layers, each once."""

_ELSEWHERE = Elsewhere(
    renamed={
        "lr": "learning_rate",
        "rank": "r",
        "lora_r": "r",
        "lora_rank": "r",
        "lora_alpha": "alpha",
        "lora_dropout": "dropout",
        "lora_target_modules": "target_modules",
        "layers_to_transform": "layers",
        "n": "n_frequency",
    },
    explained={
        "use_rslora": "it is a modifier, as in the method lora+rslora",
        "use_dora": "it is a method of its own, dora",
        "init_lora_weights": "the start is a modifier, as in the methods lora+pissa and lora+olora",
        "loraplus_lr_ratio": "it is a modifier, as in the method lora+lora_plus(16)",
        "modules_to_save": "the task head is trained whole under every method",
        "bias": "the method bitfit trains biases",
    },
)


class Setting(BaseModel):
    """The hyper-parameters of one method; each method adds its own, its size knob among them."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    elsewhere: ClassVar[Elsewhere] = _ELSEWHERE

    learning_rate: PositiveFloat = Field(description="peak learning rate of the adapter")
    head_learning_rate: PositiveFloat = Field(description="peak learning rate of the task head")
    target_modules: Names | None = Field(
        default=None,
        description="last parts of the adapted modules' names, or all-linear; default: query and value projections",
    )
    layers: Annotated[Layers, Field(min_length=1)] | None = Field(
        default=None, description="indices of the adapted layers; default: all"
    )
    larger_layers: Layers = Field(
        default=(), description="indices of layers whose size is one step larger, where the method can"
    )

    def larger_pattern(self, size: int) -> dict[str, int]:
        """Return ``larger_layers`` as peft's patterns of module names, each with the size after ``size``."""
        return {rf".*\.{layer}\..*": size + 1 for layer in self.larger_layers}
