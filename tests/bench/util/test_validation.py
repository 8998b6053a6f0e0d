import pytest

from parbench.bench.train.settings import TrainingSettings
from parbench.bench.util.errors import UserError
from parbench.bench.util.validation import validated


def test_yes_is_not_a_number():
    with pytest.raises(UserError, match=r'^it is wrong: field "max_steps": input should be a number \(it is True\)$'):
        validated(TrainingSettings, {"max_steps": True}, "it")


def test_yes_is_taken_where_it_is_an_answer():
    found = validated(TrainingSettings, {"max_steps": 4, "select_epoch": True}, "it")
    assert (found.max_steps, found.select_epoch) == (4, True)
