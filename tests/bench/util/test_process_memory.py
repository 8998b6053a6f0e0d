import numpy as np
import pytest

from parbench.bench.run.memory import peak_memory
from parbench.bench.util import process_memory
from parbench.bench.util.process_memory import peak_bytes, reset_peak

MIB = 2**20


def spike(size):
    """Take memory and give it back at once, between any two samples."""
    np.ones(size, dtype=np.uint8)


@pytest.fixture
def _marked():
    if not reset_peak():
        pytest.skip("the kernel does not let a process reset its peak")


@pytest.mark.usefixtures("_marked")
def test_a_short_spike_is_seen_and_forgotten():
    reset_peak()
    before = peak_bytes()
    spike(300 * MIB)
    assert 290 * MIB <= peak_bytes() - before <= 320 * MIB
    reset_peak()
    assert peak_bytes() - before < 50 * MIB


@pytest.mark.usefixtures("_marked")
def test_the_peak_of_a_training_has_its_spikes(monkeypatch):
    import torch

    monkeypatch.setattr("parbench.bench.run.memory.SAMPLE_SECONDS", 60)
    reset_peak()
    before = peak_bytes()
    with peak_memory(torch.device("cpu")) as peak:
        spike(300 * MIB)
    assert peak.process_bytes - before >= 290 * MIB


def test_without_the_kernels_mark_there_is_none(monkeypatch, tmp_path):
    monkeypatch.setattr(process_memory, "_CLEAR", tmp_path / "no" / "clear_refs")
    monkeypatch.setattr(process_memory, "_STATUS", tmp_path / "no" / "status")
    assert not reset_peak()
    assert peak_bytes() is None
