"""Which runs cost alike: what one of them has taken is known of all."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from parbench.bench.record.run_spec import RunSpec

# Parts of the training's settings that change how long it is, and not what a step costs.
_LENGTHS = ("max_steps", "epochs", "checkpoint_steps", "select_epoch", "patience", "warmup_ratio", "warmup_steps")
# Parts of a spec that change neither.
_WORDS = ("suite", "small", "protocol", "budget", "seed", "data_source", "purpose", "repeat", "train_fraction")


def cost_key(spec: RunSpec) -> dict[str, Any]:
    """Return what decides how long a step of a run takes, and how much memory: runs that agree in it cost alike."""
    values = asdict(spec)
    for name in (*_WORDS, "evaluation_limit"):
        del values[name]
    for name in _LENGTHS:
        values["training"].pop(name, None)
    values["setting"] = {name: value for name, value in values["setting"].items() if "learning_rate" not in name}
    return values
