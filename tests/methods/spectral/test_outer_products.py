"""Products by outer products against products with the update itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

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
from parbench.methods.spectral.fused import Update, update_linear
from parbench.methods.spectral.spectrum import SparseSpectrum
from tests.support.passes import assert_same_passes

SHAPE = (20, 28)


def cosine(entries: int, alpha: float = 3.0) -> tuple[Update, list[Tensor]]:
    torch.manual_seed(0)
    parameters = [torch.randn(entries, dtype=torch.float64), torch.rand(2, entries, dtype=torch.float64)]
    return CosineUpdate(SparseSpectrum(*SHAPE, CosineBasis), alpha, 1.0), parameters


def fourier(entries: int) -> tuple[Update, list[Tensor]]:
    torch.manual_seed(0)
    places = torch.stack([torch.randint(size, (entries,)) for size in SHAPE])
    return FourierUpdate(SparseSpectrum(*SHAPE, FourierBasis), 30.0), [torch.randn(entries).double(), places]


def passed(product: Callable[[Tensor], Tensor], x: Tensor, trained: list[Tensor]) -> dict[str, Tensor]:
    """The output and the gradients of the input and of what is trained."""
    y = product(x)
    # Numbers that 16 bits hold exactly.
    grad_y = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).bfloat16().to(y.dtype)
    gradients = torch.autograd.grad(y, [x, *trained], grad_y)
    return {"y": y.detach()} | {str(number): gradient for number, gradient in enumerate(gradients)}


@pytest.mark.parametrize("leading", [(), (6,), (2, 3)])
@pytest.mark.parametrize("trained", [(0,), (1,), (0, 1)], ids=["coefficients", "locations", "both"])
def test_equal_products_with_the_update(
    trained: tuple[int, ...], leading: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    update, parameters = cosine(5)
    chosen = [parameters[number].requires_grad_() for number in trained]
    x = torch.randn(*leading, SHAPE[1], dtype=torch.float64, requires_grad=True)
    assert update.multiplies_by_rows(*parameters)
    found = passed(lambda x: update_linear(x, [update], parameters, None), x, chosen)
    monkeypatch.setattr(SparseSpectrum, "multiplies_by_rows", lambda *args: False)
    expected = passed(lambda x: update_linear(x, [update], parameters, None), x, chosen)
    assert_same_passes(found, expected, tolerance=1e-12)


@pytest.mark.parametrize("make", [cosine, fourier])
def test_gradients_match_finite_differences(make: Callable[[int], tuple[Update, list[Tensor]]]) -> None:
    update, (values, places) = make(4)
    x = torch.randn(2, 3, SHAPE[1], dtype=torch.float64, requires_grad=True)
    assert update.multiplies_by_rows(values, places)
    product = lambda x, values: update_linear(x, [update], [values, places], None)  # noqa: E731
    assert torch.autograd.gradcheck(product, (x, values.requires_grad_()))


def test_product_is_that_with_scipys_inverse_transform() -> None:
    update, (values, places) = cosine(6, alpha=2.0)
    dense = np.zeros(SHAPE)
    rows, cols = (np.rint(axis * (size - 1)).astype(int) for axis, size in zip(places.numpy(), SHAPE, strict=True))
    np.add.at(dense, (rows, cols), 2.0 * values.numpy())
    x = torch.randn(7, SHAPE[1], dtype=torch.float64)
    expected = x.numpy() @ scipy.fft.idctn(dense, type=2, norm="ortho").T
    np.testing.assert_allclose(update_linear(x, [update], [values, places], None), expected, rtol=0, atol=1e-12)


def test_several_updates_add_up() -> None:
    (first, own), (second, others) = cosine(5), cosine(7, alpha=1.0)
    x = torch.randn(4, SHAPE[1], dtype=torch.float64)
    both = update_linear(x, [first, second], [*own, *others], None)
    alone = update_linear(x, [first], own, None) + update_linear(x, [second], others, None)
    torch.testing.assert_close(both, alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("shape", "entries", "by_rows"),
    [
        ((4096, 4096), 1000, True),  # LLaMA-7B's projections
        ((4096, 4096), 2048, False),
        ((1024, 4096), 800, True),
        ((768, 768), 1000, False),  # RoBERTa-base's
        ((768, 768), 300, True),
    ],
)
def test_the_rule_counts_multiply_adds(shape: tuple[int, int], entries: int, by_rows: bool) -> None:
    assert SparseSpectrum(*shape, CosineBasis).multiplies_by_rows(entries) is by_rows


def saved_for_backward(product: Callable[[], Any]) -> list[tuple[int, ...]]:
    shapes: list[tuple[int, ...]] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (shapes.append(tuple(t.shape)), t)[1], lambda t: t):
        product()
    return shapes


def test_what_is_saved_is_smaller_than_the_input_once_locations_are_frozen() -> None:
    update, (values, places) = cosine(5)
    x = torch.randn(7, SHAPE[1], dtype=torch.float64, requires_grad=True)
    product = lambda: update_linear(x, [update], [values, places], None)  # noqa: E731
    assert saved_for_backward(product) == [(5,), (2, 5)]
    values.requires_grad_()
    assert saved_for_backward(product) == [(7, 5), (5,), (2, 5)]
    places.requires_grad_()
    assert saved_for_backward(product) == [(7, SHAPE[1]), (5,), (2, 5)]


def layer(entries: int = 100, width: int = 256) -> LocaLinear:
    """On a weight of zeros with 16 bits, which shows the update's own precision."""
    torch.manual_seed(0)
    base = nn.Linear(width, width, bias=False, dtype=torch.bfloat16).requires_grad_(False)
    base.weight.data.zero_()
    config = LocaConfig(n_frequency=entries, init_weights=False, location_seed=0)
    return LocaLinear(base, "default", config, "layer")


