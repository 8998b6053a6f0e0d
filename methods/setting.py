"""The hyper-parameters that every method has."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat

Names = Annotated[tuple[str, ...], Field(min_length=1)]
"""Names of modules, at least one: an empty list would adapt what none does."""


class Setting(BaseModel):
    """The hyper-parameters of one method; each method adds its own, its size knob among them."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    learning_rate: PositiveFloat = Field(description="peak learning rate of the adapter")
    head_learning_rate: PositiveFloat = Field(description="peak learning rate of the task head")
    target_modules: Names | None = Field(
        default=None, description="last parts of the adapted modules' names; default: query and value projections"
    )
    layers: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] | None = Field(
        default=None, description="indices of the adapted layers; default: all"
    )
    larger_layers: tuple[NonNegativeInt, ...] = Field(
        default=(), description="indices of layers whose size is one step larger, where the method can"
    )

    def larger_pattern(self, size: int) -> dict[str, int]:
        """Return ``larger_layers`` as peft's patterns of module names, each with the size after ``size``."""
        return {rf".*\.{layer}\..*": size + 1 for layer in self.larger_layers}
