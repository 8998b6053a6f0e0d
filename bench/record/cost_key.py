"""Which runs cost the same, so that the measured cost of one is known for all."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from parbench.bench.record.run_spec import RunSpec

# Settings of the training that change the number of steps and not the cost of a step.
_LENGTHS = ("max_steps", "epochs", "checkpoint_steps", "select_epoch", "patience", "warmup_ratio", "warmup_steps")
# Fields of a spec that change neither.
_WORDS = ("suite", "small", "protocol", "budget", "seed", "data_source", "purpose", "repeat", "train_fraction")


def cost_key(spec: RunSpec) -> dict[str, Any]:
    """Return what determines the time and the memory of a step; runs with equal keys cost the same."""
    values = asdict(spec)
    for name in (*_WORDS, "evaluation_limit"):
        del values[name]
    for name in _LENGTHS:
        values["training"].pop(name, None)
    values["setting"] = {name: value for name, value in values["setting"].items() if "learning_rate" not in name}
    return values
