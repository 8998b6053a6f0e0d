"""Values by hand: of two for one option none is dropped silently."""

import pytest

from parbench.bench.plan.layers import by_hand
from parbench.bench.plan.overrides import read_sets
from parbench.bench.util.errors import UserError
from parbench.methods import find_method


def test_two_values_for_one_key_are_refused():
    with pytest.raises(UserError, match=r'^"--set lora\.r=6": another --set makes it 4; give one of the two$'):
        read_sets(["lora.r=4", "lora.alpha=2", "lora.r=6"], ["lora"])
    assert read_sets(["lora.r=4", "train.max_steps=4", "lora.r=4"], ["lora"]) == {
        "lora": {"r": 4},
        "train": {"max_steps": 4},
    }


def test_an_expression_and_a_set_that_differ_are_refused():
    choice = find_method("lora(r=4)+rslora")
    with pytest.raises(UserError, match=r'^"--set lora\.r=6": lora\+rslora has r=4 in --methods; give one of the two$'):
        by_hand(choice, {"lora": {"r": 6}})
    assert by_hand(choice, {"lora": {"r": 4, "alpha": 2.0}}) == {"r": 4, "alpha": 2.0}


def test_of_sets_that_of_the_modified_method_counts():
    choice = find_method("lora+rslora")
    assert by_hand(choice, {"lora": {"alpha": 2.0, "r": 4}, "lora+rslora": {"alpha": 3.0}}) == {"alpha": 3.0, "r": 4}
