"""Products by transforms of the tokens against scipy's and numpy's dense updates, and the rule that chooses them."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
import torch
from torch import Tensor, nn

from parbench.methods.fourierft_fast import FourierUpdate
from parbench.methods.fourierft_fast.basis import FourierBasis
from parbench.methods.loca import LocaConfig
from parbench.methods.loca.basis import CosineBasis
from parbench.methods.loca.layer import COEFFICIENTS, LOCATIONS, LocaLinear
from parbench.methods.loca.update import CosineUpdate
from parbench.methods.spectral.fused import Update
from parbench.methods.spectral.spectrum import SparseSpectrum
from parbench.methods.spectral.token_transforms import SparseUpdate, transformed_linear
from tests.support.loca_reference import DenseLinear
from tests.support.passes import assert_same_passes

SHAPES = [(12, 20), (20, 13), (16, 16), (1, 7), (33, 1), (2, 3)]
CPU = torch.device("cpu")


def places_in(shape: tuple[int, int]) -> Tensor:
    """All corners, one inner cell three times, and others: ``(2, 17)``."""
    rows, cols = shape
    drawn = [torch.randint(size, (10,), generator=torch.Generator().manual_seed(0)) for size in shape]
    fixed = torch.tensor([[0, 0, rows - 1, rows - 1] + [rows // 2] * 3, [0, cols - 1, 0, cols - 1] + [cols // 2] * 3])
    return torch.cat((fixed, torch.stack(drawn)), 1)


def cosine(shape: tuple[int, int], values: np.ndarray) -> tuple[SparseUpdate, Tensor, np.ndarray]:
    """LoCA's update, its places, and scipy's dense one."""
    places, dense = places_in(shape), np.zeros(shape)
    np.add.at(dense, tuple(places.numpy()), 3.0 * values)
    last = torch.tensor([[max(size - 1, 1)] for size in shape])
    update = CosineUpdate(SparseSpectrum(*shape, CosineBasis), 3.0, 1.0)
    return update, places.double() / last, scipy.fft.idctn(dense, type=2, norm="ortho")


def fourier(shape: tuple[int, int], values: np.ndarray) -> tuple[SparseUpdate, Tensor, np.ndarray]:
    """FourierFT's update, its places, and numpy's dense one."""
    places, dense = places_in(shape), np.zeros(shape)
    np.add.at(dense, tuple(places.numpy()), values)
    update = FourierUpdate(SparseSpectrum(*shape, FourierBasis), 30.0)
    return update, places, 30.0 * np.fft.ifft2(dense).real


@pytest.mark.parametrize("make", [cosine, fourier])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_products_and_gradients_are_those_of_the_dense_update(
    make: type[cosine], shape: tuple[int, int], dtype: torch.dtype, tolerance: float
) -> None:
    draw = np.random.default_rng(0)
    values, x, grad_y = draw.normal(size=17), draw.normal(size=(2, 5, shape[1])), draw.normal(size=(2, 5, shape[0]))
    update, places, dense = make(shape, values)
    coefficients = torch.tensor(values, dtype=dtype, requires_grad=True)
    tokens = torch.tensor(x, dtype=dtype, requires_grad=True)
    y = transformed_linear(tokens, update, coefficients, places.to(dtype) if places.is_floating_point() else places)
    y.backward(torch.tensor(grad_y, dtype=dtype))
    # The update is linear in each value: the gradient of one is the product with the update of that one alone.
    grad = np.tensordot(grad_y, x, axes=([0, 1], [0, 1]))
    expected = [float((grad * make(shape, row)[2]).sum()) for row in np.eye(17)]
    assert y.dtype == dtype
    for found, wanted in ((y, x @ dense.T), (tokens.grad, grad_y @ dense), (coefficients.grad, np.array(expected))):
        assert np.abs(found.detach().numpy() - wanted).max() < tolerance * max(1.0, np.abs(wanted).max())


@pytest.mark.parametrize("needs", [(True, False), (False, True)])
def test_only_what_is_needed_gets_a_gradient(needs: tuple[bool, bool]) -> None:
    update, places, dense = cosine((12, 20), np.ones(17))
    x = torch.randn(5, 20, dtype=torch.float64, requires_grad=needs[0])
    coefficients = torch.ones(17, dtype=torch.float64, requires_grad=needs[1])
    transformed_linear(x, update, coefficients, places).sum().backward()
    assert [tensor.grad is not None for tensor in (x, coefficients)] == list(needs)
    if needs[0]:
        np.testing.assert_allclose(x.grad.numpy(), np.ones((5, 12)) @ dense, rtol=0, atol=1e-10)  # type: ignore[union-attr]


def test_the_transforms_are_not_kept_for_the_backward_pass() -> None:
    update, places, _ = cosine((12, 20), np.ones(17))
    x, coefficients = torch.randn(5, 20, requires_grad=True), torch.ones(17, requires_grad=True)
    shapes: list[tuple[int, ...]] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (shapes.append(tuple(t.shape)), t)[1], lambda t: t):
        transformed_linear(x, update, coefficients, places.float())
    assert shapes == [(5, 20), (17,), (2, 17)]


@pytest.mark.parametrize(
    ("tokens", "shape", "entries", "by_tokens"),
    [
        (16 * 17, (384, 384), 1000, True),  # ViT-S on digits
        (16 * 24, (384, 384), 1000, False),
        (16 * 23, (384, 384), 1000, True),  # MiniLM on sentences
        (16 * 64, (384, 384), 1000, False),
        (32 * 23, (768, 768), 1000, True),  # RoBERTa-base
        (32 * 27, (768, 768), 1000, False),
        (8 * 128, (768, 768), 1000, False),
        (16 * 17, (384, 384), 50, False),  # thin products
        (0, (384, 384), 1000, False),
    ],
)
def test_the_rule_counts_transforms(tokens: int, shape: tuple[int, int], entries: int, by_tokens: bool) -> None:
    assert SparseSpectrum(*shape, CosineBasis).transforms_tokens(tokens, entries, CPU) is by_tokens


@pytest.mark.parametrize(("cost", "by_tokens"), [(2, True), (1, True), (1 / 8, False)])
def test_the_rule_counts_products_of_an_update_that_is_not_added_to_the_weight(cost: float, by_tokens: bool) -> None:
    rule = SparseSpectrum(768, 768, CosineBasis).transforms_tokens
    assert rule(32 * 128, 1000, CPU, own=cost) is by_tokens
    assert not rule(32 * 128, 1000, CPU)


def test_only_the_cpu_transforms_tokens() -> None:
    assert not SparseSpectrum(384, 384, CosineBasis).transforms_tokens(272, 1000, torch.device("meta"))


@pytest.fixture
def layer() -> LocaLinear:
    torch.manual_seed(0)
    base = nn.Linear(48, 40, dtype=torch.float64).requires_grad_(False)
    base.bias.requires_grad_()
    config = LocaConfig(n_frequency=300, init_weights=False, location_seed=0, keep_update=False)
    return LocaLinear(base, "default", config, "layer")


def passed(layer: LocaLinear, x: Tensor) -> dict[str, Tensor]:
    layer.zero_grad()
    x = x.detach().requires_grad_()
    y = layer(x)
    y.square().sum().backward()
    assert x.grad is not None
    gradients = {name: p.grad.clone() for name, p in layer.named_parameters() if p.grad is not None}
    return {"y": y.detach(), "x": x.grad} | gradients


def test_a_layer_builds_no_update_for_few_tokens_and_equals_the_dense_layer(
    layer: LocaLinear, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer.freeze("default", [LOCATIONS])
    x = torch.randn(2, 7, 48, dtype=torch.float64)
    with monkeypatch.context() as patched:
        patched.setattr(CosineUpdate, "delta", lambda *args, **kwargs: pytest.fail("the update was built"))
        found = passed(layer, x)
    layer.__class__ = DenseLinear
    assert_same_passes(found, passed(layer, x), tolerance=1e-10)
    assert any(COEFFICIENTS in name for name in found)


@pytest.mark.parametrize(("tokens", "frozen"), [(7, COEFFICIENTS), (100, LOCATIONS)])
def test_a_layer_builds_its_update_for_locations_and_for_many_tokens(
    layer: LocaLinear, monkeypatch: pytest.MonkeyPatch, tokens: int, frozen: str
) -> None:
    layer.freeze("default", [frozen])
    built: list[Update] = []
    delta = CosineUpdate.delta
    monkeypatch.setattr(
        CosineUpdate, "delta", lambda self, *args, **kw: (built.append(self), delta(self, *args, **kw))[1]
    )
    passed(layer, torch.randn(tokens, 48, dtype=torch.float64))
    assert len(built) == 2
