"""What is known of a tuner of peft beside its configuration class."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from parbench.bench.util.reference import Reference
from parbench.methods.base import SizeKnob

Targets = Literal["query_value", "value", "of_peft", "none"]


@dataclass(frozen=True)
class Known:
    """What peft's configuration of a tuner does not tell.

    Attributes:
        reference: the paper, as peft's documentation names it.
        knob: the field that sets the size, where there is one.
        targets: what is adapted by default: the query and value projections as with all other methods, the value
            projections alone, what peft chooses for the architecture, or no modules.
        starts_at_base: whether peft's default start leaves the model as it is.
        mergeable: whether the adapter can be folded into the base weights.
        checkpointing: whether activations may be recomputed in the backward pass.
        learning_rate: default, where peft's documentation gives one.
        defaults: values for fields of which peft has no default, or another.
        refused: why it cannot be compared here, as the end of a sentence.
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
