"""The real thing, small: a pretrained encoder learns real tasks with both methods of the skeleton."""

import pytest

from parbench.bench.models.catalogue import MINILM_L6
from parbench.bench.store.store import Store
from tests.support.data import fetched

MAJORITY = 0.509  # of SST-2's validation split


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_both_methods_are_clearly_above_the_majority_on_sst2(bench, real_data, tmp_path):
    fetched(MINILM_L6.weights.package)
    result = bench(
        "run", "--no-isolate", "--suite", "mini", "--methods", "loca,lora", "--tasks", "glue/sst2", "--seeds", "1",
        "--data-root", real_data, "--limit", "2000", "--out", tmp_path / "store",
    )  # fmt: skip
    assert result.code == 0, result.err
    scores = {record.spec.method: record.metrics["accuracy"] for record in Store(tmp_path / "store").scan()}
    assert set(scores) == {"loca", "lora"}
    # Three standard errors of an accuracy near 0.7 on 872 examples are 0.05.
    assert min(scores.values()) > MAJORITY + 0.1


@pytest.mark.slow
@pytest.mark.gpu
@pytest.mark.timeout(1800)
def test_a_run_on_a_gpu_measures_the_memory_of_the_device(bench_run, tmp_path):
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    assert bench_run("--device", "cuda").code == 0
    for record in Store(tmp_path / "store").scan():
        assert record.cost.peak_device_bytes > 2**20
        assert record.provenance.hardware["device"].startswith("cuda")
