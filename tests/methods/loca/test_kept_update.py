"""When a LoCA layer builds its update, when it keeps it, and that a kept one follows every change."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from parbench.methods.loca import LocaConfig
from parbench.methods.loca.update import CosineUpdate
from tests.support.loca_passes import Build, layers, plain, run
from tests.support.passes import assert_same_passes


def enlarge(model: nn.Module) -> None:
    """Make the update as large as the weights, for its changes to show."""
    for layer in layers(model):
        layer.loca_coefficients["default"].data *= 50.0


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[CosineUpdate]:
    """Every update that is built from now on."""
    calls: list[CosineUpdate] = []
    delta = CosineUpdate.delta
    monkeypatch.setattr(CosineUpdate, "delta", lambda self, *p, **k: (calls.append(self), delta(self, *p, **k))[1])
    return calls


def test_update_is_built_for_each_pass_if_it_is_not_kept(
    adapted: Build, input_ids: Tensor, built: list[CosineUpdate]
) -> None:
    model = adapted(keep_update=False)
    for _ in range(2):
        built.clear()
        run(model, input_ids)
        assert len(built) == 2 * len(layers(model))


def test_by_default_updates_are_kept_in_passes_without_gradients_only(
    adapted: Build, input_ids: Tensor, built: list[CosineUpdate]
) -> None:
    model = adapted()
    assert LocaConfig().keep_update is None
    with torch.no_grad():
        model(input_ids=input_ids)
        model(input_ids=input_ids)
    assert len(built) == len(layers(model))
    built.clear()
    run(model, input_ids)
    assert len(built) == 2 * len(layers(model))
    assert all(layer._kept._kept is None for layer in layers(model))  # nor is it in memory beside the activations


def test_kept_update_is_built_once_per_optimiser_step(
    adapted: Build, input_ids: Tensor, built: list[CosineUpdate]
) -> None:
    model = adapted(keep_update=True)
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(3):
        built.clear()
        for _ in range(4):
            model(input_ids=input_ids).logits.square().mean().backward()
        assert len(built) == len(layers(model))
        optimiser.step()
        optimiser.zero_grad()
    with torch.no_grad():
        built.clear()
        for _ in range(3):
            model(input_ids=input_ids)
    assert len(built) == len(layers(model))


@pytest.mark.parametrize("change", ["coefficients", "locations", "base weight", "adapter", "alpha"])
def test_kept_update_follows_every_change(adapted: Build, input_ids: Tensor, change: str) -> None:
    """Writing through `.data` moves no version counter."""
    model = adapted(keep_update=True)
    enlarge(model)
    before = run(model, input_ids)
    for layer in layers(model):
        if change == "coefficients":
            layer.loca_coefficients["default"].data[0] += 1.0
        elif change == "locations":
            layer.loca_locations["default"].data.copy_(layer.loca_locations["default"].data.flip(1))
        elif change == "base weight":
            layer.get_base_layer().weight.data *= 2.0
        elif change == "alpha":
            layer.loca_alpha["default"] = 2.0
    if change == "adapter":
        config = copy.deepcopy(model.peft_config["default"])
        config.location_seed = 9
        model.add_adapter("second", config)
        model.set_adapter("second")
    after = run(model, input_ids)
    assert (after["logits"] - before["logits"]).abs().max() > 2e-5
    assert_same_passes(after, run(plain(model), input_ids))


def test_kept_update_survives_an_evaluation_in_inference_mode(adapted: Build, input_ids: Tensor) -> None:
    model = adapted(keep_update=True)
    with torch.inference_mode():
        model(input_ids=input_ids)
    assert_same_passes(run(model, input_ids), run(plain(model), input_ids))


def test_merging_copying_and_pickling_with_a_kept_update(adapted: Build, input_ids: Tensor) -> None:
    model = adapted(keep_update=True)
    enlarge(model)
    expected = run(model, input_ids)
    data = pickle.dumps(model)
    assert len(data) < len(pickle.dumps(adapted())) + 1000
    assert_same_passes(run(pickle.loads(data), input_ids), expected)  # noqa: S301
    twin = copy.deepcopy(model)
    assert all(mine._kept is not its._kept for mine, its in zip(layers(model), layers(twin), strict=True))
    assert_same_passes(run(twin, input_ids), expected)
    model.merge_adapter()
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=input_ids).logits, expected["logits"], rtol=0, atol=1e-5)
    model.unmerge_adapter()
    assert_same_passes(run(model, input_ids), expected, 1e-4)  # unmerging leaves a rounding of the base weight
    with model.disable_adapter(), torch.no_grad():
        disabled = model(input_ids=input_ids).logits
    assert (disabled - expected["logits"]).abs().max() > 1e-3
