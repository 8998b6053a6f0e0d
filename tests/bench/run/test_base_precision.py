"""Runs on base models in fewer bits."""

from __future__ import annotations

import pytest

from parbench.bench.record.run_record import RunRecord
from parbench.bench.store.store import Store
from parbench.reports.frame import read_frame


def records(store: Store) -> dict[tuple[str, str], RunRecord]:
    return {(entry.spec.method, entry.spec.base_precision): entry for entry in store.scan()}


def test_runs_on_each_precision_are_rows_of_their_own(bench_run, tmp_path):
    pytest.importorskip("bitsandbytes")
    result = bench_run("--base-precision", "float32,bfloat16,int8,nf4", methods="lora")
    assert result.code == 0, result.err
    found = records(Store(tmp_path / "store"))
    assert len(found) == 4
    assert {record.status for record in found.values()} == {"ok"}
    sizes = [found["lora", precision].ledger.base_bytes for precision in ("float32", "bfloat16", "int8", "nf4")]
    assert sizes[0] > sizes[1] > sizes[2] > sizes[3]
    counts = {(record.ledger.reported, record.ledger.trainable, record.ledger.frozen) for record in found.values()}
    assert len(counts) == 1
    assert any("QLoRA" in note for note in found["lora", "nf4"].provenance.notes)
    assert "bitsandbytes" in found["lora", "nf4"].provenance.versions
    rows = read_frame(Store(tmp_path / "store")).runs
    assert set(rows["row"]) == {f"lora (base={precision})" for precision in ("float32", "bfloat16", "int8", "nf4")}


def test_what_is_no_precision_is_one_sentence(bench_run):
    result = bench_run("--base-precision", "nf4,int3")
    assert result.code == 2
    assert '"int3" is none of float32, bfloat16, int8, nf4' in result.err
    result = bench_run("--base-precision", "int8,nf4", "--trials", "2", "--dry-run")
    assert result.code == 2
    assert "one precision of the base weights is tuned at a time" in result.err


@pytest.mark.slow
def test_a_run_of_trained_biases_resumes_on_quantised_weights(bench_run, tmp_path):
    """The trainer saves the whole model of a method that wraps nothing."""
    pytest.importorskip("bitsandbytes")
    options = ("--set", "train.checkpoint_steps=2", "--base-precision", "int8,nf4")
    result = bench_run(*options, methods="bitfit")
    assert result.code == 0, result.err
    assert {record.status for record in records(Store(tmp_path / "store")).values()} == {"ok"}
