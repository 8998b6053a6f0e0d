"""A training that leaves the adapter where it was is an error, whatever its scores are."""

import pytest
import torch
from torch import nn

from parbench.bench.train.movement import FEW_STEPS, Movement, UntrainedError
from parbench.methods.base import ParameterGroup


class Adapted(nn.Module):
    """Stands for a peft model of four adapter tensors and a head."""

    def __init__(self):
        super().__init__()
        self.peft_config = {}
        self.a, self.b, self.c, self.d = (nn.Parameter(torch.ones(3)) for _ in range(4))
        self.head = nn.Parameter(torch.ones(3))

    def groups(self):
        return [
            ParameterGroup("adapter", [self.a, self.b], 1e-3),
            ParameterGroup("locations", [self.c, self.d], 1e-3),
            ParameterGroup("head", [self.head], 1e-3),
        ]


def after(moved, steps=FEW_STEPS, **options):
    model = Adapted()
    movement = Movement(model, model.groups())
    with torch.no_grad():
        for name in moved:
            getattr(model, name)[1] += 1e-6
    movement.check(steps, **options)


@pytest.mark.parametrize("steps", [1, 40])
def test_an_adapter_that_has_not_moved_at_all_is_an_error(steps):
    with pytest.raises(UntrainedError, match="moved none of the adapter's 4 parameters"):
        after({"head"}, steps)


def test_a_parameter_beside_others_that_have_moved_is_an_error():
    with pytest.raises(UntrainedError, match="not moved 1 of the adapter's 4 parameters: b;"):
        after({"a", "c", "d"})


def test_all_may_have_moved():
    after({"a", "b", "c", "d"})


def test_a_group_may_rest_by_the_schedule_of_its_method():
    after({"a", "b"})


def test_a_single_parameter_may_rest_in_few_steps_or_where_the_method_allows_it():
    after({"a"}, FEW_STEPS - 1)
    after({"a", "c", "d"}, may_rest=("b",))


def test_where_some_parameters_may_rest_others_may_not():
    with pytest.raises(UntrainedError, match="not moved 1 of the adapter's 4 parameters: d;"):
        after({"a", "c"}, may_rest=("b",))


def test_a_base_model_may_have_parameters_without_use():
    model = Adapted()
    del model.peft_config
    movement = Movement(model, model.groups())
    with torch.no_grad():
        model.a += 1
    movement.check(FEW_STEPS)


def test_a_method_without_an_adapter_has_nothing_to_move():
    model = Adapted()
    Movement(model, [ParameterGroup("head", [model.head], 1e-3)]).check(FEW_STEPS)
