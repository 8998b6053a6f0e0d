"""The fast layer against the plain one, and where it must not fold."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from parbench.methods.loca import LocaConfig
from parbench.methods.loca.basis import CosineBasis
from parbench.methods.loca.layer import COEFFICIENTS, LOCATIONS, LocaLinear
from parbench.methods.loca.update import CosineUpdate
from parbench.methods.spectral import fused
from parbench.methods.spectral.fused import update_linear
from parbench.methods.spectral.spectrum import SparseSpectrum
from tests.support.loca_passes import Build, layers, plain, run
from tests.support.loca_reference import DenseLinear, RankProductLinear
from tests.support.passes import assert_same_passes


@pytest.fixture
def folds(monkeypatch: pytest.MonkeyPatch) -> Callable[[nn.Module, Tensor], list[bool]]:
    """Which layers of a model fold in one forward pass."""

    def observe(model: nn.Module, ids: Tensor) -> list[bool]:
        seen: list[bool] = []
        for name, value in (("fused_linear", True), ("update_linear", False)):
            original = getattr(fused, name)
            monkeypatch.setattr(
                f"parbench.methods.loca.layer.{name}", lambda *args, f=original, v=value: (seen.append(v), f(*args))[1]
            )
        with torch.no_grad():
            model(input_ids=ids)
        return seen

    return observe


@pytest.mark.parametrize("layer_type", [RankProductLinear, DenseLinear])
@pytest.mark.parametrize("keep_update", [False, True])
@pytest.mark.parametrize("n_frequency", [40, 700])
def test_equals_the_plain_layer(
    adapted: Build, input_ids: Tensor, n_frequency: int, keep_update: bool, layer_type: type[RankProductLinear]
) -> None:
    """With gathered rows, and with FFTs."""
    model = adapted(n_frequency=n_frequency, keep_update=keep_update, alpha=3.0)
    expected = run(plain(model, layer_type), input_ids)
    assert sum(LOCATIONS in name for name in expected) == len(layers(model))
    assert_same_passes(run(model, input_ids), expected)


@pytest.mark.parametrize("trained", [COEFFICIENTS, LOCATIONS])
def test_equals_the_plain_layer_in_each_phase(adapted: Build, input_ids: Tensor, trained: str) -> None:
    model = adapted(n_frequency=700)
    for layer in layers(model):
        layer.freeze("default", {COEFFICIENTS, LOCATIONS} - {trained})
    expected = run(plain(model), input_ids)
    assert [name.rsplit(".", 2)[1] for name in expected if "loca_" in name] == [trained] * len(layers(model))
    assert_same_passes(run(model, input_ids), expected)


def test_float64_equals_the_plain_layer_to_its_precision(adapted: Build, input_ids: Tensor) -> None:
    model = adapted(dtype=torch.float64, n_frequency=700)
    assert_same_passes(run(model, input_ids), run(plain(model), input_ids), 1e-12)


def test_autocast_stays_within_the_precision_of_bfloat16(adapted: Build, input_ids: Tensor) -> None:
    """A few units in the last of 8 bits, as between any two orders of the same operations."""
    model = adapted(n_frequency=700)
    for layer in layers(model):
        layer.freeze("default", [LOCATIONS])  # whose clamped differences of neighbours magnify rounding
    exact = run(model, input_ids)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual, expected = run(model, input_ids), run(plain(model), input_ids)
    assert_same_passes(actual, expected, 0.05)
    actual["logits"], exact["logits"] = actual["logits"].float(), exact["logits"].float()
    assert_same_passes(actual, exact, 0.05)


@pytest.mark.parametrize("n_frequency", [5, 30])
@pytest.mark.parametrize("fold", [True, False])
def test_gradients_match_finite_differences(n_frequency: int, fold: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr("parbench.methods.spectral.spectrum.STEP", 10)  # 5 take gathered rows, 30 the FFTs
    base = nn.Linear(9, 6).double().requires_grad_(False)
    base.bias.requires_grad_()
    updates = [CosineUpdate(SparseSpectrum(6, 9, CosineBasis), 2.5, 0.999)]
    locations = torch.rand(2, n_frequency, dtype=torch.float64)
    locations[:, 3] = locations[:, 4]

    def run_layer(x: Tensor, coefficients: Tensor, bias: Tensor) -> Tensor:
        if fold:
            return fused.fused_linear(base, x, updates, [coefficients, locations], None)
        return base(x) + update_linear(x, updates, [coefficients, locations], None)

    x = torch.randn(2, 3, 9, dtype=torch.float64, requires_grad=True)
    coefficients = torch.randn(n_frequency, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(run_layer, (x, coefficients, base.bias))


def test_frozen_locations_cost_no_neighbours(
    adapted: Build, input_ids: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []
    original = SparseSpectrum.entries_of_product
    monkeypatch.setattr(
        SparseSpectrum,
        "entries_of_product",
        lambda s, y, x, cells: (counts.append(len(cells)), original(s, y, x, cells))[1],
    )
    model = adapted()
    for frozen, expected in (([LOCATIONS], 40), ([COEFFICIENTS], 160), ([], 200)):
        counts.clear()
        for layer in layers(model):
            layer.freeze("default", frozen)
        run(model, input_ids)
        assert counts == [expected] * len(layers(model))


def saved_shapes(run_forward: Callable[[], Any]) -> list[tuple[int, ...]]:
    kept: list[tuple[int, ...]] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(tuple(t.shape)), t)[1], lambda t: t):
        run_forward()
    return kept


def test_only_the_input_is_saved_for_the_backward_pass() -> None:
    base = nn.Linear(5, 6).requires_grad_(False)
    updates = [CosineUpdate(SparseSpectrum(6, 5, CosineBasis), 1.0, 1.0)]
    x, a, u = torch.randn(3, 5, requires_grad=True), torch.randn(4, requires_grad=True), torch.rand(2, 4)
    assert saved_shapes(lambda: fused.fused_linear(base, x, updates, [a, u], None)) == [(3, 5), (6, 5), (4,), (2, 4)]
    a.requires_grad_(False)
    assert saved_shapes(lambda: fused.fused_linear(base, x, updates, [a, u], None)) == [(6, 5), (4,), (2, 4)]


class OwnLinear(nn.Linear):
    """Stands for quantised and other layers whose weight is not what it seems."""


def test_folds_only_plain_frozen_layers(
    adapted_bert: Build, input_ids: Tensor, folds: Callable[[nn.Module, Tensor], list[bool]]
) -> None:
    model = adapted_bert(init_weights=False).eval()
    first, second, third, _ = layers(model)
    assert folds(model, input_ids) == [True] * 4
    expected = run(model, input_ids)
    hook = first.get_base_layer().register_forward_hook(lambda *args: None)
    second.get_base_layer().weight.requires_grad_()
    third.get_base_layer().__class__ = OwnLinear
    assert folds(model, input_ids) == [False, False, False, True]
    actual = run(model, input_ids)
    actual = {name: tensor for name, tensor in actual.items() if name in expected}
    assert_same_passes(actual, expected)
    hook.remove()
    assert folds(model, input_ids) == [True, False, False, True]
    assert folds(model.to(torch.bfloat16), input_ids) == [False] * 4


def test_small_updates_are_not_lost_in_low_precision() -> None:
    """Added to a bfloat16 weight of 1, an update of 1/1000 would be rounded away."""
    base = nn.Linear(64, 64, bias=False, dtype=torch.bfloat16)
    base.weight.data.fill_(1.0)
    layer = LocaLinear(base.requires_grad_(False), "default", LocaConfig(n_frequency=1, location_clamp="full"), "layer")
    layer.loca_locations["default"].data.zero_()
    layer.loca_coefficients["default"].data.fill_(64e-3)  # a constant update of 64e-3 / 64
    x = torch.zeros(1, 64, dtype=torch.bfloat16)
    x[0, 0] = 1.0
    delta = layer.get_delta_weight("default")
    torch.testing.assert_close(delta, torch.full((64, 64), 1e-3))
    output = update_linear(x, [layer._update("default")[0]], layer._update("default")[1], None)
    torch.testing.assert_close(output.float(), torch.full((1, 64), 1e-3), rtol=2**-8, atol=0)


def test_trained_biases_get_their_gradient(adapted_bert: Build, input_ids: Tensor) -> None:
    model = adapted_bert(bias="loca_only", task_type=None, init_weights=False).eval()
    expected = run(plain(model), input_ids)
    assert sum(name.endswith("base_layer.bias") for name in expected) == 4
    assert_same_passes(run(model, input_ids), expected)


def test_meta_tensors_get_a_shape() -> None:
    with torch.device("meta"):
        base = nn.Linear(40, 30).requires_grad_(False)
        x, a, u = torch.zeros(3, 40), torch.zeros(400, requires_grad=True), torch.rand(2, 400)
    updates = [CosineUpdate(SparseSpectrum(30, 40, CosineBasis), 1.0, 1.0)]
    y = fused.fused_linear(base, x, updates, [a, u], None)
    y.sum().backward()
    assert (y.shape, a.grad.shape) == ((3, 30), (400,))


@pytest.mark.parametrize(
    ("n_frequency", "base", "compiled_first"),
    [
        (40, nn.Linear(24, 34), False),
        pytest.param(700, Conv1D(38, 26), False, marks=pytest.mark.slow),
        pytest.param(40, nn.Linear(44, 46), True, marks=pytest.mark.slow),
        (700, Conv1D(50, 52), True),
    ],
)
def test_compiled_training_equals_eager_training(n_frequency: int, base: nn.Module, compiled_first: bool) -> None:
    """Whether or not the constants of these sizes, which no other test has, are there when it is compiled."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    config = LocaConfig(n_frequency=n_frequency, keep_update=True, init_weights=False)
    layer = LocaLinear(copy.deepcopy(base).requires_grad_(False), "default", config, "layer")
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)

    def gradients(function: Callable[[Tensor], Tensor], x: Tensor) -> dict[str, Tensor]:
        y = function(x)
        inputs = (x, layer.loca_coefficients["default"], layer.loca_locations["default"])
        return {"y": y} | dict(zip("xau", torch.autograd.grad(y.square().sum(), inputs), strict=True))

    for tokens in (5, 9):
        x = torch.randn(2, tokens, layer.in_features, requires_grad=True)
        order = (compiled, layer) if compiled_first else (layer, compiled)
        results = {function: gradients(function, x) for function in order}
        assert_same_passes(results[compiled], results[layer])
