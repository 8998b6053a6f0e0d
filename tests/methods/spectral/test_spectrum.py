"""Every way of the fast transforms against scipy, and the rule that chooses among them."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
import torch
from torch import Tensor

from parbench.methods.fourierft_fast.basis import FourierBasis
from parbench.methods.loca.basis import CosineBasis
from parbench.methods.spectral import spectrum as module
from parbench.methods.spectral.basis import Basis, shared
from parbench.methods.spectral.precision import product_cost
from parbench.methods.spectral.spectrum import SparseSpectrum

SHAPES = [(12, 20), (20, 13), (16, 16), (1, 7), (33, 1), (2, 3)]
BOTH_PRECISIONS = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])


@pytest.fixture(params=["gathered rows", "fft"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Makes the rule take one way for all shapes."""
    monkeypatch.setattr(module, "STEP", 0 if request.param == "fft" else 10**6)
    return request.param


def entries(shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Places with all four corners and, three times, one inner cell among them."""
    generator = torch.Generator().manual_seed(0)
    last_row, last_col = shape[0] - 1, shape[1] - 1
    rows = [0, 0, last_row, last_row] + [last_row // 2] * 3
    cols = [0, last_col, 0, last_col] + [last_col // 2] * 3
    rows += torch.randint(shape[0], (10,), generator=generator).tolist()
    cols += torch.randint(shape[1], (10,), generator=generator).tolist()
    return torch.tensor(rows), torch.tensor(cols)


def vectors_of_waves(basis: Basis, slots: Tensor) -> np.ndarray:
    """The basis vectors at `slots` as rows, from the definition of their waves."""
    weights = basis.waves(slots, torch.float64).numpy()
    steps = np.outer(slots.numpy() // 2, np.arange(basis.size))
    vectors = 2 * (weights[:, None] * np.exp(2j * np.pi / basis.size * steps)).real
    order = basis.order(torch.device("cpu"))
    return vectors if order is None else vectors[:, order.numpy()]


def relative_error(actual: Tensor, expected: np.ndarray) -> float:
    return float(np.abs(actual.double().numpy() - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 16, 33])
def test_fast_cosine_transform_is_scipys(size: int) -> None:
    basis = shared(CosineBasis, size)
    x = torch.randn(3, size, dtype=torch.float64)
    forward = basis.forward(x)[:, basis.slot(torch.arange(size))]
    np.testing.assert_allclose(forward.numpy(), scipy.fft.dct(x.numpy(), norm="ortho"), rtol=0, atol=1e-12)
    vectors = vectors_of_waves(basis, basis.slot(torch.arange(size)))
    np.testing.assert_allclose(vectors, scipy.fft.idct(np.eye(size), norm="ortho"), rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 12, 16])
def test_fast_fourier_transform_is_numpys(size: int) -> None:
    basis = shared(FourierBasis, size)
    matrix = basis.matrix(torch.float64, torch.device("cpu"))
    spectrum = np.fft.rfft(np.eye(size)).T
    expected = np.stack((spectrum.real, spectrum.imag), 1).reshape(basis.slots, size)
    np.testing.assert_allclose(matrix.numpy(), expected, rtol=0, atol=1e-12)
    x = torch.randn(3, size, dtype=torch.float64)
    np.testing.assert_allclose(basis.forward(x).numpy(), x.numpy() @ expected.T, rtol=0, atol=1e-12)
    np.testing.assert_allclose(vectors_of_waves(basis, torch.arange(basis.slots)), expected, rtol=0, atol=1e-12)


@BOTH_PRECISIONS
@pytest.mark.parametrize("shape", SHAPES)
def test_update_is_scipys_inverse_transform(
    shape: tuple[int, int], dtype: torch.dtype, tolerance: float, way: str
) -> None:
    rows, cols = entries(shape)
    values = torch.randn(len(rows), dtype=dtype)
    dense = np.zeros(shape)
    np.add.at(dense, (rows.numpy(), cols.numpy()), values.double().numpy())
    spectrum = SparseSpectrum(*shape, CosineBasis)
    cells, expected = spectrum.cells(rows, cols), scipy.fft.idctn(dense, type=2, norm="ortho")
    update = spectrum.synthesise(values, cells)
    assert (update.dtype, update.shape) == (dtype, shape)
    assert relative_error(update, expected) < tolerance
    onto = torch.randn(shape[::-1], dtype=dtype).T  # as a Conv1D has it
    before = onto.clone()
    assert relative_error(spectrum.synthesise(values, cells, onto), onto.double().numpy() + expected) < tolerance
    assert torch.equal(onto, before)


def test_update_is_the_same_whatever_goes_through_the_fft_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    spectrum, draw = SparseSpectrum(40, 12, CosineBasis), torch.Generator().manual_seed(0)
    cells = spectrum.cells(*(torch.randint(12, (300,), generator=draw) for _ in range(2)))
    values, onto = torch.randn(300, generator=draw), torch.randn(40, 12, generator=draw)
    whole = spectrum.synthesise(values.double(), cells, onto.double())
    monkeypatch.setattr(module, "_rows_at_once", lambda *args, **kwargs: 7)
    torch.testing.assert_close(spectrum.synthesise(values.double(), cells, onto.double()), whole, rtol=0, atol=1e-14)


@BOTH_PRECISIONS
@pytest.mark.parametrize("shape", SHAPES)
def test_entries_are_scipys_transform(shape: tuple[int, int], dtype: torch.dtype, tolerance: float, way: str) -> None:
    rows, cols = entries(shape)
    grad = torch.randn(shape, dtype=dtype)
    expected = scipy.fft.dctn(grad.double().numpy(), type=2, norm="ortho")[rows, cols]
    spectrum = SparseSpectrum(*shape, CosineBasis)
    actual = spectrum.entries(grad, spectrum.cells(rows, cols))
    assert actual.dtype == dtype
    assert relative_error(actual, expected) < tolerance


@BOTH_PRECISIONS
@pytest.mark.parametrize("forms", [True, False])
@pytest.mark.parametrize("shape", [(12, 20), (20, 13), (1, 7)])
def test_entries_of_a_product_are_those_of_the_formed_product(
    monkeypatch: pytest.MonkeyPatch,
    shape: tuple[int, int],
    forms: bool,
    dtype: torch.dtype,
    tolerance: float,
    way: str,
) -> None:
    rows, cols = entries(shape)
    monkeypatch.setattr(SparseSpectrum, "forms_product", lambda *args: forms)
    grad_y, x = torch.randn(29, shape[0], dtype=dtype), torch.randn(29, shape[1], dtype=dtype)
    product = (grad_y.double().T @ x.double()).numpy()
    spectrum = SparseSpectrum(*shape, CosineBasis)
    actual = spectrum.entries_of_product(grad_y, x, spectrum.cells(rows, cols))
    assert actual.dtype == dtype
    assert relative_error(actual, scipy.fft.dctn(product, type=2, norm="ortho")[rows, cols]) < tolerance


@pytest.mark.parametrize(("forms", "bound"), [(True, 2**-8), (False, 2**-20)])
def test_sixteen_bit_products_lose_only_what_forming_them_rounds(
    monkeypatch: pytest.MonkeyPatch, forms: bool, bound: float
) -> None:
    """A formed `G` is rounded to the 8 bits of bfloat16, by half a unit in the last place; else float32 does it all."""
    torch.manual_seed(0)
    rows, cols = entries((12, 20))
    monkeypatch.setattr(SparseSpectrum, "forms_product", lambda *args: forms)
    grad_y, x = torch.randn(50, 12).bfloat16(), torch.randn(50, 20).bfloat16()
    product = (grad_y.double().T @ x.double()).numpy()
    spectrum = SparseSpectrum(12, 20, CosineBasis)
    actual = spectrum.entries_of_product(grad_y, x, spectrum.cells(rows, cols))
    expected = scipy.fft.dctn(product, type=2, norm="ortho")[rows, cols]
    assert actual.dtype == torch.float32
    # The errors of G's entries add up as a transform of orthonormal rows does: to at most their Frobenius norm.
    assert np.abs(actual.numpy() - expected).max() < bound * np.linalg.norm(product)


def test_tokens_in_chunks_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """600 tokens of 1000 entries need ten chunks."""
    torch.manual_seed(0)
    rows, cols = torch.randint(24, (1000,)), torch.randint(30, (1000,))
    monkeypatch.setattr(SparseSpectrum, "forms_product", lambda *args: False)
    projected: list[int] = []
    forward = CosineBasis.forward
    monkeypatch.setattr(CosineBasis, "forward", lambda s, v: (projected.append(len(v)), forward(s, v))[1])
    grad_y, x = torch.randn(600, 24, dtype=torch.float64), torch.randn(600, 30, dtype=torch.float64)
    spectrum = SparseSpectrum(24, 30, CosineBasis)
    actual = spectrum.entries_of_product(grad_y, x, spectrum.cells(rows, cols))
    assert projected == [65] * 18 + [15] * 2
    expected = scipy.fft.dctn((grad_y.T @ x).numpy(), type=2, norm="ortho")[rows, cols]
    assert relative_error(actual, expected) < 1e-12


def test_cached_cells_serve_values_of_any_precision() -> None:
    spectrum, values = SparseSpectrum(20, 24, CosineBasis), torch.randn(300)
    cells = spectrum.cells(torch.randint(20, (300,)), torch.randint(24, (300,)))
    single, double = spectrum.synthesise(values, cells), spectrum.synthesise(values.double(), cells)
    torch.testing.assert_close(double.float(), single, rtol=0, atol=1e-5)
    assert torch.equal(spectrum.synthesise(values, cells), single)


def test_large_side_needs_no_matrix() -> None:
    spectrum = SparseSpectrum(4099, 3, CosineBasis)
    rows, cols = torch.randint(4099, (300,)), torch.randint(3, (300,))
    spectrum.synthesise(torch.randn(300), spectrum.cells(rows, cols))
    constants = shared(CosineBasis, 4099)._constants.values()
    assert sum(tensor.numel() for tensor in constants) < 20_000


@pytest.mark.parametrize(
    ("tokens", "shape", "entries", "cost", "forms"),
    [
        (4096, (768, 768), 1000, 1, False),  # the paper's coefficients on RoBERTa-base
        (4096, (768, 768), 4000, 1, False),  # its locations
        (4096, (768, 768), 100_000, 1, True),  # many entries: a dense transform serves all
        (4096, (64, 64), 1000, 1, True),  # a small weight
        (4096, (768, 768), 1000, 1 / 8, True),  # on matrix units
        (4096, (768, 768), 1000, 2, False),  # in 16 bits without them
        (4096, (4096, 4096), 1000, 1 / 8, False),  # even on them, for a large weight
        (4096, (768, 768), 10, 1, False),
    ],
)
def test_rule(tokens: int, shape: tuple[int, int], entries: int, cost: float, forms: bool) -> None:
    assert SparseSpectrum(*shape, CosineBasis).forms_product(tokens, entries, cost) is forms


@pytest.mark.parametrize(
    ("dtype", "device", "amx", "cost"),
    [
        (torch.float32, "cpu", True, 1),
        (torch.float64, "cpu", False, 1),
        (torch.bfloat16, "cpu", True, 1 / 8),
        (torch.bfloat16, "cpu", False, 2),
        (torch.bfloat16, "meta", False, 1 / 8),
    ],
)
def test_cost_of_products(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, device: str, amx: bool, cost: float
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert product_cost(dtype, torch.device(device)) == cost
