from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from peft import PeftConfig, PeftType

from parbench.bench.budget.budget import Budget
from parbench.bench.budget.fit import fit
from parbench.methods.from_peft.registration import register_tuner
from parbench.methods.replora import RepLoraConfig, RepLoraModel
from parbench.methods.replora.method import REPLORA, RepLoraSetting


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"r": 0}, "r=0; give an integer of at least 1"),
        ({"hidden": 2.5}, "hidden=2.5; give an integer"),
        ({"dropout": 1.0}, "dropout=1.0; give a probability"),
        ({"depth": 3}, "depth=3; choose one of 1, 2"),
        ({"activation": "elu"}, "activation='elu'; choose one of 'identity'"),
        ({"seed": "dense"}, "seed='dense'; choose one of 'diagonal'"),
        ({"seed_start": "ones"}, "seed_start='ones'; choose one of 'normal'"),
        ({"depth": 1, "activation": "relu"}, "B can never leave zero"),
        ({"target_modules": ".*q", "layers_to_transform": 1}, "no effect on a regular expression"),
        ({"layers_pattern": "layers"}, "needs layers_to_transform"),
    ],
)
def test_bad_options_are_refused_in_one_sentence(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        RepLoraConfig(**options)


def test_config_round_trip(tmp_path: Path) -> None:
    config = RepLoraConfig(
        r=3, lora_alpha=6, hidden=5, depth=1, activation="silu", seed="full", share_first_layer=False,
        target_modules=["q", "v"], exclude_modules=["head"], layers_to_transform=[0], dropout=0.1,
    )  # fmt: skip
    config.save_pretrained(str(tmp_path))
    assert PeftConfig.from_pretrained(str(tmp_path)) == config


def test_registered_with_peft_once() -> None:
    from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING

    register_tuner("replora", RepLoraConfig, RepLoraModel)
    assert PEFT_TYPE_TO_TUNER_MAPPING[PeftType("REPLORA")] is RepLoraModel
    assert PEFT_TYPE_TO_PREFIX_MAPPING[PeftType("REPLORA")] == "replora_"


def test_a_hidden_width_without_a_hidden_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="depth=1 a generator has no hidden layer; leave hidden out"):
        RepLoraSetting(depth=1, hidden=16)
    with pytest.raises(ValueError, match="set r instead"):
        REPLORA.with_size(RepLoraSetting(depth=1), 16)
    assert REPLORA.with_size(RepLoraSetting(), 16).hidden == 16


def test_a_budget_for_generators_without_a_hidden_layer_states_what_to_set() -> None:
    found = fit(REPLORA, RepLoraSetting(depth=1), Budget("8k", 8192), _NoArchitecture())  # type: ignore[arg-type]
    assert found.setting is None
    assert "set r instead" in found.note


class _NoArchitecture:
    def count(self, *arguments: object) -> None:
        raise AssertionError("nothing is to be counted")
