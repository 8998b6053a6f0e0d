"""The options of small runs of LoRA-Gen."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

OPTIONS = {
    "commonsense": {"protocol": "lm_eval", "train_text": "lm_eval", "select_by": "accuracy", "num_fewshot": 1,
                    "system_shots": 2, "unseen": "[hellaswag,winogrande,piqa]"},
    "train": {"max_steps": 6, "batch_size": 4, "max_length": 96, "checkpoint_steps": 2},
    "lora_gen": {"experts": 4, "r": 2, "alpha": 2, "router_hidden": 8, "cloud_r": 2, "learning_rate": 0.02,
                 "prompt_length": 128},
}  # fmt: skip


def sets(changes: Mapping[str, Any] = MappingProxyType({}), task: str = "commonsense") -> tuple[str, ...]:
    """Return the command line's --set for one task and LoRA-Gen."""
    given = {
        f"{task.partition('/')[0] if owner == 'commonsense' else owner}.{key}": value
        for owner, values in OPTIONS.items()
        for key, value in values.items()
        if owner != "commonsense" or task.startswith("commonsense")
    }
    return tuple(f"{key}={value}" for key, value in (given | dict(changes)).items())
