"""Whether two ways of computing the same agree."""

import torch
from torch import Tensor


def assert_same_passes(actual: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    """Equal in every tensor to a share of its largest number."""
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        assert actual[name].dtype == tensor.dtype
        limit = tolerance * tensor.abs().max().item()
        torch.testing.assert_close(actual[name], tensor, rtol=0, atol=limit, msg=lambda text, n=name: f"{n}: {text}")
