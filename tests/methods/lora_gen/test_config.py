from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from parbench.methods.lora_gen import LoraGenConfig


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"r": 0}, "r=0; give an integer of at least 1"),
        ({"router_hidden": 2.5}, "router_hidden=2.5; give an integer"),
        ({"lora_dropout": 1.0}, "lora_dropout=1.0; give a probability"),
        ({"balance_coefficient": -1.0}, "balance_coefficient=-1.0; give at least 0"),
        ({"routing": "random"}, "routing='random'; choose one of 'keep_top_k'"),
        ({"mixing": "sum"}, "mixing='sum'; choose one of 'parameters'"),
        ({"router_norm": "layer"}, "choose one of 'batch', 'none'"),
        ({"projections": "fc1"}, "projections='fc1'; give a tuple of module names"),
        ({"cloud_target_modules": ()}, "cloud_target_modules=(); give a tuple"),
        ({"top_k": 9}, "top_k=9 of experts=8; choose at most all"),
        ({"routing": "direct", "mixing": "products"}, "no experts to mix"),
        ({"direct_hidden": 4}, "direct_hidden needs routing='direct'"),
        ({"experts": 1, "top_k": 1, "balance_std": "unbiased"}, "one expert has no unbiased variance"),
    ],
)
def test_bad_options_are_refused_in_one_sentence(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        LoraGenConfig(**options)


def test_defaults_are_the_papers() -> None:
    config = LoraGenConfig()
    assert (config.experts, config.top_k, config.balance_coefficient) == (8, 2, 0.01)
    assert (config.r, config.lora_alpha, config.lora_dropout) == (16, 16, 0.05)
    assert (config.scaling, config.delivered_rank) == (1.0, 16)


def test_round_trip(tmp_path: Path) -> None:
    config = LoraGenConfig(experts=3, projections=("fc1", "fc2"), mixing="products", balance_std="unbiased")
    config.save(tmp_path)
    assert LoraGenConfig.load(tmp_path) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "has no lora_gen_config.json"),
        ("{", "is not JSON"),
        ("[]", "no options at all"),
        ('{"a": 1}', "it has a"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "lora_gen_config.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        LoraGenConfig.load(tmp_path)


def test_products_keep_the_scaling() -> None:
    config = LoraGenConfig(r=3, lora_alpha=6, top_k=2, mixing="products")
    assert (config.delivered_rank, config.delivered_alpha) == (6, 12)
    assert config.delivered_alpha / config.delivered_rank == config.scaling
