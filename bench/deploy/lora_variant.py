"""What a LoRA has beside its two factors and one scale, which not every engine reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NAMES: Mapping[str, str] = {
    "dora": "DoRA",
    "rslora": "rank-stabilised scales",
    "bias": "biases",
    "rank_pattern": "ranks by module",
    "alpha_pattern": "scales by module",
}
"""The variants in words."""


def lora_variant(config: Any) -> str:
    """Return the variants of a configuration of peft, in the order of `NAMES`; "" of a plain LoRA, and of others."""
    if not _is_lora(config):
        return ""
    used = {
        "dora": config.use_dora,
        "rslora": config.use_rslora,
        "bias": config.bias != "none" or config.lora_bias,
        "rank_pattern": config.rank_pattern,
        "alpha_pattern": config.alpha_pattern,
    }
    return ", ".join(name for name in NAMES if used[name])


def lora_rank(config: Any) -> int | None:
    """Return the largest rank of a module; ``None`` where it is no LoRA."""
    return max([config.r, *config.rank_pattern.values()]) if _is_lora(config) else None


def _is_lora(config: Any) -> bool:
    return str(getattr(config.peft_type, "value", config.peft_type)) == "LORA"
