"""`LocaConfig`: what it refuses, and that it survives a file."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
from peft import PeftConfig, PeftType
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING

import parbench.methods.loca
from parbench.methods.loca import LocaConfig, LocaModel


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_frequency": 0}, r"n_frequency is 0; give an integer of at least 1"),
        ({"n_frequency": -5}, r"n_frequency is -5; give"),
        ({"n_frequency": 2.5}, r"n_frequency is 2\.5; give"),
        ({"n_frequency": True}, r"n_frequency is True; give"),
        ({"n_frequency_pattern": {"query": 0}}, r"n_frequency_pattern\['query'\] is 0; give"),
        ({"alpha": 0.0}, r"alpha is 0\.0; give a positive, finite number"),
        ({"alpha": -1.0}, r"alpha is -1\.0; give"),
        ({"alpha": float("nan")}, r"alpha is nan; give"),
        ({"location_clamp": "none"}, r"location_clamp is 'none'; choose one of authors, full"),
        ({"location_seed": -1}, r"location_seed is -1; give an integer of at least 0"),
        ({"bias": "some"}, r"bias is 'some'; choose one of none, all, loca_only"),
        (
            {"target_modules": ".*q", "layers_to_transform": [0]},
            r"layers_to_transform is \[0\] but target_modules is",
        ),
        ({"target_modules": ".*q", "layers_pattern": "h"}, r"layers_pattern is 'h' but target_modules is"),
        ({"layers_pattern": "h"}, r"layers_pattern is 'h' but layers_to_transform is missing; give both"),
    ],
)
def test_refuses_with_field_value_and_remedy(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^LocaConfig: {message}"):
        LocaConfig(**options)


def test_file_round_trip(tmp_path: Path) -> None:
    config = LocaConfig(
        n_frequency=7,
        alpha=0.5,
        n_frequency_pattern={"layer.0.*query": 3},
        location_clamp="full",
        location_seed=3,
        target_modules=["query", "value"],
        modules_to_save=["classifier"],
    )
    config.save_pretrained(tmp_path)
    loaded = PeftConfig.from_pretrained(tmp_path)
    assert type(loaded) is LocaConfig
    assert loaded.to_dict() == config.to_dict()


def test_registered_with_peft_once() -> None:
    importlib.reload(parbench.methods.loca)
    importlib.reload(parbench.methods.loca)
    peft_type = PeftType["LOCA"]
    assert PeftType("LOCA") is peft_type
    assert list(PeftType).count(peft_type) == 1
    assert PEFT_TYPE_TO_CONFIG_MAPPING[peft_type] is LocaConfig
    assert PEFT_TYPE_TO_TUNER_MAPPING[peft_type] is LocaModel
    assert PEFT_TYPE_TO_PREFIX_MAPPING[peft_type] == "loca_"
