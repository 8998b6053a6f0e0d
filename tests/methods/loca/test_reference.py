"""The plain computation against scipy, its gradients against finite differences and a loop over coefficients."""

from __future__ import annotations

import copy
import gc
import pickle

import numpy as np
import pytest
import scipy.fft
import torch
from torch import Tensor

from parbench.methods.loca.basis import CosineBasis
from parbench.methods.loca.update import amplitudes, locate
from parbench.methods.spectral.basis import shared
from tests.support.loca_reference import DeltaLinear, RankProduct

SHAPES = [(12, 20), (20, 12), (16, 16), (1, 7), (33, 1)]


def spectrum(shape: tuple[int, int], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Coefficients and cells with all four corners and, three times, one inner cell among them."""
    generator = torch.Generator().manual_seed(0)
    last_row, last_col = shape[0] - 1, shape[1] - 1
    rows = [0, 0, last_row, last_row] + [last_row // 2] * 3
    cols = [0, last_col, 0, last_col] + [last_col // 2] * 3
    rows += torch.randint(shape[0], (10,), generator=generator).tolist()
    cols += torch.randint(shape[1], (10,), generator=generator).tolist()
    coefficients = torch.randn(len(rows), generator=generator, dtype=dtype)
    return coefficients, torch.tensor(rows), torch.tensor(cols)


def dense(coefficients: Tensor, rows: Tensor, cols: Tensor, shape: tuple[int, int]) -> np.ndarray:
    matrix = np.zeros(shape)
    np.add.at(matrix, (rows.numpy(), cols.numpy()), coefficients.double().numpy())
    return matrix


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("shape", SHAPES)
def test_update_is_scipys_inverse_transform(shape: tuple[int, int], dtype: torch.dtype, tolerance: float) -> None:
    coefficients, rows, cols = spectrum(shape, dtype)
    expected = scipy.fft.idctn(dense(coefficients, rows, cols, shape), type=2, norm="ortho")
    delta = RankProduct(*shape).synthesise(coefficients, rows, cols)
    assert delta.dtype == dtype
    np.testing.assert_allclose(delta.numpy(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("shape", SHAPES)
def test_analysis_is_scipys_transform(shape: tuple[int, int], dtype: torch.dtype, tolerance: float) -> None:
    _, rows, cols = spectrum(shape, dtype)
    grad = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=dtype)
    expected = scipy.fft.dctn(grad.double().numpy(), type=2, norm="ortho")[rows, cols]
    np.testing.assert_allclose(RankProduct(*shape).analyse(grad, rows, cols).numpy(), expected, rtol=0, atol=tolerance)


def test_matrix_of_a_large_size_is_orthonormal_to_double_precision() -> None:
    matrix = shared(CosineBasis, 1000).matrix(torch.float64, torch.device("cpu"))
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(1000, dtype=torch.float64), rtol=0, atol=1e-13)
    expected = scipy.fft.dct(np.eye(1000), axis=0, norm="ortho")
    np.testing.assert_allclose(matrix.numpy(), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("needs_x", [True, False])
def test_gradients_of_coefficients_and_input_match_finite_differences(needs_x: bool) -> None:
    torch.manual_seed(0)
    transform = RankProduct(6, 9)
    x = torch.randn(2, 3, 9, dtype=torch.float64, requires_grad=needs_x)
    coefficients = torch.randn(8, dtype=torch.float64, requires_grad=True)
    locations = torch.rand(2, 8, dtype=torch.float64)
    locations[:, 3] = locations[:, 5]
    assert torch.autograd.gradcheck(
        lambda x, a: DeltaLinear.apply(x, a, locations, transform, 2.5, 0.999), (x, coefficients)
    )


def reference_location_gradient(
    grad_delta: np.ndarray, coefficients: np.ndarray, locations: np.ndarray, upper: float
) -> np.ndarray:
    """The paper's section 4.3, one coefficient at a time, with the whole of `K`."""
    spectrum = scipy.fft.dctn(grad_delta, type=2, norm="ortho")
    p, q = grad_delta.shape
    result = np.zeros_like(locations)
    for k, a in enumerate(coefficients):
        row = round(min(max(locations[0, k], 0.0), upper) * (p - 1))
        col = round(min(max(locations[1, k], 0.0), upper) * (q - 1))
        by_row = a * (spectrum[min(row + 1, p - 1), col] - spectrum[max(row - 1, 0), col]) / 2
        by_col = a * (spectrum[row, min(col + 1, q - 1)] - spectrum[row, max(col - 1, 0)]) / 2
        for axis, (slope, size) in enumerate(((by_row, p), (by_col, q))):
            if 0.0 <= locations[axis, k] <= upper:
                result[axis, k] = min(max(slope, -1.0), 1.0) * (size - 1)
    return result


@pytest.mark.parametrize("upper", [0.999, 1.0])
@pytest.mark.parametrize("alpha", [0.05, 3.0])
def test_location_gradient_matches_the_reference(alpha: float, upper: float) -> None:
    generator = torch.Generator().manual_seed(3)
    p, q, tokens = 11, 17, 23
    inner = torch.rand(2, 12, generator=generator, dtype=torch.float64)
    # Borders, a duplicate of an inner location, and values outside on either side of one axis or both.
    special = torch.tensor([[0.0, 0.999, 1.0, 0.0, -0.2, 0.5, 1.3], [0.0, 0.999, 1.0, 1.0, 0.4, -0.01, 1.3]])
    locations = torch.cat((inner, inner[:, :1], special.double()), dim=1).requires_grad_()
    coefficients = torch.randn(20, generator=generator, dtype=torch.float64)
    x = torch.randn(tokens, q, generator=generator, dtype=torch.float64)
    weight = torch.randn(tokens, p, generator=generator, dtype=torch.float64)

    y = DeltaLinear.apply(x, coefficients, locations, RankProduct(p, q), alpha, upper)
    (actual,) = torch.autograd.grad((y * weight).sum(), locations)

    expected = reference_location_gradient(
        alpha * (weight.T @ x).numpy(), coefficients.numpy(), locations.detach().numpy(), upper
    )
    stretch = np.array([[p - 1], [q - 1]])
    assert (np.abs(expected / stretch) == 1.0).any() == (alpha == 3.0), "the case must (not) reach the clamp"
    assert (expected != 0.0).sum() >= 30
    np.testing.assert_allclose(actual.numpy(), expected, rtol=0, atol=1e-11)


def test_authors_clamp_leaves_the_last_cells_of_a_large_weight_out_of_reach() -> None:
    locations = torch.tensor([[1.0, 0.0, 5.0], [1.0, -1.0, 0.5]])
    rows, cols = locate(locations, (768, 400), 0.999)
    assert rows.tolist() == [766, 0, 766]
    assert cols.tolist() == [399, 0, 200]
    rows, cols = locate(locations, (768, 400), 1.0)
    assert rows.tolist() == [767, 0, 767]


def test_a_location_that_is_not_a_number_shows_in_the_output() -> None:
    locations = torch.tensor([[0.5, float("nan")], [0.5, 0.5]])
    assert locate(locations, (4, 4), 1.0)[0].tolist() == [2, 0]
    assert amplitudes(torch.ones(2), locations).isnan().tolist() == [False, True]


def test_unneeded_gradients_are_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("synthesise", "analyse", "slopes"):
        original = getattr(RankProduct, name)
        monkeypatch.setattr(RankProduct, name, lambda *args, n=name, f=original: (calls.append(n), f(*args))[1])
    x, a, u = torch.randn(3, 5), torch.randn(4), torch.rand(2, 4)

    def backward(*needed: Tensor) -> list[str]:
        calls.clear()
        for tensor in (x, a, u):
            tensor.requires_grad_(any(tensor is n for n in needed))
        DeltaLinear.apply(x, a, u, RankProduct(6, 5), 1.0, 1.0).sum().backward()
        return calls[1:]

    assert backward(x) == ["synthesise"]
    assert backward(a) == ["analyse"]
    assert backward(u) == ["slopes"]


def test_the_update_is_not_kept_for_the_backward_pass() -> None:
    kept: list[tuple[int, ...]] = []
    x, a, u = torch.randn(3, 5, requires_grad=True), torch.randn(4, requires_grad=True), torch.rand(2, 4)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(tuple(t.shape)), t)[1], lambda t: t):
        DeltaLinear.apply(x, a, u, RankProduct(6, 5), 1.0, 1.0)
    assert kept == [(3, 5), (4,), (2, 4)]