@pytest.mark.parametrize("trained", [COEFFICIENTS, LOCATIONS])
def test_bfloat16_stays_within_its_precision(trained: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every product rounds once to 8 bits: at most three in a row, each by 2^-9 on average or less."""
    module = layer()
    module.freeze("default", [LOCATIONS if trained == COEFFICIENTS else COEFFICIENTS])
    monkeypatch.setattr(CosineUpdate, "delta", lambda *args, **kwargs: pytest.fail("the update was built"))
    parameter = getattr(module, trained)["default"]
    x = torch.randn(300, 256)
    found = passed(module, x.bfloat16().requires_grad_(), [parameter])
    monkeypatch.undo()
    exact = x.bfloat16().double().requires_grad_()
    update, parameters = module._update("default")
    copies = [p.detach().double().requires_grad_(p.requires_grad) for p in parameters]
    expected = passed(
        lambda x: update_linear(x, [update], copies, None), exact, [copies[0 if trained == COEFFICIENTS else 1]]
    )
    for name, value in expected.items():
        error = (found[name].double() - value).norm() / value.norm()
        assert error < 2**-7, (name, error)


def test_small_changes_of_a_coefficient_show_in_bfloat16() -> None:
    """A change of 1/2000 of a coefficient is less than half of bfloat16's last place."""
    module = layer()
    x = torch.randn(2000, 256).bfloat16()
    with torch.no_grad():
        before = module(x).double()
        module.loca_coefficients["default"] *= 1 + 1 / 2000
        after = module(x).double()
    ratio = float((after * before).sum() / before.square().sum())
    assert math.isclose(ratio - 1, 1 / 2000, rel_tol=0.2)


@pytest.mark.slow
def test_compiled_training_equals_eager_training() -> None:
    torch._dynamo.reset()
    module = layer(entries=10, width=54)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    for tokens in (5, 9):
        x = torch.randn(2, tokens, 54).bfloat16().requires_grad_()
        trained = list(module.loca_coefficients.values())
        assert_same_passes(passed(compiled, x, trained), passed(module, x, trained), tolerance=2**-7)
