"""The benchmark runs and its tables are right; times are not tested."""

from __future__ import annotations

import pytest
import torch

from parbench.methods.loca.layer import COEFFICIENTS, LOCATIONS
from tests.perf import loca_benchmark, loca_on_device, loca_variants

pytestmark = pytest.mark.slow

ROBERTA, TINY = loca_variants.SHAPES["roberta-base"], loca_variants.SHAPES["tiny"]
CPU = torch.device("cpu")


def test_times_every_round_of_every_variant() -> None:
    variants = ["floor", "lora", "loca, kept", "fourierft fast, kept"]
    seconds = loca_benchmark.times(variants, layers=1, batch=1, rounds=2)
    assert [len(values) for values in seconds.values()] == [2, 2, 2, 2]
    assert all(value > 0 for values in seconds.values() for value in values)
    table = loca_benchmark.time_table(seconds).splitlines()
    assert [line.split(" | ")[0] for line in table[2:]] == [f"| {variant}" for variant in variants]
    assert "1.000 (1.000-1.000)" in table[3]


@pytest.mark.parametrize("variant", list(loca_variants.VARIANTS))
def test_variants_train_what_they_are_called(variant: str) -> None:
    trained = loca_variants.Trained(variant, ROBERTA.base(1))
    names = {name for name, parameter in trained.model.named_parameters() if parameter.requires_grad}
    expected = {"floor": "", "lora": "lora_", "fourierft": "fourierft_spectrum"}.get(variant.split()[0])
    if expected is None:
        expected = LOCATIONS if "locations" in variant else COEFFICIENTS
    assert len(names) == {"": 0, "lora_": 4}.get(expected, 2)
    assert all(expected in name for name in names)


def test_rebuilt_and_kept_updates_train_equally() -> None:
    ends = []
    for variant in ("loca, kept", "loca, rebuilt", "loca rank product"):
        trained = loca_variants.Trained(variant, ROBERTA.base(1))
        inputs = torch.randn(1, 16, loca_variants.WIDTH, generator=torch.Generator().manual_seed(0))
        torch.manual_seed(1)  # of dropout
        for _ in range(2):
            trained.step(inputs)
        ends.append(torch.cat([p.detach() for p in trained.model.parameters() if p.requires_grad]))
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=0)
    # AdamW divides by the gradient's size, so that a gradient close to zero may step either way.
    assert ((ends[0] - ends[2]).abs() < 1e-5).float().mean() > 0.99


def test_folding_and_ffts_save_arithmetic() -> None:
    for tokens in (1024, 4096):
        work = loca_benchmark.work(tokens)
        assert work["loca, kept"].operations < work["loca, rebuilt"].operations < work["loca dense"].operations / 50
        assert f"| lora | {work['lora'].operations / 1e6:.0f} | " in loca_benchmark.work_table(tokens)


def test_peak_memory_counts_at_least_the_weights() -> None:
    assert loca_benchmark.peak_memory("loca, rebuilt", layers=1, batch=1) > 4 * 50265 * loca_variants.WIDTH


def test_on_a_device_all_variants_share_the_frozen_weights() -> None:
    base = TINY.base(1)
    known = {id(parameter) for parameter in base.parameters()}
    names = list(base.state_dict())
    for variant in loca_on_device.VARIANTS:
        trained = loca_on_device.beside(variant, base)
        frozen = {id(p) for p in trained.model.parameters() if not p.requires_grad}
        assert known <= frozen
        trained.step(torch.randn(2, 8, 32))
    # Not one of them has changed what the next is made of.
    assert list(base.state_dict()) == names


def test_weights_of_16_bits_are_made_as_such_and_trained_under_autocast() -> None:
    with loca_on_device.new_tensors(CPU, torch.bfloat16):
        base = TINY.base(1)
    assert torch.get_default_dtype() == torch.float32
    assert {parameter.dtype for parameter in base.parameters()} == {torch.bfloat16}
    trained = loca_on_device.beside("loca, rebuilt", base)
    coefficients = [p for p in trained.model.parameters() if p.requires_grad]
    assert {parameter.dtype for parameter in coefficients} == {torch.float32}
    before = [parameter.detach().clone() for parameter in coefficients]
    trained.step(torch.randn(2, 8, 32, dtype=torch.bfloat16))
    assert not any(map(torch.equal, before, coefficients))


def test_llama_7b_has_the_size_that_it_is_called_by() -> None:
    with torch.device("meta"):
        base = loca_variants.SHAPES["llama-7b"].base(32, words=32000)
        adapted = loca_variants.lora(base)
    # Of the 6.74 billion the head has 0.13.
    assert sum(p.numel() for p in base.parameters() if not p.requires_grad) == 6_738_415_616 - 32000 * 4096
    assert sum(p.numel() for p in adapted.parameters() if p.requires_grad) == 32 * 2 * 2 * 8 * 4096


def test_the_report_of_a_device_is_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    loca_benchmark.main(["--shape", "tiny", "--rounds", "2", "--layers", "1"])
    lines = capsys.readouterr().out.splitlines()
    titles = [line for line in lines if line.startswith("tiny")]
    assert [title.split(", ")[3] for title in titles] == ["float32", "bfloat16"]
    first = [line.split(" | ")[0].removeprefix("| ") for line in lines if line.startswith("| ")]
    steps = ["variant", *loca_on_device.VARIANTS, *loca_on_device.DENSE]
    assert first[: len(steps)] == steps
    assert sum("chosen" in line for line in lines) == len(titles)
    columns = {line.count("|") for line in lines if line.startswith("|")}
    assert columns == {3, 7}


def test_device_tables_have_memory_where_the_device_reports_it() -> None:
    table = loca_on_device.table({"floor": [0.5], "lora": [1.0]}, {"floor": 1 << 20, "lora": 4 << 20})
    assert table.splitlines()[3] == (
        "| lora | 1000.00 (1000.00-1000.00) | 1.000 (1.000-1.000) | 500.00 (500.00-500.00) | 4 | 1.000 |"
    )
    assert loca_on_device.peak_bytes(["lora"], TINY.base(1), torch.zeros(1, 8, 32)) == {}


@pytest.mark.parametrize("forms", [True, False])
def test_both_ways_of_the_rule_can_be_forced(forms: bool) -> None:
    spectrum = loca_on_device._Forced(16, 12, loca_on_device.CosineBasis)
    spectrum.forms = forms
    grad_y, x = torch.randn(40, 16), torch.randn(40, 12)
    cells = spectrum.cells(torch.randint(0, 16, (30,)), torch.randint(0, 12, (30,)))
    expected = spectrum.entries(grad_y.T @ x, cells)
    torch.testing.assert_close(spectrum.entries_of_product(grad_y, x, cells), expected, rtol=1e-4, atol=1e-4)
    assert spectrum.forms_product(1, 1, 1.0) is forms