def test_autocast_does_not_lower_the_precision_of_the_transform() -> None:
    torch.manual_seed(0)
    transform = RankProduct(24, 32)
    x, u = torch.eye(32).bfloat16(), torch.rand(2, 50)
    a = torch.randn(50, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = DeltaLinear.apply(x, a, u, transform, 1.0, 1.0)
        assert y.dtype == torch.bfloat16
        (grad,) = torch.autograd.grad(y.float().sum(), a)
    rows, cols = locate(u, transform.shape, 1.0)
    # With the identity as input only the rounding to bfloat16 is left: half a unit in the last of 8 bits.
    torch.testing.assert_close(y.float().T, transform.synthesise(a, rows, cols), rtol=2**-8, atol=0)
    torch.testing.assert_close(grad, transform.analyse(torch.ones(24, 32), rows, cols), rtol=0, atol=1e-5)


def test_basis_is_shared_copied_by_reference_and_freed() -> None:
    first, second = RankProduct(61, 67), RankProduct(67, 61)
    matrix = shared(CosineBasis, 61).matrix(torch.float32, torch.device("cpu"))
    assert second._col_basis.matrix(torch.float32, torch.device("cpu")) is matrix
    assert copy.deepcopy(first)._row_basis is first._row_basis
    assert pickle.loads(pickle.dumps(first))._row_basis is first._row_basis  # noqa: S301
    assert len(pickle.dumps(first)) < 1000
    del first, second, matrix
    gc.collect()
    assert not shared(CosineBasis, 61)._constants


def test_basis_first_used_in_inference_mode_serves_training() -> None:
    transform = RankProduct(71, 73)
    x, a, u = torch.randn(2, 73), torch.randn(4), torch.rand(2, 4)
    with torch.inference_mode():
        expected = DeltaLinear.apply(x, a, u, transform, 1.0, 1.0)
    a.requires_grad_()
    y = DeltaLinear.apply(x, a, u, transform, 1.0, 1.0)
    assert torch.equal(y, expected)
    y.sum().backward()
    assert a.grad is not None
    assert not transform._row_basis.matrix(torch.float32, torch.device("cpu")).is_inference()


def test_meta_tensors_get_a_shape() -> None:
    x, a, u = (torch.zeros(*s, device="meta") for s in ((3, 5), (4,), (2, 4)))
    y = DeltaLinear.apply(x, a.requires_grad_(), u, RankProduct(6, 5), 1.0, 1.0)
    y.sum().backward()
    assert (y.shape, a.grad.shape) == ((3, 6), (4,))


@pytest.mark.parametrize("basis_exists", [True, False])
def test_compiles_as_one_graph(basis_exists: bool) -> None:
    torch.manual_seed(0)
    transform = RankProduct(53, 47)
    x, a, u = torch.randn(5, 47, requires_grad=True), torch.randn(9, requires_grad=True), torch.rand(2, 9)
    u.requires_grad_()

    def run(x: Tensor, a: Tensor, u: Tensor) -> Tensor:
        return DeltaLinear.apply(x, a, u, transform, 1.0, 0.999)

    compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
    outputs = {}
    for function in (run, compiled) if basis_exists else (compiled, run):
        y = function(x, a, u)
        outputs[function] = [y, *torch.autograd.grad(y.square().sum(), (x, a, u))]
    for expected, actual in zip(outputs[run], outputs[compiled], strict=True):
        torch.testing.assert_close(actual, expected)
    assert all(type(m) is Tensor for m in transform._row_basis._constants.values())
