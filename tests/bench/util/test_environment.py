import platform

import pytest
import torch

from parbench.bench.util.environment import emulates_bfloat16


@pytest.mark.parametrize(
    ("machine", "avx512", "amx", "device", "emulated"),
    [
        ("x86_64", False, False, "cpu", True),
        ("x86_64", True, False, "cpu", False),
        ("x86_64", False, True, "cpu", False),
        ("aarch64", False, False, "cpu", False),
        ("x86_64", False, False, "cuda:0", False),
    ],
)
def test_who_emulates_bfloat16(monkeypatch, machine, avx512, amx, device, emulated):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert emulates_bfloat16(device) is emulated


@pytest.mark.parametrize(("precision", "warned"), [("bfloat16", True), ("float32", False)])
def test_a_run_in_emulated_bfloat16_is_warned_of(
    bench, tiny_data, tiny_model, tmp_path, monkeypatch, precision, warned
):
    monkeypatch.setattr("parbench.bench.util.environment.emulates_bfloat16", lambda device: device == "cpu")
    arguments = [
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
    ]
    result = bench(
        *("run", *arguments, "--data-root", tiny_data, "--set", f"train.precision={precision}", "--set"),
        *("train.max_length=32", "--device", "cpu", "--dry-run", "--out", tmp_path / "store"),
    )
    assert result.code == 0, result.err
    assert ("bfloat16" in result.out) is warned
