"""The benchmark runs, and its tables say what they should; no time is judged here."""

from __future__ import annotations

import pytest
import torch

from methods.loca import benchmark
from methods.loca.layer import COEFFICIENTS, LOCATIONS


def test_times_every_round_of_every_variant() -> None:
    seconds = benchmark.times(["floor", "lora", "loca", "fourierft fast"], layers=1, batch=1, rounds=2)
    assert [len(values) for values in seconds.values()] == [2, 2, 2, 2]
    assert all(value > 0 for values in seconds.values() for value in values)
    table = benchmark.time_table(seconds).splitlines()
    assert [line.split(" | ")[0] for line in table[2:]] == ["| floor", "| lora", "| loca", "| fourierft fast"]
    assert "1.000 (1.000-1.000)" in table[3]


@pytest.mark.parametrize("variant", list(benchmark.VARIANTS))
def test_variants_train_what_they_are_called(variant: str) -> None:
    trained = benchmark.Trained(variant, layers=1)
    names = {name for name, parameter in trained.model.named_parameters() if parameter.requires_grad}
    expected = {"floor": "", "lora": "lora_", "fourierft": "fourierft_spectrum"}.get(variant.split()[0])
    if expected is None:
        expected = LOCATIONS if "locations" in variant else COEFFICIENTS
    assert len(names) == {"": 0, "lora_": 4}.get(expected, 2)
    assert all(expected in name for name in names)


def test_rebuilt_and_kept_updates_train_alike() -> None:
    ends = []
    for variant in ("loca", "loca, rebuilt", "loca rank product"):
        trained = benchmark.Trained(variant, layers=1)
        inputs = torch.randn(1, 16, benchmark.WIDTH, generator=torch.Generator().manual_seed(0))
        torch.manual_seed(1)  # of dropout
        for _ in range(2):
            trained.step(inputs)
        ends.append(torch.cat([p.detach() for p in trained.model.parameters() if p.requires_grad]))
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=0)
    # AdamW divides by the gradient's size, so that a gradient close to zero may step either way.
    assert ((ends[0] - ends[2]).abs() < 1e-5).float().mean() > 0.99


def test_folding_and_ffts_save_arithmetic() -> None:
    for tokens in (1024, 4096):
        work = benchmark.work(tokens)
        assert work["loca"].operations < work["loca, rebuilt"].operations < work["loca dense"].operations / 50
        assert f"| lora | {work['lora'].operations / 1e6:.0f} | " in benchmark.work_table(tokens)


def test_peak_memory_counts_at_least_the_weights() -> None:
    assert benchmark.peak_memory("loca", layers=1, batch=1) > 4 * 50265 * benchmark.WIDTH
