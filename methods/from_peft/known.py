"""Facts about a tuner of peft that its configuration class does not have."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from parbench.bench.util.reference import Reference
from parbench.methods.base import SizeKnob

Targets = Literal["query_value", "value", "of_peft", "none"]


@dataclass(frozen=True)
class KnownTuner:
    """Facts about a tuner of peft that its configuration class does not have.

    Attributes:
        reference: the paper that peft's documentation names.
        knob: the field that sets the size, if any.
        targets: default targets: the query and value projections, as for all other methods; the value projections only;
            peft's choice for the architecture; or no modules.
        starts_at_base: whether peft's default initialisation leaves the outputs unchanged.
        mergeable: whether the adapter can be merged into the base weights.
        checkpointing: whether activations may be recomputed in the backward pass.
        learning_rate: the default in peft's documentation, if any.
        defaults: defaults that differ from peft's, or that peft lacks.
        refused: why it cannot be compared here, as the end of an error message.
    """

    reference: Reference | None = None
    knob: SizeKnob | None = None
    targets: Targets = "query_value"
    starts_at_base: bool = True
    mergeable: bool = True
    checkpointing: bool = True
    learning_rate: float | None = None
    defaults: dict[str, Any] = field(default_factory=dict)
    refused: str | None = None
