"""Runs in 16 bits that would be faster in 32 are warned of, by what this machine takes."""

from __future__ import annotations

import pytest
import torch

from parbench.bench.util import product_speed


def test_the_ratio_is_that_of_the_least_times(monkeypatch: pytest.MonkeyPatch) -> None:
    # Seconds of float32 and bfloat16 in turn; the first of each warms up.
    taken = iter([9.0, 9.0, 2.0, 5.0, 2.5, 3.0, 4.0, 4.0, 2.0, 3.0, 3.0, 6.0])
    clock = [0.0]
    product = torch.nn.functional.linear

    def linear(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        clock[0] += next(taken)
        return product(x, weight)

    monkeypatch.setattr(product_speed.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(torch.nn.functional, "linear", linear)
    assert product_speed.bfloat16_slowdown() == 1.5
    assert next(taken, None) is None


@pytest.mark.parametrize(
    ("precision", "slowdown", "said"),
    [
        ("bfloat16", 1.94, "products in bfloat16 take 1.9 times as long"),
        ("bfloat16", 0.4, None),
        ("float32", 3.0, None),
    ],
)
def test_runs_that_would_be_faster_in_float32_are_warned_of(
    bench, tiny_data, tiny_model, tmp_path, monkeypatch, precision, slowdown, said
):
    monkeypatch.setattr("parbench.bench.util.product_speed.bfloat16_slowdown", lambda: slowdown)
    arguments = (
        "--suite",
        "mini",
        "--tasks",
        "glue/sst2",
        "--methods",
        "lora",
        "--model",
        tiny_model,
        "--device",
        "cpu",
    )
    result = bench(
        *(
            "run",
            *arguments,
            "--data-root",
            tiny_data,
            "--set",
            f"train.precision={precision}",
            "--set",
        ),
        *("train.max_length=32", "--dry-run", "--out", tmp_path / "store"),
    )
    assert result.code == 0, result.err
    assert ("WARNING" in result.out) is (said is not None)
    assert (said or "") in " ".join(result.out.split())
