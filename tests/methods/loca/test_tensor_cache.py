"""The cache of the cells of locations, in the mode of accelerators (simulated on the CPU) and in that of the CPU."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor, nn

from parbench.methods.loca import LocaLayer, update
from parbench.methods.loca.layer import COEFFICIENTS, LOCATIONS
from parbench.methods.spectral import tensor_cache
from parbench.methods.spectral.tensor_cache import TensorCache
from tests.support.passes import assert_same_passes

Build = Callable[..., PeftModel]


@pytest.fixture
def as_on_accelerators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor_cache, "compares_values", lambda device: False)


@pytest.fixture
def located(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often locations are looked at from now on."""
    calls: list[int] = []
    locate = update.locate
    monkeypatch.setattr(update, "locate", lambda *args: (calls.append(1), locate(*args))[1])
    return calls


def layers(model: nn.Module) -> list[LocaLayer]:
    return [module for module in model.modules() if isinstance(module, LocaLayer)]


def freeze(model: nn.Module, *groups: str) -> None:
    for layer in layers(model):
        layer.freeze("default", groups)


def run(model: nn.Module, ids: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    logits = model(input_ids=ids).logits
    logits.square().mean().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {"logits": logits.detach()} | gradients


@pytest.fixture
def input_ids() -> Tensor:
    return torch.randint(3, 90, (2, 7), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("compares", [False, True])
@pytest.mark.parametrize("n_frequency", [40, 300])
def test_a_step_is_bit_for_bit_the_one_that_remembers_nothing(
    adapted: Build, input_ids: Tensor, n_frequency: int, compares: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensor_cache, "compares_values", lambda device: compares)
    model = adapted(n_frequency=n_frequency, keep_update=False)
    freeze(model, LOCATIONS)
    first, again = run(model, input_ids), run(model, input_ids)
    monkeypatch.setattr(TensorCache, "of", lambda self, source, also, make: make())
    expected = run(model, input_ids)
    for found in (first, again):
        assert_same_passes(found, expected, tolerance=0)


@pytest.mark.usefixtures("as_on_accelerators")
def test_frozen_locations_are_looked_at_once(adapted: Build, input_ids: Tensor, located: list[int]) -> None:
    model = adapted(keep_update=False)
    freeze(model, LOCATIONS)
    for _ in range(3):
        run(model, input_ids)
    assert len(located) == len(layers(model))
    freeze(model, COEFFICIENTS)
    located.clear()
    run(model, input_ids)
    # The forward pass, and the backward pass for the update and for the gradient.
    assert len(located) >= 2 * len(layers(model))


@pytest.mark.usefixtures("as_on_accelerators")
@pytest.mark.parametrize("change", ["trained", "loaded", "replaced", "scaled", "in place"])
def test_whatever_changes_locations_is_seen(adapted: Build, input_ids: Tensor, change: str) -> None:
    model = adapted(keep_update=False)
    freeze(model, LOCATIONS)
    before = run(model, input_ids)
    other = torch.rand(2, 40, generator=torch.Generator().manual_seed(5))
    for layer in layers(model):
        locations = layer.loca_locations["default"]
        if change == "trained":
            layer.freeze("default", [COEFFICIENTS])
            optimiser = torch.optim.SGD([locations], lr=1.0)
            locations.grad = locations.detach() - other
            optimiser.step()
            layer.freeze("default", [LOCATIONS])
        elif change == "replaced":
            locations.data = other.clone()
        elif change == "in place":
            with torch.no_grad():
                locations.copy_(other)
        elif change == "scaled":
            layer.loca_alpha["default"] = 3.0
    if change == "loaded":
        state = get_peft_model_state_dict(model)
        set_peft_model_state_dict(model, {n: other if "locations" in n else t for n, t in state.items()})
    after = run(model, input_ids)
    fresh = copy.deepcopy(model)
    assert_same_passes(after, run(fresh, input_ids), tolerance=0)
    assert not torch.equal(after["logits"], before["logits"])


@pytest.mark.usefixtures("as_on_accelerators")
def test_what_is_made_during_inference_serves_training(adapted: Build, input_ids: Tensor) -> None:
    model = adapted(keep_update=False)
    freeze(model, LOCATIONS)
    with torch.inference_mode():
        model(input_ids=input_ids)
    assert run(model, input_ids).keys() > {"logits"}


@pytest.mark.usefixtures("as_on_accelerators")
def test_copies_are_empty_and_memory_is_not_taken_for_that_of_another() -> None:
    memory: TensorCache[int] = TensorCache()
    made: list[int] = []

    def make() -> int:
        made.append(1)
        return len(made)

    source = torch.zeros(3)
    assert [memory.of(source, None, make) for _ in range(2)] == [1, 1]
    assert memory.of(source, "other", make) == 2
    assert memory.of(source[:2], "other", make) == 3
    assert copy.deepcopy(memory).of(source[:2], "other", make) == 4
    assert pickle.loads(pickle.dumps(memory)).of(source[:2], "other", make) == 5  # noqa: S301 - our own
    # As long as it is tensor_cache, nothing else can lie there.
    place = source.data_ptr()
    memory.of(source, None, make)
    del source
    assert all(torch.zeros(3).data_ptr() != place for _ in range(50))
    assert memory.of(torch.zeros(3, requires_grad=True), None, make) == memory.of(torch.zeros(3), None, make) - 1


def test_on_the_cpu_locations_are_looked_at_once_for_each_of_their_values(
    adapted: Build, input_ids: Tensor, located: list[int]
) -> None:
    assert tensor_cache.compares_values(torch.device("cpu"))
    assert not tensor_cache.compares_values(torch.device("cuda"))
    model = adapted(keep_update=False)
    freeze(model, COEFFICIENTS)  # though they are trained
    before = run(model, input_ids)
    run(model, input_ids)
    assert len(located) == len(layers(model))
    for layer in layers(model):
        layer.loca_locations["default"].data.copy_(torch.rand(2, 40))  # which moves no version
    after = run(model, input_ids)
    assert len(located) == 2 * len(layers(model))
    assert not torch.equal(after["logits"], before["logits"])
    assert_same_passes(after, run(copy.deepcopy(model), input_ids), tolerance=0)
