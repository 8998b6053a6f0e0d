"""Numbers that papers print for quantised base models stand beside runs on quantised weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from parbench.reports.frame import read_frame
from parbench.reports.published import Reproduced, not_joined, reproduction, reproduction_table
from parbench.reports.published.ledger import HEAD
from tests.support.planter import COST

QUANTISED_SETS = {"accuracy_boolq": 0.8, "accuracy_piqa": 0.81}


def beside(planter: Any) -> tuple[Reproduced, ...]:
    return reproduction(read_frame(planter.store).runs)


@pytest.mark.usefixtures("_unchecked")
@pytest.mark.parametrize(("method", "values"), [("loca", (83.06, 81.13, 68.13)), ("lora", (83.12, 82.42, 67.74))])
def test_on_quantised_weights_the_printed_rows_of_every_width_stand_beside(
    planter: Any, method: str, values: tuple[float, ...]
) -> None:
    """Of the same base model those of as many bits are subtracted; weights in 3 and 2 bits are unavailable."""
    spec = {"task": "commonsense", "base_model": "llama-3.1-8b", "method": method, "metric": "accuracy"}
    planter.run(0.8, others=QUANTISED_SETS, base_precision="nf4", **spec)
    rows = [row for row in beside(planter) if row.metric == "accuracy_boolq" and row.printed]
    by_bits = {row.printed.base_bits: row for row in rows if row.printed}
    assert tuple(by_bits[bits].printed.value for bits in (4, 3, 2)) == values  # type: ignore[union-attr]
    assert by_bits[4].difference == pytest.approx(80 - values[0])
    assert by_bits[3].difference is by_bits[2].difference is None
    assert "base weights in nf4; the paper's have 4 bits, too" in by_bits[4].differences
    assert "the base model is quantised by GPTQ with MagR, in groups of 64" in by_bits[4].differences
    assert "base weights in nf4, not in 3 bits" in by_bits[3].differences
    texts = [dict(zip(HEAD, cells, strict=True)) for cells in reproduction_table([by_bits[4], by_bits[2]]).rows]
    assert [cells["paper"] for cells in texts] == [f"{values[0]} (llama-3.1-8b in 4 bits)",
                                                   f"{values[2]} (llama-3.1-8b in 2 bits)"]  # fmt: skip
    assert texts[1]["difference"] == "unavailable: there are no base weights in 2 bits here"


@pytest.mark.usefixtures("_unchecked")
@pytest.mark.parametrize(("precision", "bits"), [("nf4", {4, 3, 2}), ("int8", {4, 3, 2}), ("float32", set())])
def test_another_quantised_base_model_has_one_row_for_each_width(planter: Any, precision: str, bits: set[int]) -> None:
    spec = {"task": "commonsense", "base_model": "smollm2-135m", "method": "lora", "metric": "accuracy"}
    planter.run(0.8, others=QUANTISED_SETS, base_precision=precision, **spec)
    rows = [row for row in beside(planter) if row.metric == "accuracy_piqa"]
    assert {row.printed.base_bits for row in rows if row.printed} - {None} == bits
    assert all(row.difference is None for row in rows)
    assert len(rows) == max(1, len(bits))


@pytest.mark.usefixtures("_unchecked")
def test_times_and_memory_of_a_training_stand_beside_those_printed(planter: Any) -> None:
    cost = replace(COST, train_seconds=7200.0, peak_device_bytes=20 * 10**9)
    spec = {"task": "instruct", "base_model": "llama-3.1-8b", "method": "loca", "metric": "log_likelihood"}
    planter.run(-1.0, base_precision="nf4", training={"batch_size": 16}, cost=cost, **spec)
    rows = {(row.metric, row.printed.value): row for row in beside(planter) if row.printed}
    assert len(rows) == 10
    hours, memory = rows["train_hours", 9.8], rows["peak_device_gb", 70.6]
    assert (hours.mean, hours.difference) == (2.0, pytest.approx(-7.8))
    assert (memory.mean, memory.difference) == (20.0, pytest.approx(-50.6))
    assert not [text for text in hours.differences if "batch_size" in text]
    assert "batch_size 16, not 1" in rows["train_hours", 92.3].differences
    assert [text for text in not_joined(list(rows.values())) if "its base model is not named" in text]
    assert not_joined([]) == ()
    shared = replace(cost, shared_device=True)
    planter.run(-1.0, base_precision="nf4", training={"batch_size": 16}, cost=shared, seed=1, **spec)
    assert not [row for row in beside(planter) if row.metric == "train_hours"]
