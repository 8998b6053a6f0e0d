"""One setting however it is written, so that it makes one run."""

import pytest

from parbench.bench.util.errors import UserError
from parbench.bench.util.validation import validated
from parbench.methods import METHODS
from parbench.methods.lora import LoraSetting


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (("value", "query"), ("query", "value")),
        (("query", "value", "query"), ("query", "value")),
        (("query", "key", "value"), ("query", "key", "value")),
        (("down_proj", "up_proj", "gate_proj"), ("gate_proj", "up_proj", "down_proj")),
        (
            ("q_proj", "k_proj", "v_proj", "up_proj", "down_proj"),
            ("q_proj", "k_proj", "v_proj", "up_proj", "down_proj"),
        ),
        (("zeta", "dense", "attention.value", "query"), ("query", "attention.value", "dense", "zeta")),
        (("vision_tower:v_proj", "language_model:q_proj"), ("language_model:q_proj", "vision_tower:v_proj")),
    ],
)
def test_modules_are_in_one_order(given, kept):
    assert LoraSetting(target_modules=given).target_modules == kept
    assert LoraSetting(target_modules=tuple(reversed(given))).target_modules == kept


def test_layers_are_in_ascending_order():
    setting = LoraSetting(layers=(3, 1, 3), larger_layers=(2, 1))
    assert (setting.layers, setting.larger_layers) == ((1, 3), (1, 2))


@pytest.mark.parametrize("name", ["loca", "vera", "fourierft", "replora", "adalora", "ia3", "bitfit"])
def test_other_methods_have_them_so(name):
    kind = METHODS[name].setting_type
    assert kind.model_validate({"layers": [1, 0]}) == kind.model_validate({"layers": [0, 1]})
    with pytest.raises(UserError, match="at least 1 item"):
        validated(kind, {"layers": []}, "the setting")
